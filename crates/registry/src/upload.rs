//! Upload sessions: a blob that arrives in one request or in many.
//!
//! What a session has received, and the state of its hash, is saved when a request ends, however
//! it ends. It survives the death of the process; after a loss of power the bytes are read once
//! to be sure of them. A session without bytes is nothing but its name.

use std::sync::Arc;

use blobs::{ErrorKind, Resumed, Stored, UploadId};
use metadata::blobs::Blob;
use metadata::{Durability, repositories, uploads};
use oci::{Algorithm, Digest, Hasher, RepositoryName};
use tracing::Instrument;

use crate::receive::{Chunks, Received, Receiver};
use crate::session_ids::SessionIds;
use crate::{Error, Registry, StoredBlob, clock};

/// Where a session stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UploadProgress {
    /// The session's name.
    pub id: String,
    /// Bytes received.
    pub received: u64,
}

/// What a request says about the bytes it brings.
#[derive(Clone, Copy, Debug)]
pub struct ChunkRange {
    /// Where they begin in the blob.
    pub start: u64,
    /// How many there are.
    pub length: u64,
}

impl Registry {
    /// Opens a session. `algorithm` is the one that the client announced for its digest. Nothing is
    /// written down before there are bytes.
    pub async fn begin_upload(
        &self,
        repository: &RepositoryName,
        algorithm: Option<Algorithm>,
    ) -> Result<UploadProgress, Error> {
        self.check_read_write()?;
        self.ensure_adopted(repository).await?;
        let id = SessionIds::issue(self.known_id().await?, repository, algorithm);
        Ok(UploadProgress { id: id.to_string(), received: 0 })
    }

