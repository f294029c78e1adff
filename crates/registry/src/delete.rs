//! Delete: tags, manifests, and blobs of a repository.
//!
//! What is deleted is unreachable at once. The bytes stay: other repositories may serve them.

use metadata::{Durability, Lock, manifests, repositories, tags};
use oci::{Digest, Reference, RepositoryName};

use crate::manifest::{Precondition, check_preconditions};
use crate::{Error, Registry};

impl Registry {
    /// Removes a tag; or, by digest, a manifest with all the tags that point to it; if what
    /// `preconditions` ask for is true of it.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        preconditions: Vec<Precondition>,
    ) -> Result<(), Error> {
        self.check_deletes()?;
        self.ensure_adopted(repository).await?;
        let lock = Lock::exclusive(repository);
        let input = (repository.clone(), reference.clone(), preconditions);
        self.metadata()
            .write_locked(
                Durability::Power,
                lock,
                input,
                |tx, (repository, reference, preconditions)| {
                    Box::pin(async move {
                        check_preconditions(tx, repository, reference, preconditions).await?;
                        let deleted = match (repositories::find(tx, repository).await?, reference) {
                            (None, _) => false,
                            (Some(id), Reference::Tag(tag)) => tags::delete(tx, id, tag).await?,
                            (Some(id), Reference::Digest(digest)) => {
                                manifests::delete(tx, id, digest).await?
                            }
                        };
                        if deleted {
                            return Ok(());
                        }
                        Err(Error::ManifestUnknown {
                            repository: repository.clone(),
                            reference: reference.clone(),
                        })
                    })
                },
            )
            .await
    }

    /// Takes a blob from the repository.
    pub async fn delete_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), Error> {
        self.check_deletes()?;
        self.ensure_adopted(repository).await?;
        let lock = Lock::exclusive(repository);
        let input = (repository.clone(), *digest);
        self.metadata()
            .write_locked(Durability::Power, lock, input, |tx, (repository, digest)| {
                Box::pin(async move {
                    let deleted = match repositories::find(tx, repository).await? {
                        Some(id) => metadata::blobs::unlink(tx, id, digest).await?,
                        None => false,
                    };
                    if deleted {
                        return Ok(());
                    }
                    Err(Error::BlobUnknown { repository: repository.clone(), digest: *digest })
                })
            })
            .await
    }

    fn check_deletes(&self) -> Result<(), Error> {
        self.check_read_write()?;
        if self.shared.config.deletes { Ok(()) } else { Err(Error::DeletesDisabled) }
    }
}
