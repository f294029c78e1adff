//! The repositories of the registry that somebody may see, page by page, and those of them that
//! match a term.

use auth::{Caller, Next};
use metadata::repositories;
use oci::RepositoryName;

use crate::{Error, Registry};

/// Names that are looked at in one go for somebody who may not see all.
const CHUNK: u64 = 1000;

/// Names that are looked at for one page. Past this it ends before it is full.
const MAX_LOOKED: u64 = 5000;

/// A page of the catalogue.
#[derive(Clone, Debug, Default)]
pub struct RepositoriesPage {
    /// Names, in byte order.
    pub names: Vec<RepositoryName>,
    /// Where the next page begins, if there may be more.
    pub next: Option<Place>,
}

/// A place in the catalogue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// After the last name of the page.
    AfterLast,
    /// After a name that the caller may not see.
    After(RepositoryName),
}

impl Registry {
    /// Up to `limit` repositories after `last`, in byte order, that `caller` may see. The work for
    /// a page does not grow with the catalogue: a page may be short, even empty, and yet have a
    /// next one.
    pub async fn list_repositories(
        &self,
        last: Option<&str>,
        limit: u64,
        caller: &Caller,
    ) -> Result<RepositoriesPage, Error> {
        let mut page = RepositoriesPage::default();
        if limit == 0 {
            return Ok(page);
        }
        self.ensure_named().await;
        let one_more = limit.saturating_add(1);
        let chunk = if caller.sees_all() { one_more } else { one_more.max(CHUNK) };
        let mut place = last.unwrap_or("").to_owned();
        let mut looked = 0;
        loop {
            match caller.next_seen(&place) {
                Next::Anywhere => {}
                Next::After(text) => place = place.max(text),
                Next::Nowhere => return Ok(page),
            }
            let names = self.names_after(&place, chunk).await?;
            for name in &names {
                if !caller.may_see(name) {
                    continue;
                }
                if page.names.len() as u64 == limit {
                    page.next = Some(Place::AfterLast);
                    return Ok(page);
                }
                page.names.push(name.clone());
            }
            looked += names.len() as u64;
            let Some(end) = names.last().filter(|_| names.len() as u64 == chunk) else {
                return Ok(page);
            };
            if looked >= MAX_LOOKED {
                let is_full = page.names.len() as u64 == limit || page.names.last() == Some(end);
                page.next =
                    Some(if is_full { Place::AfterLast } else { Place::After(end.clone()) });
                return Ok(page);
            }
            end.as_str().clone_into(&mut place);
        }
    }

    async fn names_after(&self, last: &str, limit: u64) -> Result<Vec<RepositoryName>, Error> {
        let names = self
            .metadata()
            .read(&(last, limit), |tx, (last, limit)| {
                Box::pin(repositories::list(tx, Some(last), *limit))
            })
            .await?;
        Ok(names)
    }

    /// Up to `limit` repositories that `caller` may see and whose names contain `term`, in lower
    /// or upper case, `skip` left out, and how many there are in all. For somebody who may not see
    /// all, only the first names that match are looked at.
    pub async fn search_repositories(
        &self,
        term: &str,
        skip: u64,
        limit: u64,
        caller: &Caller,
    ) -> Result<(Vec<RepositoryName>, u64), Error> {
        let term = term.to_lowercase();
        let may_be_in_name = |c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/');
        if !term.chars().all(may_be_in_name) {
            return Ok((Vec::new(), 0));
        }
        self.ensure_named().await;
        if caller.sees_all() {
            let total = self
                .metadata()
                .read(&term, |tx, term| Box::pin(repositories::count_matches(tx, term)))
                .await?;
            return Ok((self.matches(&term, skip, limit).await?, total));
        }
        let mut found = Vec::new();
        let mut total = 0;
        for chunk in 0..MAX_LOOKED / CHUNK {
            let names = self.matches(&term, chunk * CHUNK, CHUNK).await?;
            for name in names.iter().filter(|name| caller.may_see(name)) {
                if total >= skip && (found.len() as u64) < limit {
                    found.push(name.clone());
                }
                total += 1;
            }
            if (names.len() as u64) < CHUNK {
                break;
            }
        }
        Ok((found, total))
    }

    async fn matches(
        &self,
        term: &str,
        skip: u64,
        limit: u64,
    ) -> Result<Vec<RepositoryName>, Error> {
        let names = self
            .metadata()
            .read(&(term, skip, limit), |tx, (term, skip, limit)| {
                Box::pin(repositories::search(tx, term, *skip, *limit))
            })
            .await?;
        Ok(names)
    }
}
