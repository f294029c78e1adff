//! Adoption: the repositories of a store that registry:2 or registry:3 has used become ours, in
//! place. No content is copied or moved; the link files stay as they are.
//!
//! The link files are read in a *round*, repository by repository. While a round goes on, a
//! repository is adopted before the first request that names it is answered; the rest follows one
//! after the other. Each repository is marked as read in the transaction that ends its adoption,
//! and what is written before that mark may be written again: a round that was cut short at any
//! point goes on where it was.
//!
//! What a round does depends on what the database knows already (see [`State`]).

mod read;
mod recognise;
mod state;
mod survey;
mod write;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use blobs::links::{Links, Repositories};
use metadata::adoption::{self, Finding};
use metadata::repositories::{self, RepositoryId};
use metadata::{Durability, Lock, Tx, settings};
use oci::RepositoryName;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::facts::Facts;
use crate::{Error, Registry, clock};

pub(crate) use read::{describe_name, left_out};
use recognise::recognise;
pub(crate) use state::{Rule, State};
pub use survey::survey;

use read::{Batch, Present, RepositoryReader};
use write::{End, Gone, Part, write_down};

/// Names that are written in one transaction.
const NAMES: usize = 1000;

/// Rows about one repository that are written in one transaction, about: enough that most
/// repositories need one.
const ROWS: usize = 2000;

/// Repositories looked up at once.
const PAGE: u64 = 1000;

/// What [`Registry::begin_adoption`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Adoption {
    /// The store has no link files.
    Nothing,
    /// A round is on: [`Registry::adopt_all`] brings it to its end.
    Begun {
        /// Whether an earlier process had begun it.
        resumed: bool,
    },
    /// All was adopted before, at this time in microseconds since 1970: the link files are out of
    /// date.
    Done(i64),
    /// The links were handed back to registry:2 by an export, and now there are none at all:
    /// more likely the wrong folder than a registry that somebody emptied.
    LinksGone,
}

/// How far a round is. All may be read while it goes on.
#[derive(Debug, Default)]
pub struct AdoptionProgress {
    /// Repositories that the round goes through; 0 until their names are known.
    pub expected: AtomicU64,
    /// Repositories done.
    pub repositories: AtomicU64,
    /// Links of blobs read.
    pub blobs: AtomicU64,
    /// Manifests read.
    pub manifests: AtomicU64,
    /// Tags read.
    pub tags: AtomicU64,
    /// Uploads in progress that were left out.
    pub uploads: AtomicU64,
}

impl AdoptionProgress {
    fn count(&self, batch: &Batch) {
        self.blobs.fetch_add(batch.blobs.len() as u64, Ordering::Relaxed);
        self.manifests.fetch_add(batch.manifests.len() as u64, Ordering::Relaxed);
        self.tags.fetch_add(batch.tags.len() as u64, Ordering::Relaxed);
    }
}

/// The round that a registry is in, if it is in one.
pub(crate) struct Round {
    /// False nearly always: then it is all that a request looks at.
    active: AtomicBool,
    rule: Mutex<Rule>,
    /// What earlier rounds have found, if links of their time are not judged again.
    earlier: Mutex<HashMap<String, Vec<String>>>,
    names: watch::Sender<Names>,
    turns: Mutex<HashMap<RepositoryName, Arc<tokio::sync::Mutex<()>>>>,
}

/// Whether the names of all repositories are in the database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Names {
    /// Not yet.
    Expected,
    /// They could not be listed. The next attempt may do it.
    Failed,
    /// They are.
    Complete,
}

impl Default for Round {
    fn default() -> Self {
        Self {
            active: AtomicBool::new(false),
            rule: Mutex::new(Rule::Merge),
            earlier: Mutex::default(),
            names: watch::Sender::new(Names::Expected),
            turns: Mutex::default(),
        }
    }
}

impl Round {
    fn rule(&self) -> Rule {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What earlier rounds have found in a repository.
    fn earlier(&self, name: &RepositoryName) -> Vec<String> {
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.get(name.as_str()).cloned().unwrap_or_default()
    }

    fn begin(&self, rule: Rule, earlier: HashMap<String, Vec<String>>) {
        self.follow(rule, earlier);
        self.names.send_replace(Names::Expected);
        self.active.store(true, Ordering::Release);
    }

    /// Goes on by another rule.
    fn follow(&self, rule: Rule, earlier: HashMap<String, Vec<String>>) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = rule;
        *self.earlier.lock().unwrap_or_else(PoisonError::into_inner) = earlier;
    }

