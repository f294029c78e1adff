//! What clients did with tags that they fight over, and when.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::linearizable::{Action, Operation, Verdict, check};

/// Operations without a clear answer that one tag may have. Then its clients go on with another
/// tag: each of these may have happened or not, and what was seen must fit one of all cases.
const OPEN: usize = 12;

/// Operations that one tag may have: what is looked at while an order is sought grows with their
/// square.
const ENOUGH: usize = 3000;

/// How much is shown of what is wrong.
const SHOWN: usize = 12;

/// One of the tags that stood for a name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Tag {
    name: usize,
    turn: usize,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tag{}-{}", self.name, self.turn)
    }
}

pub(super) struct History {
    start: Instant,
    tags: Mutex<BTreeMap<Tag, Vec<Operation>>>,
    /// For each of the names, how often its clients went on with another tag.
    turns: Vec<Mutex<usize>>,
}

impl History {
    pub(super) fn new(names: usize) -> Self {
        let turns = (0..names).map(|_| Mutex::default()).collect();
        Self { start: Instant::now(), tags: Mutex::default(), turns }
    }

    /// The tag that stands for a name now.
    pub(super) fn tag(&self, name: usize) -> Tag {
        Tag { name, turn: self.turns.get(name).map_or(0, |turn| *lock(turn)) }
    }

    pub(super) fn names(&self) -> usize {
        self.turns.len()
    }

    /// Every tag that was ever used.
    pub(super) fn tags(&self) -> Vec<Tag> {
        lock(&self.tags).keys().cloned().collect()
    }

    /// Nanoseconds since the start, for an operation that is sent now, or was answered.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// It was answered just now.
    pub(super) fn answered(&self, tag: &Tag, action: Action, invoked: u64) {
        self.record(tag, Operation { action, invoked, returned: Some(self.now()) });
    }

    /// It may happen or may have happened.
    pub(super) fn left_open(&self, tag: &Tag, action: Action, invoked: u64) {
        self.record(tag, Operation { action, invoked, returned: None });
    }

    fn record(&self, tag: &Tag, operation: Operation) {
        let mut tags = lock(&self.tags);
        let operations = tags.entry(tag.clone()).or_default();
        operations.push(operation);
        let open = operations.iter().filter(|one| one.returned.is_none()).count();
        if open < OPEN && operations.len() < ENOUGH {
            return;
        }
        let Some(turn) = self.turns.get(tag.name) else { return };
        let mut turn = lock(turn);
        *turn = (*turn).max(tag.turn + 1);
    }

    /// Operations, and tags that they were about; an error with the part of a history that no
    /// order explains.
    pub(super) fn is_linearizable(&self) -> Result<(usize, usize)> {
        let mut count = 0;
        let mut tags = lock(&self.tags);
        for (tag, operations) in tags.iter_mut() {
            operations.sort_by_key(|one| one.invoked);
            count += operations.len();
            match check(operations) {
                Verdict::Linearizable => {}
                Verdict::Violation(at) => {
                    bail!("{tag} did not behave like one tag:{}", around(operations, at))
                }
                Verdict::GivenUp(at) => bail!(
                    "no order was found in which {tag} behaves like one tag; the best went this \
                     far:{}",
                    around(operations, at)
                ),
            }
        }
        Ok((count, tags.len()))
    }
}

/// What happened about that time.
fn around(operations: &[Operation], at: usize) -> String {
    let first = at.saturating_sub(SHOWN);
    let mut text = String::new();
    for (place, one) in operations.iter().enumerate().skip(first).take(2 * SHOWN) {
        let mark = if place == at { '>' } else { ' ' };
        let end = one.returned.map_or("no answer".to_owned(), seconds);
        let _ = write!(text, "\n    {mark} {} to {end}: {:?}", seconds(one.invoked), one.action);
    }
    // What is open from before may count, too.
    for one in operations.iter().take(first).filter(|one| one.returned.is_none()) {
        let _ = write!(text, "\n      open since {}: {:?}", seconds(one.invoked), one.action);
    }
    text
}

fn seconds(nanoseconds: u64) -> String {
    format!("{:.4} s", Duration::from_nanos(nanoseconds).as_secs_f64())
}

/// A client that panicked is reported where it is waited for.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
