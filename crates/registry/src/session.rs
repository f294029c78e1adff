//! One request's view of an upload session.
//!
//! Before it writes, a request takes the session: among the requests of this server, and where
//! other servers share the database, in its row there. Whatever the request saves after that counts
//! only if the row is still its own.
//!
//! Whoever had the session before and did not give it back may still be writing, however late: a
//! server that was only paused. So its successor does not touch the upload that this one has in
//! the store; it copies what was acknowledged to an upload of its own. For the same reason the store
//! hears a new name whenever a session begins.

mod resume;

use std::time::Duration;

use blobs::UploadId;
use metadata::uploads::{self, Taken, Turn};
use metadata::{Durability, Lock, Tx, repositories};
use oci::{Digest, Hasher, RepositoryName};
use tokio::time::{Instant, sleep};

use crate::receive::{Chunks, Received, Receiver};
use crate::session_ids::SessionIds;
use crate::{ChunkRange, Error, Registry, StoredBlob, clock, sessions};

/// How soon a session that another server has is asked for again; each time twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How often giving a session back is tried, once a second, if the database does not answer.
const MAX_RETURNS: u32 = 60;

/// One request's view of a session.
pub(crate) struct Session {
    pub(crate) registry: Registry,
    repository: RepositoryName,
    pub(crate) id: String,
    /// What hashes its bytes if there are none yet.
    hasher: Option<Hasher>,
    /// Nothing of it was saved when the request came.
    pub(crate) is_new: bool,
    /// Where it stood when it was last saved.
    saved: uploads::Upload,
    /// What the store calls the upload that this request writes to.
    store_id: String,
    /// The upload that somebody else may still be writing to, until what counts of it is copied.
    abandoned: Option<UploadId>,
    /// What is in the row of a session that was taken there.
    pub(crate) turn: Turn,
    is_taken: bool,
    /// Whether the database has answered that it is.
    is_certain: bool,
    /// The turn among the requests of this server, and what keeps the server's lease.
    held: Option<(sessions::Turn, Option<std::sync::Arc<()>>)>,
}

/// What a request asks for that wants to write.
struct Wish {
    repository: RepositoryName,
    id: String,
    turn: Turn,
    /// What the store shall call its upload if the session is to begin now.
    new_store_id: Option<String>,
}

/// What came of it.
enum Answer {
    Taken(Taken),
    /// It has begun now.
    Begun,
    /// There is none.
    None,
}