    /// One at a time adopts a repository.
    async fn turn(&self, name: &RepositoryName) -> tokio::sync::OwnedMutexGuard<()> {
        let turns = || self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = Arc::clone(turns().entry(name.clone()).or_default());
        let turn = lock.lock_owned().await;
        // Whoever comes last takes the entry away.
        turns().retain(|_, lock| Arc::strong_count(lock) > 1);
        turn
    }
}

impl Registry {
    /// Begins a round, or goes on with one, if the store has link files that the database does
    /// not know. With `again` also if it knew them all: what registry:2 has written since then is
    /// added.
    ///
    /// From now on requests see what is adopted before they are answered. Nobody else may write
    /// to the store.
    pub async fn begin_adoption(&self, again: bool) -> Result<Adoption, Error> {
        let Some(links) = self.blobs().links() else {
            return Ok(Adoption::Nothing);
        };
        let state = self.adoption_state().await?;
        let state = match state {
            State::Exporting => {
                let now = State::Done(clock::now());
                if !self.change_adoption_state(state, now).await? {
                    return Box::pin(self.begin_adoption(again)).await;
                }
                now
            }
            state => state,
        };
        let any = links.any().await?;
        let (rule, resumed) = match state {
            State::Reading(rule) => (rule, true),
            State::Done(at) if !again => return Ok(Adoption::Done(at)),
            State::Never | State::Done(_) if !any => return Ok(Adoption::Nothing),
            State::Never => (Rule::Merge, false),
            State::Done(since) => (Rule::Update { since }, false),
            State::Exported(_) if !any => {
                let gone = self.has_repositories().await?;
                return Ok(if gone { Adoption::LinksGone } else { Adoption::Nothing });
            }
            State::Exported(_) | State::Exporting => (Rule::Mirror, false),
        };
        if !resumed {
            let begun = self
                .metadata()
                .write(Durability::Power, (state, rule), |tx, (state, rule)| {
                    Box::pin(async move {
                        // Another server may have begun the round, or even have ended it.
                        if read_state(tx).await? != *state {
                            return Ok::<_, metadata::Error>(false);
                        }
                        adoption::mark_all_unread(tx).await?;
                        if !matches!(rule, Rule::Update { .. }) {
                            adoption::forget_all_findings(tx).await?;
                        }
                        let state = State::Reading(*rule).to_string();
                        settings::set(tx, state::SETTING, &state).await?;
                        Ok(true)
                    })
                })
                .await?;
            if !begun {
                return Box::pin(self.begin_adoption(again)).await;
            }
        }
        self.shared.round.begin(rule, self.earlier_findings(rule).await?);
        Ok(Adoption::Begun { resumed })
    }

    /// What is not judged again by this rule.
    async fn earlier_findings(&self, rule: Rule) -> Result<HashMap<String, Vec<String>>, Error> {
        match rule {
            Rule::Update { .. } => self.findings_by_place().await,
            Rule::Merge | Rule::Mirror => Ok(HashMap::new()),
        }
    }

    /// Whether [`Self::begin_adoption`] would begin a round, go on with one, or find its links gone.
    pub async fn awaits_adoption(&self) -> Result<bool, Error> {
        let Some(links) = self.blobs().links() else {
            return Ok(false);
        };
        Ok(match self.adoption_state().await? {
            State::Reading(_) => true,
            State::Done(_) | State::Exporting => false,
            State::Never => links.any().await?,
            State::Exported(_) => links.any().await? || self.has_repositories().await?,
        })
    }

    /// When all links were adopted, in microseconds since 1970, if they were and an adoption would
    /// not read them again.
    pub async fn adopted_at(&self) -> Result<Option<i64>, Error> {
        Ok(match self.adoption_state().await? {
            State::Done(at) => Some(at),
            _ => None,
        })
    }

