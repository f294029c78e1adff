//! Whether a history of what clients saw of a tag could have come from a single tag, on which one
//! operation happened after another, each at some moment between its request and its answer.
//!
//! The search of Wing and Gong, with the memory that Lowe added: operations that could have been
//! next are tried one after another, and no state is looked at twice.

use std::collections::{HashMap, HashSet};

/// What a tag leads to: the number of a manifest, or nothing.
pub(super) type State = Option<u64>;

/// What was done, with the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// A manifest was pushed under the tag.
    Write(u64),
    /// The tag was removed. Whether it had been there is not always known.
    Delete { found: Option<bool> },
    /// The tag was asked for.
    Read(State),
    /// All tags were listed, and this one was among them, or not.
    Listed(bool),
}

/// One operation on a tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) action: Action,
    /// When it was sent, in nanoseconds since the start.
    pub(super) invoked: u64,
    /// When it was answered. Without a clear answer it may have happened at any time since, or it
    /// still may, or not at all.
    pub(super) returned: Option<u64>,
}

/// What a search found.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Linearizable,
    /// With the operation that no order of the others explains, of those in order of `invoked`.
    Violation(usize),
    /// It was given up there. Of an order that exists, the search finds one much sooner.
    GivenUp(usize),
}

/// States that are looked at, at most. What is wrong late in a history can have the search try all
/// orders of what was before.
const LIMIT: usize = 200_000;

impl Action {
    /// The state after it, if it could have been answered like this.
    fn apply(self, state: State) -> Option<State> {
        match self {
            Self::Write(number) => Some(Some(number)),
            Self::Delete { found } => {
                found.is_none_or(|found| found == state.is_some()).then_some(None)
            }
            Self::Read(seen) => (seen == state).then_some(state),
            Self::Listed(seen) => (seen == state.is_some()).then_some(state),
        }
    }

    fn only_looks(self) -> bool {
        matches!(self, Self::Read(_) | Self::Listed(_))
    }
}

/// Looks for an order. The operations must be sorted by `invoked`; at first there is no tag.
pub(super) fn check(operations: &[Operation]) -> Verdict {
    Search::new(operations).run()
}

struct Search<'a> {
    operations: &'a [Operation],
    /// Those without a clear answer.
    open: Vec<usize>,
    /// The same, one bit for each operation.
    not_answered: Vec<u64>,
    /// One bit for each operation that has been put in order.
    done: Vec<u64>,
    state: State,
    /// With a clear answer, and not yet in order.
    left: usize,
    /// Of each manifest: reads and writes that are not yet in order.
    ahead: HashMap<u64, (usize, usize)>,
    seen: HashSet<(Vec<u64>, State)>,
}

