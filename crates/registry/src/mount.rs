//! Mount: a repository serves a blob that another one has, without an upload.

use metadata::{Durability, Lock, repositories};
use oci::{Digest, RepositoryName};

use crate::{Error, Registry, clock};

/// Repositories looked at in one go for a mount that names none.
const HOLDERS_PAGE: u64 = 100;

/// Repositories looked at in all: past this, an upload is cheaper than the search.
const MAX_HOLDERS: u64 = 1000;

impl Registry {
    /// Lets `repository` serve the blob called `digest` that `from` serves; without `from`, that
    /// any repository serves of which `may_pull` is true. False if there is none.
    pub async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        may_pull: impl Fn(&RepositoryName) -> bool,
    ) -> Result<bool, Error> {
        self.check_read_write()?;
        let source = match from {
            Some(from) => from.clone(),
            None => match self.find_holder(digest, may_pull).await? {
                Some(holder) => holder,
                None => return Ok(false),
            },
        };
        // A file that is gone must be uploaded again, not mounted.
        match self.stat_blob(&source, digest).await {
            Ok(_) => {}
            Err(Error::BlobUnknown { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.ensure_adopted(repository).await?;
        // Whether the source loses the blob before that or after makes no difference.
        let lock = Lock::shared(repository);
        let input = (repository.clone(), source, *digest);
        let mounted = self
            .metadata()
            .write_locked(Durability::Power, lock, input, |tx, (repository, source, digest)| {
                Box::pin(async move {
                    let served = metadata::blobs::find(tx, source, digest).await?;
                    match metadata::blobs::find_id(tx, digest).await? {
                        Some(blob) if served.is_some() => {
                            let now = clock::now();
                            let repository = repositories::ensure(tx, repository, now).await?;
                            metadata::blobs::link(tx, repository, blob, now).await?;
                            Ok::<_, metadata::Error>(true)
                        }
                        _ => Ok(false),
                    }
                })
            })
            .await?;
        Ok(mounted)
    }

    async fn find_holder(
        &self,
        digest: &Digest,
        may_pull: impl Fn(&RepositoryName) -> bool,
    ) -> Result<Option<RepositoryName>, Error> {
        let mut last: Option<RepositoryName> = None;
        for _ in 0..MAX_HOLDERS / HOLDERS_PAGE {
            let page = self
                .metadata()
                .read(&(digest, last), |tx, (digest, last)| {
                    let last = last.as_ref().map(RepositoryName::as_str);
                    Box::pin(metadata::blobs::holders(tx, digest, last, HOLDERS_PAGE))
                })
                .await?;
            if let Some(holder) = page.iter().find(|name| may_pull(name)) {
                return Ok(Some(holder.clone()));
            }
            match page.last() {
                Some(name) if page.len() as u64 == HOLDERS_PAGE => last = Some(name.clone()),
                _ => break,
            }
        }
        Ok(None)
    }
}
