//! The repositories of the registry, page by page, and those that match a term.

use metadata::repositories;
use oci::RepositoryName;

use crate::{Error, Registry};

impl Registry {
    /// Up to `limit` repositories after `last`, in byte order, and whether there are more.
    pub async fn list_repositories(
        &self,
        last: Option<&str>,
        limit: u64,
    ) -> Result<(Vec<RepositoryName>, bool), Error> {
        self.ensure_named().await;
        let mut names = self
            .metadata()
            .read(&(last, limit), |tx, (last, limit)| {
                Box::pin(repositories::list(tx, *last, limit.saturating_add(1)))
            })
            .await?;
        let more = names.len() as u64 > limit;
        names.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((names, more))
    }

    /// Up to `limit` repositories whose names contain `term`, in lower or upper case, `skip` left
    /// out, and how many there are in all.
    pub async fn search_repositories(
        &self,
        term: &str,
        skip: u64,
        limit: u64,
    ) -> Result<(Vec<RepositoryName>, u64), Error> {
        let term = term.to_lowercase();
        let may_be_in_name = |c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/');
        if !term.chars().all(may_be_in_name) {
            return Ok((Vec::new(), 0));
        }
        self.ensure_named().await;
        let found = self
            .metadata()
            .read(&(term, skip, limit), |tx, (term, skip, limit)| {
                Box::pin(async move {
                    let total = repositories::count_matches(tx, term).await?;
                    let names = repositories::search(tx, term, *skip, *limit).await?;
                    Ok::<_, metadata::Error>((names, total))
                })
            })
            .await?;
        Ok(found)
    }
}
