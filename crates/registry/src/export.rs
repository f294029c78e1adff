//! Export: the link files that registry:2 and registry:3 need are written back beside the
//! content, and those of what was deleted since are removed.
//!
//! Nobody else may write to the store meanwhile. Links that were odd when they were read, which
//! the database therefore does not know, stay as they are.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blobs::links::{BadLink, Link, LinkKind, LinkName, Links};
use metadata::adoption::Finding;
use metadata::repositories::{self, RepositoryId};
use oci::{Algorithm, Digest, RepositoryName};
use thiserror::Error;
use tokio::task::JoinSet;

use crate::adopt::{State, describe_name, left_out};
use crate::facts::Facts;
use crate::{Error, Registry, clock};

/// Rows or links handled at once.
const PAGE: usize = 1000;

/// How far an export is.
#[derive(Debug, Default)]
pub struct ExportProgress {
    /// Repositories in all.
    pub expected: AtomicU64,
    /// Repositories done.
    pub repositories: AtomicU64,
    /// Links written (or, if nothing shall be changed, that would be).
    pub written: AtomicU64,
    /// Blobs that are copied to where registry:2 looks for them (or would be).
    pub copied: AtomicU64,
    /// Links removed (or that would be).
    pub removed: AtomicU64,
}

/// What came of an export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Exported {
    /// The links are those of the database, except for what the notes say.
    Done(Vec<Finding>),
    /// They were written before, and the database has not changed since.
    Before(i64),
}

/// Why there can be no export.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Links that were never read would be taken for deleted.
    #[error("the store has link files that are not imported yet: run `orlop import` first")]
    NotImported,
    /// This kind of store can not hold links.
    #[error("this kind of store has no link files")]
    NoLinks,
    /// The database or the store failed.
    #[error(transparent)]
    Registry(#[from] Error),
}

impl Registry {
    /// Makes the link files say what the database says, up to `parallel` repositories at once.
    /// With `dry_run` nothing is changed.
    ///
    /// An export that was cut short is done again from the start. Once it has ended, the links
    /// count, not the database, until the next adoption or until adoption is skipped.
    pub async fn export_links(
        &self,
        parallel: usize,
        dry_run: bool,
        progress: &Arc<ExportProgress>,
    ) -> Result<Exported, ExportError> {
        let links = self.blobs().links().ok_or(ExportError::NoLinks)?;
        let known_at = match self.adoption_state().await? {
            State::Never if links.any().await.map_err(Error::from)? => {
                return Err(ExportError::NotImported);
            }
            State::Reading(_) => return Err(ExportError::NotImported),
            State::Exported(at) => return Ok(Exported::Before(at)),
            // The links may be of an export that did not come to its end.
            State::Never | State::Exporting => i64::MAX,
            State::Done(at) => at,
        };
        if !dry_run {
            self.set_adoption_state(State::Exporting).await?;
        }
        let lost = self.relocate(dry_run, &progress.copied).await?;
        let mut notes = self.note_unknown(links).await?;
        notes.extend(lost);
        let mut findings = self.findings_by_place().await?;
        let total = self.metadata().read(&(), |tx, ()| Box::pin(repositories::count(tx))).await;
        progress.expected.store(total.map_err(Error::from)?, Ordering::Relaxed);
        let mut last: Option<RepositoryId> = None;
        let mut running = JoinSet::new();
        loop {
            let page = self
                .metadata()
                .read(&last, |tx, last| Box::pin(repositories::list_all(tx, *last, PAGE as u64)))
                .await
                .map_err(Error::from)?;
            let Some((id, _)) = page.last() else { break };
            last = Some(*id);
            for (id, name) in page {
                if running.len() >= parallel.max(1)
                    && let Some(done) = running.join_next().await
                {
                    notes.extend(done.unwrap_or(Err(Error::Interrupted))?);
                }
                let export = Export {
                    registry: self.clone(),
                    odd: findings.remove(name.as_str()).unwrap_or_default(),
                    name,
                    known_at,
                    dry_run,
                    progress: Arc::clone(progress),
                    notes: Vec::new(),
                };
                running.spawn(export.run(id));
            }
        }
        while let Some(done) = running.join_next().await {
            notes.extend(done.unwrap_or(Err(Error::Interrupted))?);
        }
        if !dry_run {
            links.settle_links().await.map_err(Error::from)?;
            self.set_adoption_state(State::Exported(clock::now())).await?;
        }
        notes.sort_by(|one, other| one.place.cmp(&other.place));
        Ok(Exported::Done(notes))
    }

    /// Repositories that only the links know: another registry has made them since.
    async fn note_unknown(&self, links: &dyn Links) -> Result<Vec<Finding>, Error> {
        let mut notes = Vec::new();
        for found in links.repositories().await?.found {
            let known = self
                .metadata()
                .read(&found.name, |tx, name| Box::pin(repositories::find(tx, name)))
                .await?;
            if known.is_none() {
                let problem = "left as it is: another registry has made it since the import \
                               (`orlop import --again` takes it in)"
                    .to_owned();
                notes.push(Finding { place: found.name.to_string(), problem });
            }
        }
        Ok(notes)
    }
}

/// The export of one repository.
struct Export {
    registry: Registry,
    name: RepositoryName,
    /// What was found odd when the links were read.
    odd: Vec<String>,
    /// Links that are newer are of another registry.
    known_at: i64,
    dry_run: bool,
    progress: Arc<ExportProgress>,
    notes: Vec<Finding>,
}

