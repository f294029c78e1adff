//! The tags of a repository, page by page.

use metadata::{repositories, tags};
use oci::{RepositoryName, Tag};

use crate::{Error, Registry};

impl Registry {
    /// Up to `limit` tags after `last`, in byte order, and whether there are more.
    /// [`Error::RepositoryUnknown`] if the repository has no manifest.
    pub async fn list_tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: u64,
    ) -> Result<(Vec<Tag>, bool), Error> {
        self.ensure_adopted(repository).await?;
        let input = (repository, last, limit);
        let mut tags = self
            .metadata()
            .read(&input, |tx, (repository, last, limit)| {
                Box::pin(async move {
                    if !repositories::is_listed(tx, repository).await? {
                        return Err(Error::RepositoryUnknown((*repository).clone()));
                    }
                    match repositories::find(tx, repository).await? {
                        Some(id) => Ok(tags::list(tx, id, *last, limit.saturating_add(1)).await?),
                        None => Err(Error::RepositoryUnknown((*repository).clone())),
                    }
                })
            })
            .await?;
        let more = tags.len() as u64 > limit;
        tags.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((tags, more))
    }
}
