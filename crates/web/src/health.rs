//! What is wrong at present: the results of checks, for requests and for operators.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The results of all checks. Clones share them. Without checks, all is well.
#[derive(Clone, Debug, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What each check has found.
    results: RwLock<BTreeMap<String, Result<(), String>>>,
    /// Whether one of them is an error: this is asked for every request.
    fails: AtomicBool,
}

impl Health {
    /// Keeps the latest result of a check; an error's text goes to operators, not to clients.
    pub fn report(&self, check: &str, result: Result<(), String>) {
        let mut results = self.shared.results.write().unwrap_or_else(PoisonError::into_inner);
        results.insert(check.to_owned(), result);
        let fails = results.values().any(Result::is_err);
        self.shared.fails.store(fails, Ordering::Release);
    }

    /// Whether no check fails.
    pub fn is_good(&self) -> bool {
        !self.shared.fails.load(Ordering::Acquire)
    }

    /// The checks that fail, and why.
    pub fn failures(&self) -> BTreeMap<String, String> {
        let failure = |(name, result): (&String, &Result<(), String>)| {
            Some((name.clone(), result.as_ref().err()?.clone()))
        };
        self.read(|results| results.iter().filter_map(failure).collect())
    }

    /// Every check that has run, and whether it fails.
    pub(crate) fn checks(&self) -> Vec<(String, bool)> {
        self.read(|results| {
            results.iter().map(|(name, result)| (name.clone(), result.is_err())).collect()
        })
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<String, Result<(), String>>) -> T) -> T {
        look(&self.shared.results.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_enough() {
        let health = Health::default();
        assert!(health.is_good());
        health.report("a", Err("broken".to_owned()));
        health.report("b", Ok(()));
        assert!(!health.is_good());
        assert_eq!(health.failures(), BTreeMap::from([("a".to_owned(), "broken".to_owned())]));
        health.report("a", Ok(()));
        assert!(health.is_good() && health.failures().is_empty());
    }
}