impl Session {
    pub(crate) async fn open(
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
            saved: uploads::Upload::default(),
            store_id: String::new(),
            abandoned: None,
            turn: Turn::default(),
            is_taken: false,
            is_certain: false,
            held: None,
        })
    }

    /// Where it stands.
    pub(crate) async fn find(&mut self) -> Result<uploads::Upload, Error> {
        let input = (&self.repository, &*self.id);
        let saved = self
            .registry
            .metadata()
            .read(&input, |tx, (repository, id)| Box::pin(uploads::find(tx, repository, id)))
            .await?;
        self.is_new = saved.is_none();
        saved.map_or_else(|| self.empty(), Ok)
    }

    /// Waits for the right to write to it.
    pub(crate) async fn take(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + sessions::MAX_WAIT;
        let turn = self.registry.shared.sessions.take_turn(&self.id).await?;
        if !self.registry.metadata().is_shared() {
            self.held = Some((turn, None));
            self.saved = self.find().await?;
            self.store_id.clone_from(&self.saved.store_id);
            return Ok(());
        }
        self.held = Some((turn, Some(self.registry.stay_alive().await?)));
        self.registry.ensure_adopted(&self.repository).await?;
        let mut pause = FIRST_PAUSE;
        loop {
            if self.try_take().await? {
                return Ok(());
            }
            if Instant::now() + pause > deadline {
                return Err(Error::UploadBusy);
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(2 * pause);
        }
    }

    /// Takes it in the database. False if another server has it.
    async fn try_take(&mut self) -> Result<bool, Error> {
        self.turn = self.registry.shared.replica.next_turn();
        let fresh = UploadId::now_v7().to_string();
        let wish = Wish {
            repository: self.repository.clone(),
            id: self.id.clone(),
            turn: self.turn.clone(),
            new_store_id: self.empty().is_ok().then(|| fresh.clone()),
        };
        // Also if the answer gets lost.
        self.is_taken = true;
        self.is_certain = false;
        let answer = self
            .registry
            .metadata()
            .write_locked(Durability::Process, self.lock(), wish, |tx, wish| {
                Box::pin(take_or_begin(tx, wish))
            })
            .await?;
        self.is_taken = !matches!(answer, Answer::None | Answer::Taken(Taken::Busy));
        self.is_certain = true;
        let (saved, abandoned) = match answer {
            Answer::None => return Err(self.unknown()),
            Answer::Taken(Taken::Busy) => return Ok(false),
            Answer::Taken(Taken::Free(saved)) => (saved, false),
            Answer::Taken(Taken::Abandoned(saved)) => (saved, true),
            Answer::Begun => (uploads::Upload::default(), false),
        };
        self.store_id.clone_from(&saved.store_id);
        if abandoned {
            self.abandoned = Some(self.upload_id()?);
        }
        if abandoned || saved.received == 0 {
            self.store_id = fresh;
        }
        // What was only reserved has no hash yet.
        self.saved = if saved.hash_state.is_empty() { self.empty()? } else { saved };
        Ok(true)
    }

    /// A session that has no bytes.
    fn empty(&self) -> Result<uploads::Upload, Error> {
        let id = self.id.parse().map_err(|_| self.unknown())?;
        match &self.hasher {
            Some(hasher) if !self.registry.shared.session_ids.has_ended(id) => {
                Ok(uploads::Upload { hash_state: hasher.save(), ..uploads::Upload::default() })
            }
            _ => Err(self.unknown()),
        }
    }

    /// Lets others write to it.
    pub(crate) async fn give_back(mut self) {
        if !std::mem::take(&mut self.is_taken) {
            return;
        }
        let Err(error) = self.try_give_back().await else { return };
        tracing::warn!(upload = %self.id, %error, "cannot give an upload back yet");
        self.held = None;
        tokio::spawn(async move {
            for _ in 0..MAX_RETURNS {
                sleep(Duration::from_secs(1)).await;
                if self.try_give_back().await.is_ok() {
                    return;
                }
            }
        });
    }

    async fn try_give_back(&self) -> Result<(), Error> {
        // What was taken without an answer may have been abandoned by somebody, too.
        let unsure = self.abandoned.is_some() || !self.is_certain;
        let input = (self.id.clone(), self.turn.clone(), unsure);
        self.registry
            .metadata()
            .write_locked(Durability::Process, self.lock(), input, |tx, (id, turn, unsure)| {
                Box::pin(uploads::give_back(tx, id, turn, *unsure))
            })
            .await?;
        Ok(())
    }

    /// Takes in a request's bytes. Also returns how many earlier requests had brought.
    pub(crate) async fn receive(
        &mut self,
        range: Option<ChunkRange>,
        mut chunks: Chunks,
    ) -> Result<(Receiver, u64), Error> {
        let mut receiver = self.resume().await?;
        let before = receiver.received();
        if let Some(ChunkRange { start, .. }) = range
            && start != before
        {
            return Err(Error::ChunkOutOfOrder { received: before, start });
        }
        loop {
            let (next, received) = match receiver.receive(&mut chunks).await {
                Ok(taken) => taken,
                Err(Error::Storage(error)) if error.is_loss() => {
                    return Err(self.lost(error).await);
                }
                Err(error) => {
                    self.give_space_back().await;
                    return Err(error);
                }
            };
            receiver = next;
            match received {
                // With a range, its end decides whether the bytes count at all.
                Received::Checkpoint if range.is_none() => {
                    receiver = self.save(receiver, true).await?;
                }
                Received::Checkpoint => {}
                Received::All => break,
                Received::Interrupted => {
                    self.save(receiver, false).await?;
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

    /// Makes what was received a blob of the repository. The session ends with it.
    pub(crate) async fn store(
        &mut self,
        receiver: Receiver,
        digest: &Digest,
    ) -> Result<StoredBlob, Error> {
        let (upload, row) = (self.upload_id()?, Some(self.row()));
        let stored =
            self.registry.store_blob(&self.repository, upload, row, receiver, digest).await?;
        self.ended();
        Ok(stored)
    }

    /// Saves what was received, so that it can be gone on with; if not to `keep` it, by others.
    pub(crate) async fn save(&mut self, receiver: Receiver, keep: bool) -> Result<Receiver, Error> {
        let receiver = match receiver.flush().await {
            Err(Error::Storage(error)) if error.is_loss() => return Err(self.lost(error).await),
            flushed => flushed?,
        };
        let state = uploads::Upload { store_id: self.store_id.clone(), ..receiver.progress() };
        let saved = if self.is_new {
            self.registry.ensure_adopted(&self.repository).await?;
            let input = (self.repository.clone(), self.id.clone(), state.clone());
            self.registry
                .metadata()
                .write_locked(
                    Durability::Process,
                    self.lock(),
                    input,
                    |tx, (repository, id, state)| {
                        Box::pin(async move {
                            let now = clock::now();
                            let repository = repositories::ensure(tx, repository, now).await?;
                            uploads::begin(tx, repository, id, state, now).await?;
                            Ok::<_, metadata::Error>(true)
                        })
                    },
                )
                .await?
        } else {
            let input = (self.row(), state.clone(), keep);
            // A database of its own goes down with the server, and with it the client's connection.
            // One that is shared may crash while the client is told that its bytes have arrived.
            let is_shared = self.registry.metadata().is_shared();
            let durability =
                if is_shared && !keep { Durability::Power } else { Durability::Process };
            self.registry
                .metadata()
                .write_locked(durability, self.lock(), input, |tx, ((id, turn), state, keep)| {
                    Box::pin(uploads::save(tx, id, state, turn, *keep, clock::now()))
                })
                .await?
        };
        if !saved {
            return Err(if self.is_taken { Error::UploadBusy } else { self.unknown() });
        }
        self.saved = state;
        self.is_taken &= keep;
        Ok(receiver)
    }

    /// Removes it, and its bytes.
    pub(crate) async fn end(&mut self) -> Result<(), Error> {
        if !self.is_taken {
            return self.registry.forget_upload(&self.id).await;
        }
        let upload = self.upload_id()?;
        // What another server may have taken over stays.
        let deleted = self
            .registry
            .metadata()
            .write_locked(Durability::Process, self.lock(), self.row(), |tx, (id, turn)| {
                Box::pin(uploads::delete(tx, id, turn))
            })
            .await?;
        if !deleted {
            return Err(Error::UploadBusy);
        }
        let abandoned = self.abandoned.take();
        self.ended();
        for upload in abandoned.into_iter().chain([upload]) {
            self.registry.blobs().abort(upload, Some(&self.saved.store_state)).await?;
        }
        Ok(())
    }

    /// It is gone.
    fn ended(&mut self) {
        self.is_taken = false;
        if let Ok(id) = self.id.parse() {
            self.registry.shared.session_ids.end(id);
        }
    }

    /// Which row is this request's.
    fn row(&self) -> (String, Turn) {
        (self.id.clone(), self.turn.clone())
    }

    /// What is written of it is a statement that counts only if the row is still as it was read.
    fn lock(&self) -> Lock {
        Lock::shared(&self.repository)
    }

    /// What the store calls its upload.
    fn upload_id(&self) -> Result<UploadId, Error> {
        let id = if self.store_id.is_empty() { &self.id } else { &self.store_id };
        id.parse().map_err(|_| self.unknown())
    }

    fn unknown(&self) -> Error {
        unknown(&self.repository, &self.id)
    }
}

fn unknown(repository: &RepositoryName, id: &str) -> Error {
    Error::UploadUnknown { repository: repository.clone(), id: id.to_owned() }
}

async fn take_or_begin(tx: &mut Tx, wish: &Wish) -> Result<Answer, metadata::Error> {
    let Wish { repository, id, turn, new_store_id } = wish;
    if let Some(taken) = uploads::take(tx, id, Some(repository), turn).await? {
        return Ok(Answer::Taken(taken));
    }
    let Some(store_id) = new_store_id else { return Ok(Answer::None) };
    let now = clock::now();
    let repository = repositories::ensure(tx, repository, now).await?;
    uploads::reserve(tx, repository, id, store_id, turn, now).await?;
    Ok(Answer::Begun)
}