    async fn has_repositories(&self) -> Result<bool, Error> {
        let known = self.metadata().read(&(), |tx, ()| Box::pin(repositories::count(tx))).await?;
        Ok(known > 0)
    }

    /// Leaves link files aside: the database alone counts. True if there are some that it does
    /// not know.
    pub async fn skip_adoption(&self) -> Result<bool, Error> {
        let Some(links) = self.blobs().links() else {
            return Ok(false);
        };
        let state = self.adoption_state().await?;
        let next = match state {
            // What is pushed from now on must not be taken for deleted by registry:2 later.
            State::Exported(at) => Some(State::Done(at)),
            State::Exporting => Some(State::Done(clock::now())),
            State::Reading(Rule::Mirror) => Some(State::Reading(Rule::Update { since: 0 })),
            _ => None,
        };
        if let Some(next) = next
            && !self.change_adoption_state(state, next).await?
        {
            return Box::pin(self.skip_adoption()).await;
        }
        Ok(matches!(state, State::Never | State::Reading(_)) && links.any().await?)
    }

    /// Adopts everything that is left, up to `parallel` repositories at once, and ends the round.
    ///
    /// What is odd in a store is a finding, not an error. A repository whose folders can not be
    /// read is left for the next time, and the first such error is returned at the end.
    pub async fn adopt_all(
        &self,
        parallel: usize,
        progress: &Arc<AdoptionProgress>,
    ) -> Result<(), Error> {
        let listed = self.list_names(progress).await;
        // If it failed, an incomplete catalogue is better than none.
        let names = if matches!(listed, Ok(None)) { Names::Complete } else { Names::Failed };
        self.shared.round.names.send_replace(names);
        let mut failed = listed?;
        let mut last: Option<RepositoryId> = None;
        let mut running = JoinSet::new();
        loop {
            let page = self
                .metadata()
                .read(&last, |tx, last| Box::pin(adoption::list_unread(tx, *last, PAGE)))
                .await?;
            let Some((id, _)) = page.last() else { break };
            last = Some(*id);
            for (_, name) in page {
                if running.len() >= parallel.max(1)
                    && let Some(done) = running.join_next().await
                {
                    failed = failed.or(failure(done));
                }
                let (registry, progress) = (self.clone(), Arc::clone(progress));
                running.spawn(async move {
                    let adopted = registry.adopt_repository(&name, Some(&progress)).await;
                    progress.repositories.fetch_add(1, Ordering::Relaxed);
                    adopted.inspect_err(|error| {
                        tracing::error!(repository = %name, %error, "cannot be adopted now");
                    })
                });
            }
        }
        while let Some(done) = running.join_next().await {
            failed = failed.or(failure(done));
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.end_round().await?;
        self.shared.round.active.store(false, Ordering::Release);
        Ok(())
    }

    /// Nothing is left to read. Another server may have ended the round already.
    async fn end_round(&self) -> Result<(), Error> {
        self.metadata()
            .write(Durability::Power, State::Done(clock::now()), |tx, done| {
                Box::pin(async move {
                    let is_on = matches!(read_state(tx).await?, State::Reading(_));
                    if is_on && adoption::count_unread(tx).await? == 0 {
                        settings::set(tx, state::SETTING, &done.to_string()).await?;
                    }
                    Ok::<_, metadata::Error>(())
                })
            })
            .await?;
        Ok(())
    }

    /// What was found odd in the round, after the finding numbered `last` (0: from the first),
    /// each with its number.
    pub async fn adoption_findings(
        &self,
        last: i64,
        limit: u64,
    ) -> Result<Vec<(i64, Finding)>, Error> {
        let findings = self
            .metadata()
            .read(&(last, limit), |tx, (last, limit)| {
                Box::pin(adoption::list_findings(tx, *last, *limit))
            })
            .await?;
        Ok(findings)
    }

    /// All findings, by their place.
    pub(crate) async fn findings_by_place(&self) -> Result<HashMap<String, Vec<String>>, Error> {
        let mut findings = HashMap::<String, Vec<String>>::new();
        let mut last = 0;
        loop {
            let page = self.adoption_findings(last, PAGE).await?;
            let Some((number, _)) = page.last() else { return Ok(findings) };
            last = *number;
            for (_, Finding { place, problem }) in page {
                findings.entry(place).or_default().push(problem);
            }
        }
    }

    /// Adopts the repository, if that is still to be done, before a request is answered that
    /// names it.
    pub(crate) async fn ensure_adopted(&self, name: &RepositoryName) -> Result<(), Error> {
        if !self.shared.round.active.load(Ordering::Acquire) {
            return Ok(());
        }
        // Boxed, so that the requests of all other times do not carry the room for it around.
        Box::pin(self.adopt_first(name)).await
    }

    async fn adopt_first(&self, name: &RepositoryName) -> Result<(), Error> {
        // Before the look into the database, so that it says something about what is seen there.
        let names = *self.shared.round.names.borrow();
        match self.is_unread(name).await? {
            Some(false) => return Ok(()),
            Some(true) => {}
            None if names == Names::Complete => return Ok(()),
            // Its name may not be written down yet.
            None => match self.blobs().links() {
                Some(links) if links.has(name).await? => {}
                _ => return Ok(()),
            },
        }
        // On a task of its own, so that it goes on when the client goes away.
        let (registry, name) = (self.clone(), name.clone());
        let adopt = async move { registry.adopt_repository(&name, None).await };
        tokio::spawn(adopt).await.unwrap_or(Err(Error::Interrupted))
    }

    /// Waits until the catalogue has all names, which takes seconds at most after a round began.
    pub(crate) async fn ensure_named(&self) {
        if self.shared.round.active.load(Ordering::Acquire) {
            // It fails only when the registry is gone.
            let mut names = self.shared.round.names.subscribe();
            let _ = names.wait_for(|names| *names != Names::Expected).await;
        }
    }

    pub(crate) async fn adoption_state(&self) -> Result<State, Error> {
        Ok(self.metadata().read(&(), |tx, ()| Box::pin(read_state(tx))).await?)
    }

    pub(crate) async fn set_adoption_state(&self, state: State) -> Result<(), Error> {
        self.metadata()
            .write(Durability::Power, state.to_string(), |tx, text| {
                Box::pin(settings::set(tx, state::SETTING, text))
            })
            .await?;
        Ok(())
    }

    /// The same, unless somebody else has changed it: false.
    async fn change_adoption_state(&self, from: State, to: State) -> Result<bool, Error> {
        let changed = self
            .metadata()
            .write(Durability::Power, (from, to), |tx, (from, to)| {
                Box::pin(async move {
                    if read_state(tx).await? != *from {
                        return Ok::<_, metadata::Error>(false);
                    }
                    settings::set(tx, state::SETTING, &to.to_string()).await?;
                    Ok(true)
                })
            })
            .await?;
        Ok(changed)
    }

    /// Writes the names of all repositories down. Returns why some may be missing.
    async fn list_names(&self, progress: &AdoptionProgress) -> Result<Option<Error>, Error> {
        let Some(links) = self.blobs().links() else {
            return Ok(None);
        };
        let Repositories { found, strange, unreadable } = links.repositories().await?;
        for error in &unreadable {
            tracing::error!(%error, "the repositories in a folder cannot be adopted now");
        }
        let uploads = found.iter().map(|repository| repository.uploads).sum();
        progress.uploads.store(uploads, Ordering::Relaxed);
        let mut names = found.into_iter();
        loop {
            let page = names.by_ref().take(NAMES).collect::<Vec<_>>();
            if page.is_empty() {
                break;
            }
            self.metadata()
                .write(Durability::Process, page, |tx, page| {
                    Box::pin(async move {
                        for found in page {
                            adoption::expect(tx, &found.name, found.has_manifest, clock::now())
                                .await?;
                        }
                        Ok::<_, Error>(())
                    })
                })
                .await?;
        }
        let finding = |problem| Finding { place: String::new(), problem };
        let findings = strange.into_iter().map(finding).collect::<Vec<_>>();
        let unread = self
            .metadata()
            .write(Durability::Process, findings, |tx, findings| {
                Box::pin(async move {
                    let last = adoption::last_finding(tx).await?;
                    adoption::forget_findings(tx, "", last).await?;
                    adoption::note(tx, findings).await?;
                    adoption::count_unread(tx).await
                })
            })
            .await?;
        progress.expected.store(unread, Ordering::Relaxed);
        Ok(unreadable.into_iter().next().map(Error::from))
    }

    async fn is_unread(&self, name: &RepositoryName) -> Result<Option<bool>, Error> {
        let unread =
            self.metadata().read(name, |tx, name| Box::pin(adoption::is_unread(tx, name))).await?;
        Ok(unread)
    }

    async fn adopt_repository(
        &self,
        name: &RepositoryName,
        progress: Option<&AdoptionProgress>,
    ) -> Result<(), Error> {
        let Some(links) = self.blobs().links() else {
            return Ok(());
        };
        let _turn = self.shared.round.turn(name).await;
        loop {
            if self.is_unread(name).await? == Some(false) {
                return Ok(());
            }
            let rule = self.shared.round.rule();
            if self.read_repository(links, name, rule, progress).await? {
                return Ok(());
            }
            // Another server has changed the rule.
            let State::Reading(rule) = self.adoption_state().await? else { return Ok(()) };
            self.shared.round.follow(rule, self.earlier_findings(rule).await?);
        }
    }

    /// Reads the links of a repository and writes them down. False if that is done by another rule
    /// now.
    async fn read_repository(
        &self,
        links: &dyn Links,
        name: &RepositoryName,
        rule: Rule,
        progress: Option<&AdoptionProgress>,
    ) -> Result<bool, Error> {
        let earlier = self.shared.round.earlier(name);
        let last_finding =
            self.metadata().read(&(), |tx, ()| Box::pin(adoption::last_finding(tx))).await?;
        let mut reader = RepositoryReader::new(self.blobs(), links, name, rule.since(), earlier);
        let mut part = Part::new(name, rule);
        while let Some(batch) = reader.next().await? {
            if let Some(progress) = progress {
                progress.count(&batch);
            }
            part.batch.append(batch);
            if part.batch.weight() >= ROWS {
                let part = std::mem::replace(&mut part, Part::new(name, rule));
                if !self.write_part(part).await? {
                    return Ok(false);
                }
            }
        }
        // What is in the last part is among what is present, so it need not be written yet.
        let gone = match rule {
            Rule::Mirror => self.find_gone(name, &reader.into_present()).await?,
            Rule::Merge | Rule::Update { .. } => Gone::default(),
        };
        part.end = Some(End { gone, last_finding });
        self.write_part(part).await
    }

    async fn write_part(&self, part: Part) -> Result<bool, Error> {
        let lock = Lock::exclusive(&part.name);
        self.metadata()
            .write_locked(Durability::Process, lock, part, |tx, part| {
                Box::pin(write_down(tx, part))
            })
            .await
    }

    /// What the database has and the links, which are right, have not. Content that is kept
    /// elsewhere never had links.
    async fn find_gone(&self, name: &RepositoryName, present: &Present) -> Result<Gone, Error> {
        let repository =
            self.metadata().read(name, |tx, name| Box::pin(repositories::find(tx, name))).await?;
        let facts = match repository {
            Some(repository) => self.facts_of(repository).await?,
            None => Facts::default(),
        };
        Ok(Gone {
            blobs: facts
                .blobs
                .iter()
                .filter(|linked| linked.blob.location.is_none())
                .map(|linked| linked.blob.digest)
                .filter(|digest| !present.layers.contains(digest))
                .collect(),
            manifests: facts
                .manifests
                .iter()
                .filter(|held| held.blob.location.is_none())
                .map(|held| held.digest)
                .filter(|digest| !present.revisions.contains(digest))
                .collect(),
            tags: facts
                .tags
                .into_iter()
                .map(|(tag, _)| tag)
                .filter(|tag| !present.tags.contains(tag))
                .collect(),
        })
    }
}

async fn read_state(tx: &mut Tx) -> Result<State, metadata::Error> {
    let state = settings::get(tx, state::SETTING).await?;
    state.map_or(Ok(State::Never), |text| text.parse())
}

fn failure(done: Result<Result<(), Error>, tokio::task::JoinError>) -> Option<Error> {
    done.unwrap_or(Err(Error::Interrupted)).err()
}
