//! A blob becomes part of a repository.

use blobs::{ErrorKind, Stored, UploadId};
use metadata::blobs::Blob;
use metadata::uploads::{self, Turn};
use metadata::{Durability, Lock, repositories};
use oci::{Algorithm, Digest, Hashed, Hasher, RepositoryName};

use crate::receive::{Chunks, Received, Receiver};
use crate::upload::{read_sha512, run_to_end};
use crate::{Error, Registry, clock};

/// What the store has of some content.
enum Kept {
    Nothing,
    Damaged,
    /// All of it, there.
    Whole(Option<String>),
}

/// A blob that a repository serves from now on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoredBlob {
    /// The digest that the client gave it.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl Registry {
    /// Takes in a whole blob in one request, without a session.
    pub async fn push_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        mut chunks: Chunks,
    ) -> Result<StoredBlob, Error> {
        self.check_read_write()?;
        let (registry, repository, digest) = (self.clone(), repository.clone(), *digest);
        run_to_end(self, async move {
            let upload = UploadId::now_v7();
            let pushed = async {
                let also = Some(digest.algorithm()).filter(|also| *also != Algorithm::Sha256);
                let begun = registry.blobs().begin(upload).await?;
                let mut receiver = Receiver::new(begun, Hasher::new(also));
                loop {
                    let (next, received) = receiver.receive(&mut chunks).await?;
                    receiver = next;
                    match received {
                        Received::Checkpoint => {}
                        Received::All => break,
                        Received::Interrupted => return Err(Error::Interrupted),
                    }
                }
                registry.store_blob(&repository, upload, None, receiver, &digest).await
            };
            let pushed = pushed.await;
            if pushed.is_err() {
                registry.blobs().abort(upload, None).await?;
            }
            pushed
        })
        .await
    }

    /// Checks the digest of what was received, makes the bytes content of the store and then, in
    /// one transaction, a blob of the repository. `session` ends with it: its name, and the turn
    /// that may write to it.
    pub(crate) async fn store_blob(
        &self,
        repository: &RepositoryName,
        upload_id: UploadId,
        session: Option<(String, Turn)>,
        receiver: Receiver,
        digest: &Digest,
    ) -> Result<StoredBlob, Error> {
        let (mut upload, hasher) = receiver.into_parts();
        let mut hashed = hasher.finish();
        let mut unread = false;
        if digest.algorithm() == Algorithm::Sha512 && hashed.sha512.is_none() {
            upload = upload.flush().await?;
            match read_sha512(self, upload_id, hashed.size).await {
                Err(Error::Storage(error)) if error.kind() == ErrorKind::Unsupported => {
                    unread = true;
                }
                read => hashed.sha512 = read?,
            }
        }
        let found = match digest.algorithm() {
            Algorithm::Sha256 => Some(hashed.sha256),
            Algorithm::Sha512 => hashed.sha512,
        };
        match found {
            Some(found) if found == *digest => {}
            Some(found) => return Err(Error::DigestMismatch { expected: *digest, found }),
            None if unread => {}
            None => return Err(Error::Interrupted),
        }
        let stored_blob = StoredBlob { digest: *digest, size: hashed.size };
        let mut replaces = false;
        if self.blobs().is_replicated() && !unread {
            match self.find_kept(&hashed).await? {
                Kept::Whole(location) => {
                    let stored = Stored { location, ..Stored::default() };
                    self.record_blob(repository, session, hashed, stored, false).await?;
                    if let Err(error) = upload.discard().await {
                        tracing::info!(%error, "what was received a second time is left");
                    }
                    return Ok(stored_blob);
                }
                Kept::Damaged => replaces = true,
                Kept::Nothing => {}
            }
        }
        let stored = upload.commit(hashed.sha256).await?;
        if unread {
            let content = Blob {
                digest: hashed.sha256,
                size: hashed.size,
                location: stored.location.clone(),
            };
            let found = self.hash_whole(&content, Some(Algorithm::Sha512)).await?.sha512;
            if found != Some(*digest) {
                self.discard_stored(stored.location.as_deref()).await;
                let found = found.unwrap_or(hashed.sha256);
                return Err(Error::DigestMismatch { expected: *digest, found });
            }
            hashed.sha512 = found;
        }
        self.record_blob(repository, session, hashed, stored, replaces).await?;
        Ok(stored_blob)
    }

    /// Whether the store has this content already.
    async fn find_kept(&self, hashed: &Hashed) -> Result<Kept, Error> {
        let known = self
            .metadata()
            .read(&hashed.sha256, |tx, digest| Box::pin(metadata::blobs::find_stored(tx, digest)))
            .await?;
        let Some(Blob { digest, location, .. }) = known else { return Ok(Kept::Nothing) };
        let size = self.blobs().size(&digest, location.as_deref()).await?;
        Ok(if size == Some(hashed.size) { Kept::Whole(location) } else { Kept::Damaged })
    }

    /// Removes what was stored and nothing refers to.
    async fn discard_stored(&self, location: Option<&str>) {
        // What is at the layout's key may be somebody else's, too.
        if let Some(location) = location {
            self.discard(location).await;
        }
    }

    /// Removes what nothing refers to. If that fails it is in nobody's way.
    pub(crate) async fn discard(&self, location: &str) {
        if let Err(error) = self.blobs().discard(location).await {
            tracing::info!(%error, "content that nothing refers to is left");
        }
    }

    /// Writes down, in one transaction, that the repository serves what the store holds, and that
    /// `session` has ended: nothing of it if that is somebody else's now. With `replaces`, what was
    /// recorded of this content before is wrong.
    pub(crate) async fn record_blob(
        &self,
        repository: &RepositoryName,
        session: Option<(String, Turn)>,
        hashed: Hashed,
        stored: Stored,
        replaces: bool,
    ) -> Result<(), Error> {
        self.ensure_adopted(repository).await?;
        let Stored { location, unsynced, leftovers } = stored;
        let blob = metadata::blobs::NewBlob {
            sha256: hashed.sha256,
            sha512: hashed.sha512,
            size: hashed.size,
            location: location.clone(),
            replaces,
            unsynced: unsynced.clone(),
        };
        let recorded = self
            .metadata()
            .write_locked(
                Durability::Power,
                Lock::shared(repository),
                (repository.clone(), blob, session),
                |tx, (repository, blob, session)| {
                    Box::pin(async move {
                        let now = clock::now();
                        let repository = repositories::ensure(tx, repository, now).await?;
                        let blob = metadata::blobs::record(tx, blob, now).await?;
                        metadata::blobs::link(tx, repository, blob.id, now).await?;
                        if let Some((id, turn)) = session
                            && !uploads::delete(tx, id, turn).await?
                            && *turn != Turn::default()
                        {
                            return Err(Error::UploadBusy);
                        }
                        Ok(blob.location)
                    })
                },
            )
            .await;
        // Whether it was written down or not: it waits for a sync.
        self.shared.journal.count(unsynced.as_ref());
        let recorded = recorded?;
        for leftover in &leftovers {
            self.discard(leftover).await;
        }
        if recorded != location {
            // Somebody else has stored the same meanwhile.
            self.discard_stored(location.as_deref()).await;
        }
        Ok(())
    }
}
