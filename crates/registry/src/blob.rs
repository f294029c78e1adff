//! A blob becomes part of a repository.

use blobs::{Stored, UploadId};
use metadata::{Durability, repositories, uploads};
use oci::{Algorithm, Digest, Hashed, Hasher, RepositoryName};

use crate::receive::{Chunks, Received, Receiver};
use crate::upload::{read_sha512, run_to_end};
use crate::{Error, Registry, clock};

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
                registry.blobs().abort(upload).await?;
            }
            pushed
        })
        .await
    }

    /// Checks the digest of what was received, makes the bytes content of the store and then, in
    /// one transaction, a blob of the repository. `session` ends with it.
    pub(crate) async fn store_blob(
        &self,
        repository: &RepositoryName,
        upload_id: UploadId,
        session: Option<&str>,
        receiver: Receiver,
        digest: &Digest,
    ) -> Result<StoredBlob, Error> {
        let (mut upload, hasher) = receiver.into_parts();
        let mut hashed = hasher.finish();
        if digest.algorithm() == Algorithm::Sha512 && hashed.sha512.is_none() {
            upload = upload.flush().await?;
            hashed.sha512 = read_sha512(self, upload_id, hashed.size).await?;
        }
        let found = match digest.algorithm() {
            Algorithm::Sha256 => Some(hashed.sha256),
            Algorithm::Sha512 => hashed.sha512,
        };
        match found {
            Some(found) if found == *digest => {}
            Some(found) => return Err(Error::DigestMismatch { expected: *digest, found }),
            None => return Err(Error::Interrupted),
        }
        let stored = upload.commit(hashed.sha256).await?;
        let session = session.map(str::to_owned);
        self.record_blob(repository, session, hashed, stored).await?;
        Ok(StoredBlob { digest: *digest, size: hashed.size })
    }

    /// Writes down, in one transaction, that the repository serves what the store holds, and that
    /// `session` has ended.
    pub(crate) async fn record_blob(
        &self,
        repository: &RepositoryName,
        session: Option<String>,
        hashed: Hashed,
        stored: Stored,
    ) -> Result<(), Error> {
        self.ensure_adopted(repository).await?;
        let Stored { location, unsynced } = stored;
        let blob = metadata::blobs::NewBlob {
            sha256: hashed.sha256,
            sha512: hashed.sha512,
            size: hashed.size,
            location,
            unsynced: unsynced.clone(),
        };
        let recorded = self
            .metadata()
            .write(
                Durability::Power,
                (repository.clone(), blob, session),
                |tx, (repository, blob, session)| {
                    Box::pin(async move {
                        let now = clock::now();
                        let repository = repositories::ensure(tx, repository, now).await?;
                        let blob = metadata::blobs::record(tx, blob, now).await?;
                        metadata::blobs::link(tx, repository, blob, now).await?;
                        if let Some(session) = session {
                            uploads::delete(tx, session).await?;
                        }
                        Ok::<_, metadata::Error>(())
                    })
                },
            )
            .await;
        // Whether it was written down or not: it waits for a sync.
        self.shared.journal.count(unsynced.as_ref());
        recorded?;
        Ok(())
    }
}
