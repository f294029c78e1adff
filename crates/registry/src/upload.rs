//! Upload sessions: a blob that arrives in one request or in many.
//!
//! What a session has received, and the state of its hash, is saved when a request ends, however
//! it ends. It survives the death of the process; after a loss of power the bytes are read once
//! to be sure of them. A session without bytes is nothing but its name.

use std::sync::Arc;

use blobs::{ErrorKind, UploadId};
use metadata::Durability;
use metadata::uploads::{self, Turn};
use oci::{Algorithm, Digest, Hasher, RepositoryName};
use tracing::Instrument;

use crate::receive::Chunks;
use crate::session::Session;
use crate::session_ids::SessionIds;
use crate::{Error, Registry, StoredBlob};

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
            let appended = append(&mut session, range, chunks).await;
            session.give_back().await;
            appended
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
            let stored = finish(&mut session, &digest, range, chunks).await;
            session.give_back().await;
            stored
        })
        .await
    }

    /// Ends a session and frees its space.
    pub async fn cancel_upload(&self, repository: &RepositoryName, id: &str) -> Result<(), Error> {
        self.check_read_write()?;
        let mut session = Session::open(self, repository, id).await?;
        run_to_end(self, async move {
            let cancelled = match session.take().await {
                Ok(()) => session.end().await,
                Err(error) => Err(error),
            };
            session.give_back().await;
            cancelled
        })
        .await
    }

    /// Removes a session that no other server can write to, and its bytes.
    pub(crate) async fn forget_upload(&self, id: &str) -> Result<(), Error> {
        // The bytes first: on a full disk the database needs their space to forget the session.
        let saved = self.metadata().read(id, |tx, id| Box::pin(uploads::look(tx, id))).await?;
        let called = saved.as_ref().map(|saved| &*saved.store_id).filter(|name| !name.is_empty());
        if let Ok(name) = called.unwrap_or(id).parse() {
            let state = saved.as_ref().map(|saved| &*saved.store_state);
            self.blobs().abort(name, state).await?;
        }
        if let Ok(id) = id.parse() {
            self.shared.session_ids.end(id);
        }
        self.metadata()
            .write(Durability::Process, (id.to_owned(), Turn::default()), |tx, (id, turn)| {
                Box::pin(uploads::delete(tx, id, turn))
            })
            .await?;
        Ok(())
    }
}

async fn append(
    session: &mut Session,
    range: Option<ChunkRange>,
    chunks: Chunks,
) -> Result<UploadProgress, Error> {
    session.take().await?;
    let (receiver, _) = session.receive(range, chunks).await?;
    let receiver = session.save(receiver, false).await?;
    Ok(UploadProgress { received: receiver.received(), id: session.id.clone() })
}

async fn finish(
    session: &mut Session,
    digest: &Digest,
    range: Option<ChunkRange>,
    chunks: Chunks,
) -> Result<StoredBlob, Error> {
    session.take().await?;
    if let Some(stored) = session.recover(digest).await? {
        return Ok(stored);
    }
    let (mut receiver, acknowledged) = session.receive(range, chunks).await?;
    if acknowledged > 0 && receiver.received() > acknowledged {
        // If the process dies before the end of this, `recover` needs the whole.
        receiver = session.save(receiver, true).await?;
    }
    let stored = session.store(receiver, digest).await;
    // After a failed sync the bytes may be lost although a second one would succeed (the kernel
    // tells once), so they are never trusted again.
    match stored {
        // Nothing was stored, so nothing can be lost: the client may come again.
        Err(Error::Storage(ref error)) if acknowledged == 0 && error.kind() == ErrorKind::Full => {
            session.give_space_back().await;
        }
        Err(Error::DigestMismatch { .. } | Error::Storage(_)) => session.end().await?,
        Ok(_) | Err(_) => {}
    }
    stored
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
