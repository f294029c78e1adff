//! What the store has already becomes part of another repository.

use metadata::{Durability, Lock, repositories};
use oci::{Descriptor, Digest, RepositoryName};

use crate::transfer::{Stop, check_size};
use crate::{Error, Registry, clock};

/// What became of blobs that a repository should serve.
pub(super) struct Served {
    /// How many it serves now, because the store had them.
    pub(super) served: u64,
    /// The others.
    pub(super) left: Vec<Descriptor>,
}

impl Registry {
    /// Lets `repository` serve those of `wanted` that the store has whole, whoever put them there:
    /// only for somebody who may see everything.
    pub(super) async fn serve_stored(
        &self,
        repository: &RepositoryName,
        wanted: Vec<Descriptor>,
    ) -> Result<Served, Stop> {
        let (mut stored, mut left) = (Vec::new(), Vec::new());
        for blob in wanted {
            match self.stored_size(&blob.digest).await? {
                Some(size) => {
                    check_size(&blob, size)?;
                    stored.push(blob.digest);
                }
                None => left.push(blob),
            }
        }
        let served = stored.len() as u64;
        if served > 0 {
            self.ensure_adopted(repository).await?;
            self.metadata()
                .write_locked(
                    Durability::Power,
                    Lock::shared(repository),
                    (repository.clone(), stored),
                    |tx, (repository, stored)| {
                        Box::pin(async move {
                            let now = clock::now();
                            let repository = repositories::ensure(tx, repository, now).await?;
                            for digest in stored {
                                if let Some(blob) = metadata::blobs::find_id(tx, digest).await? {
                                    metadata::blobs::link(tx, repository, blob, now).await?;
                                }
                            }
                            Ok::<_, metadata::Error>(())
                        })
                    },
                )
                .await?;
        }
        Ok(Served { served, left })
    }

    /// Bytes of content that is in the store as the database describes it.
    pub(super) async fn stored_size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let blob = self
            .metadata()
            .read(digest, |tx, digest| Box::pin(metadata::blobs::find_stored(tx, digest)))
            .await?;
        let Some(blob) = blob else { return Ok(None) };
        let found = self.blobs().size(&blob.digest, blob.location.as_deref()).await?;
        Ok(found.filter(|found| *found == blob.size))
    }
}
