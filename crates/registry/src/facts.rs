//! All that the database knows about one repository.

use metadata::repositories::RepositoryId;
use oci::{Digest, Tag};

use crate::{Error, Registry};

/// Rows read in one transaction.
const PAGE: u64 = 1000;

/// The facts about a repository.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) blobs: Vec<metadata::blobs::Linked>,
    pub(crate) manifests: Vec<metadata::manifests::Held>,
    pub(crate) tags: Vec<(Tag, Digest)>,
}

impl Registry {
    /// Reads all facts about a repository, to which nobody writes meanwhile.
    pub(crate) async fn facts_of(&self, repository: RepositoryId) -> Result<Facts, Error> {
        let mut facts = Facts::default();
        loop {
            let last = facts.blobs.last().map(|linked| linked.id);
            let page = self
                .metadata()
                .read(&(repository, last), |tx, (repository, last)| {
                    Box::pin(metadata::blobs::list_of(tx, *repository, *last, PAGE))
                })
                .await?;
            let done = page.is_empty();
            facts.blobs.extend(page);
            if done {
                break;
            }
        }
        loop {
            let last = facts.manifests.last().map(|held| held.digest);
            let page = self
                .metadata()
                .read(&(repository, last), |tx, (repository, last)| {
                    Box::pin(metadata::manifests::list_of(tx, *repository, last.as_ref(), PAGE))
                })
                .await?;
            let done = page.is_empty();
            facts.manifests.extend(page);
            if done {
                break;
            }
        }
        loop {
            let last = facts.tags.last().map(|(tag, _)| tag.clone());
            let page = self
                .metadata()
                .read(&(repository, last), |tx, (repository, last)| {
                    let last = last.as_ref().map(Tag::as_str);
                    Box::pin(metadata::tags::list_targets(tx, *repository, last, PAGE))
                })
                .await?;
            let done = page.is_empty();
            facts.tags.extend(page);
            if done {
                break;
            }
        }
        Ok(facts)
    }
}