impl Export {
    async fn run(mut self, id: RepositoryId) -> Result<Vec<Finding>, Error> {
        let registry = self.registry.clone();
        let Some(links) = registry.blobs().links() else {
            return Ok(Vec::new());
        };
        let facts = registry.facts_of(id).await?;
        let wanted = self.wanted(&facts);
        // What is odd is judged before anything changes.
        let unwanted = self.unwanted(links, &wanted).await?;
        self.write_missing(links, wanted).await?;
        self.progress.removed.fetch_add(unwanted.len() as u64, Ordering::Relaxed);
        if !self.dry_run {
            links.remove(&self.name, unwanted).await?;
        }
        self.progress.repositories.fetch_add(1, Ordering::Relaxed);
        Ok(self.notes)
    }

    /// The links that the facts ask for.
    fn wanted(&mut self, facts: &Facts) -> BTreeMap<LinkName, Digest> {
        let mut wanted = BTreeMap::new();
        for linked in &facts.blobs {
            let digest = linked.blob.digest;
            wanted.insert(LinkName::Layer(digest), digest);
            if let Some(sha512) = linked.sha512 {
                wanted.insert(LinkName::Layer(sha512), digest);
            }
        }
        let mut referrers = 0;
        for held in &facts.manifests {
            referrers += u64::from(held.is_referrer);
            wanted.insert(LinkName::Revision(held.digest), held.blob.digest);
        }
        for (tag, digest) in &facts.tags {
            wanted.insert(LinkName::Tag(tag.clone()), *digest);
            wanted.insert(LinkName::TagIndex(tag.clone(), *digest), *digest);
        }
        let is_sha512 = |digest: &Digest| digest.algorithm() == Algorithm::Sha512;
        let manifests = facts.manifests.iter().filter(|held| is_sha512(&held.digest)).count();
        let blobs = facts.blobs.iter().filter(|linked| linked.sha512.is_some()).count();
        if manifests + blobs > 0 {
            self.note(format!(
                "{blobs} blobs and {manifests} manifests go by sha512 digests: registry:2 serves \
                 them, but its garbage-collect does not see that they are in use and deletes them"
            ));
        }
        if referrers > 0 {
            self.note(format!(
                "{referrers} manifests refer to others: registry:2 serves them by digest, but \
                 does not list referrers"
            ));
        }
        wanted
    }

    async fn write_missing(
        &self,
        links: &dyn Links,
        wanted: BTreeMap<LinkName, Digest>,
    ) -> Result<(), Error> {
        let mut wanted = wanted.into_iter();
        loop {
            let page = wanted.by_ref().take(PAGE).collect::<Vec<_>>();
            if page.is_empty() {
                return Ok(());
            }
            let names = page.iter().map(|(name, _)| name.clone()).collect();
            let found = links.read(&self.name, names).await?;
            let differs = |(link, (_, digest)): &(Link, (LinkName, Digest))| {
                link.target.as_ref() != Ok(digest)
            };
            let missing = found.into_iter().zip(page).filter(differs);
            let missing = missing.map(|(_, wanted)| wanted).collect::<Vec<_>>();
            self.progress.written.fetch_add(missing.len() as u64, Ordering::Relaxed);
            if !self.dry_run && !missing.is_empty() {
                links.write(&self.name, missing).await?;
            }
        }
    }

    /// Links of what was deleted: an adoption has taken them in, and the database does not have them
    /// any more. Whether it has is not to be seen from their content, which may be gone by now.
    async fn unwanted(
        &mut self,
        links: &dyn Links,
        wanted: &BTreeMap<LinkName, Digest>,
    ) -> Result<Vec<LinkName>, Error> {
        let odd = std::mem::take(&mut self.odd);
        let odd = left_out(&odd);
        let mut unwanted = Vec::new();
        for kind in [LinkKind::Tags, LinkKind::Revisions, LinkKind::Layers] {
            let mut names = links.list(&self.name, kind).await?.names;
            names.retain(|name| !wanted.contains_key(name));
            for page in names.chunks(PAGE) {
                for link in links.read(&self.name, page.to_vec()).await? {
                    if !was_adopted(&link, &odd, wanted) {
                        continue;
                    }
                    if link.modified > self.known_at {
                        self.note(format!(
                            "{} is left as it is: another registry has written it since the \
                             import (`orlop import --again` takes it in)",
                            describe_name(&link.name)
                        ));
                        continue;
                    }
                    unwanted.push(link.name);
                }
            }
        }
        Ok(unwanted)
    }

    fn note(&mut self, problem: String) {
        self.notes.push(Finding { place: self.name.to_string(), problem });
    }
}

/// Whether the database knew what this link says. What is odd about a link was written down when it
/// was read.
fn was_adopted(link: &Link, odd: &HashSet<&str>, wanted: &BTreeMap<LinkName, Digest>) -> bool {
    let is_odd = odd.contains(&*describe_name(&link.name));
    let target = match (&link.target, &link.name) {
        (Ok(target), _) => target,
        // What an export that was cut short has left of a tag.
        (Err(BadLink::Missing), LinkName::Tag(_)) => return !is_odd,
        (Err(_), _) => return false,
    };
    // Another name of what is there may be one that could not be learned.
    let is_other_name = matches!(&link.name, LinkName::Layer(digest) if digest != target)
        && wanted.contains_key(&LinkName::Layer(*target));
    !is_other_name && !is_odd
}