    /// Where the session stands. A request that is under way is counted when it ends.
    pub async fn upload_progress(
        &self,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<UploadProgress, Error> {
        let mut session = Session::open(self, repository, id).await?;
        let state = session.find().await?;
        let id = if session.is_new { id.to_owned() } else { session.id.clone() };
        Ok(UploadProgress { id, received: state.received })
    }

    /// Appends what `chunks` brings. `range` is what the client said about it, if anything.
    ///
    /// What arrived is kept when the client goes away ([`Error::Interrupted`]), and forgotten
    /// when it is not what `range` announced.
    pub async fn append_upload(
        &self,
        repository: &RepositoryName,
        id: &str,
        range: Option<ChunkRange>,
        chunks: Chunks,
    ) -> Result<UploadProgress, Error> {
        self.check_read_write()?;
        let mut session = Session::open(self, repository, id).await?;
        run_to_end(self, async move {
            let _turn = session.registry.shared.sessions.take_turn(&session.id).await?;
            let state = session.find().await?;
            let (receiver, _) = session.receive(&state, range, chunks).await?;
            let receiver = session.save(receiver).await?;
            Ok(UploadProgress { received: receiver.received(), id: session.id })
        })
        .await
    }

    /// Appends what `chunks` brings and makes the whole a blob of the repository. A wrong digest
    /// ends the session.
    pub async fn finish_upload(
        &self,
        repository: &RepositoryName,
        id: &str,
        digest: &Digest,
        range: Option<ChunkRange>,
        chunks: Chunks,
    ) -> Result<StoredBlob, Error> {
        self.check_read_write()?;
        let mut session = Session::open(self, repository, id).await?;
        let digest = *digest;
        run_to_end(self, async move {
            let _turn = session.registry.shared.sessions.take_turn(&session.id).await?;
            let state = session.find().await?;
            if let Some(stored) = session.recover(&state, &digest).await? {
                session.registry.shared.session_ids.end(session.upload_id()?);
                return Ok(stored);
            }
            let (mut receiver, acknowledged) = session.receive(&state, range, chunks).await?;
            if acknowledged > 0 && receiver.received() > acknowledged {
                // If the process dies before the end of this, `recover` needs the whole.
                receiver = session.save(receiver).await?;
            }
            let upload = session.upload_id()?;
            let registry = &session.registry;
            let stored = registry
                .store_blob(&session.repository, upload, Some(&session.id), receiver, &digest)
                .await;
            // After a failed sync the bytes may be lost although a second one would succeed (the
            // kernel tells once), so they are never trusted again.
            match stored {
                Ok(_) => registry.shared.session_ids.end(upload),
                // Nothing was stored, so nothing can be lost: the client may come again.
                Err(Error::Storage(ref error))
                    if acknowledged == 0 && error.kind() == ErrorKind::Full =>
                {
                    session.give_space_back().await;
                }
                Err(Error::DigestMismatch { .. } | Error::Storage(_)) => session.end().await?,
                Err(_) => {}
            }
            stored
        })
        .await
    }

    /// Ends a session and frees its space.
    pub async fn cancel_upload(&self, repository: &RepositoryName, id: &str) -> Result<(), Error> {
        self.check_read_write()?;
        let mut session = Session::open(self, repository, id).await?;
        run_to_end(self, async move {
            let _turn = session.registry.shared.sessions.take_turn(&session.id).await?;
            session.find().await?;
            session.end().await
        })
        .await
    }
}

/// One request's view of a session.
struct Session {
    registry: Registry,
    repository: RepositoryName,
    id: String,
    /// What hashes its bytes if there are none yet.
    hasher: Option<Hasher>,
    /// Nothing of it was saved when the request came.
    is_new: bool,
}

impl Session {
    async fn open(
        registry: &Registry,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<Self, Error> {
        let name = id.parse::<UploadId>().map_err(|_| unknown(repository, id))?;
        let known_id = registry.known_id().await?;
        let named = SessionIds::read(known_id, repository, name);
        Ok(Self {
            registry: registry.clone(),
            repository: repository.clone(),
            id: named.id.to_string(),
            hasher: named.hasher,
            is_new: false,
        })
    }

    /// Where it stands.
    async fn find(&mut self) -> Result<uploads::Upload, Error> {
        let input = (&self.repository, &*self.id);
        let saved = self
            .registry
            .metadata()
            .read(&input, |tx, (repository, id)| Box::pin(uploads::find(tx, repository, id)))
            .await?;
        self.is_new = saved.is_none();
        if let Some(saved) = saved {
            return Ok(saved);
        }
        match &self.hasher {
            Some(hasher) if !self.registry.shared.session_ids.has_ended(self.upload_id()?) => {
                let hash_state = hasher.save();
                Ok(uploads::Upload { received: 0, hash_state, store_state: String::new() })
            }
            _ => Err(unknown(&self.repository, &self.id)),
        }
    }

    /// Takes in a request's bytes. Also returns how many earlier requests had brought.
    async fn receive(
        &mut self,
        state: &uploads::Upload,
        range: Option<ChunkRange>,
        mut chunks: Chunks,
    ) -> Result<(Receiver, u64), Error> {
        let mut receiver = self.resume(state).await?;
        let before = receiver.received();
        if let Some(ChunkRange { start, .. }) = range
            && start != before
        {
            return Err(Error::ChunkOutOfOrder { received: before, start });
        }
        loop {
            let (next, received) = match receiver.receive(&mut chunks).await {
                Ok(taken) => taken,
                Err(error) => {
                    self.give_space_back().await;
                    return Err(error);
                }
            };
            receiver = next;
            match received {
                // With a range, its end decides whether the bytes count at all.
                Received::Checkpoint if range.is_none() => receiver = self.save(receiver).await?,
                Received::Checkpoint => {}
                Received::All => break,
                Received::Interrupted => {
                    self.save(receiver).await?;
                    return Err(Error::Interrupted);
                }
            }
        }
        let found = receiver.received() - before;
        match range {
            Some(ChunkRange { length, .. }) if length != found => {
                Err(Error::ChunkSize { expected: length, found })
            }
            _ => Ok((receiver, before)),
        }
    }

    /// Forgets what was stored and is not counted: on a full disk it would be in everybody's way.
    /// If that fails, too, the end of the session does it.
    async fn give_space_back(&mut self) {
        let (Ok(id), Ok(state)) = (self.upload_id(), self.find().await) else { return };
        if state.received == 0 {
            let _ = self.registry.blobs().abort(id, None).await;
        } else {
            // Opened again, it has no more than what was counted.
            let _ = self.resume(&state).await;
        }
    }

    /// Opens the session where it stands.
    async fn resume(&self, state: &uploads::Upload) -> Result<Receiver, Error> {
        let id = self.upload_id()?;
        let restored = Hasher::restore(&state.hash_state).ok();
        if state.received == 0 {
            let upload = self.registry.blobs().begin(id).await?;
            return Ok(Receiver::new(upload, restored.unwrap_or_else(|| Hasher::new(None))));
        }
        let resumed = self.registry.blobs().resume(id, state.received, &state.store_state).await;
        match (resumed, restored) {
            (Ok(Resumed::Whole(upload)), Some(hasher)) => Ok(Receiver::new(upload, hasher)),
            (Ok(Resumed::Whole(upload) | Resumed::Unsure(upload)), restored) => {
                let sha512 = restored.is_some_and(|hasher| hasher.includes(Algorithm::Sha512));
                let also = sha512.then_some(Algorithm::Sha512);
                let hasher = self.hash_again(id, state.received, also).await?;
                Ok(Receiver::new(upload, hasher))
            }
            (Err(error), _) if error.kind() == ErrorKind::NotFound => {
                tracing::warn!(upload = %self.id, %error, "an upload has lost its bytes");
                self.end().await?;
                Err(unknown(&self.repository, &self.id))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Finishes what a process that was killed had begun to finish: the session's bytes lie at
    /// their place in the store, but the database does not know it. `None` if it is not so.
    async fn recover(
        &self,
        state: &uploads::Upload,
        digest: &Digest,
    ) -> Result<Option<StoredBlob>, Error> {
        let registry = &self.registry;
        if state.received == 0 {
            return Ok(None);
        }
        // Nothing is there to be read, but the file has to be there.
        match registry.blobs().read_upload(self.upload_id()?, state.received).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return Ok(None),
        }
        // The saved hash shows that this client has sent these bytes.
        let Ok(hasher) = Hasher::restore(&state.hash_state) else {
            return Ok(None);
        };
        let hashed = hasher.finish();
        if hashed.digest(digest.algorithm()) != Some(*digest) {
            return Ok(None);
        }
        let content = Blob { digest: hashed.sha256, size: hashed.size, location: None };
        match registry.hash_blob(&content).await {
            Ok(found) if found == hashed.sha256 => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        registry.blobs().settle(&hashed.sha256).await?;
        let session = Some(self.id.clone());
        let stored = Stored { location: None, unsynced: None };
        registry.record_blob(&self.repository, session, hashed, stored, false).await?;
        Ok(Some(StoredBlob { digest: *digest, size: hashed.size }))
    }

    /// Reads what was received before the power went, or by another version of this program.
    async fn hash_again(
        &self,
        id: UploadId,
        received: u64,
        also: Option<Algorithm>,
    ) -> Result<Hasher, Error> {
        let mut hasher = Hasher::new(also);
        while hasher.len() < received {
            let part = self.registry.blobs().read_upload(id, hasher.len()).await?;
            let rest = usize::try_from(received - hasher.len()).unwrap_or(usize::MAX);
            let part = part.get(..rest.min(part.len())).unwrap_or_default();
            if part.is_empty() {
                return Err(unknown(&self.repository, &self.id));
            }
            hasher.update(part);
        }
        Ok(hasher)
    }

    /// Saves what was received, so that it can be gone on with.
    async fn save(&self, receiver: Receiver) -> Result<Receiver, Error> {
        let receiver = receiver.flush().await?;
        let input = (self.id.clone(), receiver.progress());
        let saved = if self.is_new {
            self.registry.ensure_adopted(&self.repository).await?;
            let input = (self.repository.clone(), input);
            self.registry
                .metadata()
                .write(Durability::Process, input, |tx, (repository, (id, state))| {
                    Box::pin(async move {
                        let now = clock::now();
                        let repository = repositories::ensure(tx, repository, now).await?;
                        uploads::begin(tx, repository, id, state, now).await?;
                        Ok::<_, metadata::Error>(true)
                    })
                })
                .await?
        } else {
            self.registry
                .metadata()
                .write(Durability::Process, input, |tx, (id, state)| {
                    Box::pin(async move { uploads::save(tx, id, state, clock::now()).await })
                })
                .await?
        };
        if saved { Ok(receiver) } else { Err(unknown(&self.repository, &self.id)) }
    }

    async fn end(&self) -> Result<(), Error> {
        self.registry.forget_upload(&self.id).await
    }

    fn upload_id(&self) -> Result<UploadId, Error> {
        self.id.parse().map_err(|_| unknown(&self.repository, &self.id))
    }
}

impl Registry {
    /// Removes a session and its bytes.
    pub(crate) async fn forget_upload(&self, id: &str) -> Result<(), Error> {
        // The bytes first: on a full disk the database needs their space to forget the session.
        if let Ok(name) = id.parse() {
            let state =
                self.metadata().read(id, |tx, id| Box::pin(uploads::store_state(tx, id))).await?;
            self.blobs().abort(name, state.as_deref()).await?;
            self.shared.session_ids.end(name);
        }
        self.metadata()
            .write(Durability::Process, id.to_owned(), |tx, id| Box::pin(uploads::delete(tx, id)))
            .await?;
        Ok(())
    }
}

fn unknown(repository: &RepositoryName, id: &str) -> Error {
    Error::UploadUnknown { repository: repository.clone(), id: id.to_owned() }
}

/// Runs work that has to save what it did to its end, even if whoever asked for it is gone.
pub(crate) async fn run_to_end<T: Send + 'static>(
    registry: &Registry,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let Ok(permit) = Arc::clone(&registry.shared.work).acquire_owned().await else {
        return Err(Error::Interrupted);
    };
    let work = async move {
        let result = work.await;
        drop(permit);
        result
    };
    let task = tokio::spawn(work.in_current_span());
    task.await.unwrap_or(Err(Error::Interrupted))
}

/// The sha512 digest of an upload, which nobody asked for while it arrived: one read.
pub(crate) async fn read_sha512(
    registry: &Registry,
    upload: UploadId,
    size: u64,
) -> Result<Option<Digest>, Error> {
    let mut hasher = Hasher::new(Some(Algorithm::Sha512));
    while hasher.len() < size {
        let part = registry.blobs().read_upload(upload, hasher.len()).await?;
        if part.is_empty() {
            break;
        }
        let hashing = tokio::task::spawn_blocking(move || {
            hasher.update(&part);
            hasher
        });
        hasher = hashing.await.map_err(|_| Error::Interrupted)?;
    }
    Ok(hasher.finish().sha512)
}