/// A choice that was made, and what else could be chosen.
struct Choice {
    others: std::vec::IntoIter<usize>,
    made: Option<(usize, State)>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        let is_open = |at: &usize| operations.get(*at).is_some_and(|one| one.returned.is_none());
        let open: Vec<_> = (0..operations.len()).filter(is_open).collect();
        let words = operations.len().div_ceil(64);
        let mut search = Self {
            operations,
            left: operations.len() - open.len(),
            open,
            not_answered: vec![0; words],
            done: vec![0; words],
            state: None,
            ahead: HashMap::new(),
            seen: HashSet::new(),
        };
        search.open.iter().for_each(|at| flip(&mut search.not_answered, *at));
        for one in operations {
            search.count(one.action, 1);
        }
        search
    }

    fn run(mut self) -> Verdict {
        let mut choices = Vec::new();
        let (mut fewest_left, mut stuck) = (usize::MAX, 0);
        while self.left > 0 {
            if self.left < fewest_left {
                (fewest_left, stuck) = (self.left, self.first_to_return());
            }
            if self.seen.len() > LIMIT {
                return Verdict::GivenUp(stuck);
            }
            choices.push(Choice { others: self.candidates().into_iter(), made: None });
            if !self.advance(&mut choices) {
                return Verdict::Violation(stuck);
            }
        }
        Verdict::Linearizable
    }

    /// Makes the next choice that leads to something new; the one before is taken back where
    /// there is none. False if there is none at all.
    fn advance(&mut self, choices: &mut Vec<Choice>) -> bool {
        while let Some(choice) = choices.last_mut() {
            if let Some((at, before)) = choice.made.take() {
                self.take_back(at, before);
            }
            let Some(at) = choice.others.next() else {
                choices.pop();
                continue;
            };
            choice.made = Some((at, self.state));
            self.put_in_order(at);
            if self.seen.insert((self.done.clone(), self.state)) {
                return true;
            }
        }
        false
    }

    /// What can be next: what began before any other that is left came to its end.
    fn candidates(&self) -> Vec<usize> {
        let window = self.window();
        // What only looks, and sees what is there, changes nothing for the others.
        let looks = |at: &&usize| self.get(**at).is_some_and(|one| one.action.only_looks());
        if let Some(at) = window.iter().filter(looks).find(|at| self.is_possible(**at)) {
            return vec![*at];
        }
        if self.is_seen_later() {
            return Vec::new();
        }
        let possible = window.iter().copied().filter(|at| self.is_possible(*at));
        // What may not have happened at all comes last.
        possible.chain(self.useful(&window)).collect()
    }

    /// Those without a clear answer that explain what one of the window saw: else they may as well
    /// not have happened yet, or never.
    fn useful(&self, window: &[usize]) -> Vec<usize> {
        let horizon = self.horizon();
        let mut useful: Vec<(usize, Action)> = Vec::new();
        for at in self.open.iter().copied().filter(|at| !self.is_done(*at)) {
            let Some(one) = self.get(at).filter(|one| one.invoked <= horizon) else { continue };
            let after = one.action.apply(self.state).unwrap_or(self.state);
            let explains = |seen: &usize| {
                let seen = self.get(*seen).map(|seen| seen.action);
                seen.is_some_and(|seen| {
                    seen.apply(self.state).is_none() && seen.apply(after).is_some()
                })
            };
            // Of those that are alike the first is as good as any.
            let is_new = useful.iter().all(|(_, action)| *action != one.action);
            if is_new && window.iter().any(explains) {
                useful.push((at, one.action));
            }
        }
        useful.into_iter().map(|(at, _)| at).collect()
    }

    /// Somebody still has to see the present manifest, and nobody pushes it again.
    fn is_seen_later(&self) -> bool {
        let ahead = self.state.and_then(|number| self.ahead.get(&number));
        ahead.is_some_and(|(reads, writes)| *reads > 0 && *writes == 0)
    }

    fn is_possible(&self, at: usize) -> bool {
        self.get(at).is_some_and(|one| one.action.apply(self.state).is_some())
    }

    /// Those with a clear answer that may be next, the first to return before the others.
    fn window(&self) -> Vec<usize> {
        let horizon = self.horizon();
        let mut window: Vec<_> =
            self.answered().take_while(|(_, one)| one.invoked <= horizon).collect();
        window.sort_by_key(|(_, one)| one.returned);
        window.into_iter().map(|(at, _)| at).collect()
    }

    /// When the first that is left came to its end.
    fn horizon(&self) -> u64 {
        let mut horizon = u64::MAX;
        for (_, one) in self.answered() {
            if one.invoked > horizon {
                break;
            }
            horizon = horizon.min(one.returned.unwrap_or(u64::MAX));
        }
        horizon
    }

    fn first_to_return(&self) -> usize {
        self.window().first().copied().unwrap_or_default()
    }

    /// With a clear answer and not yet in order.
    fn answered(&self) -> impl Iterator<Item = (usize, &'a Operation)> {
        let words = self.done.iter().zip(&self.not_answered);
        let full = words.take_while(|(done, open)| **done | **open == u64::MAX).count() * 64;
        let all = self.operations.iter().enumerate().skip(full);
        all.filter(|(at, one)| one.returned.is_some() && !self.is_done(*at))
    }

    fn put_in_order(&mut self, at: usize) {
        let Some(one) = self.get(at) else { return };
        self.state = one.action.apply(self.state).unwrap_or(self.state);
        flip(&mut self.done, at);
        self.left -= usize::from(one.returned.is_some());
        self.count(one.action, -1);
    }

    fn take_back(&mut self, at: usize, before: State) {
        let Some(one) = self.get(at) else { return };
        self.state = before;
        flip(&mut self.done, at);
        self.left += usize::from(one.returned.is_some());
        self.count(one.action, 1);
    }

    fn count(&mut self, action: Action, change: isize) {
        let (number, is_read) = match action {
            Action::Write(number) => (number, false),
            Action::Read(Some(number)) => (number, true),
            _ => return,
        };
        let (reads, writes) = self.ahead.entry(number).or_default();
        let count = if is_read { reads } else { writes };
        *count = count.saturating_add_signed(change);
    }

    fn get(&self, at: usize) -> Option<&'a Operation> {
        self.operations.get(at)
    }

    fn is_done(&self, at: usize) -> bool {
        self.done.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}

fn flip(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word ^= 1 << (at % 64);
    }
}

#[cfg(test)]
mod tests;
