//! Tokens that were good a moment ago. A client sends the same one with each request, and checking
//! a signature costs several times what the request does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Granted;

/// For so long a token is not checked again: a key that was taken away may still count.
const REMEMBER: Duration = Duration::from_secs(5);

/// Tokens that are remembered, about, and the bytes of all.
const USUAL: usize = 1024;
const MAX_BYTES: u64 = 4 << 20;

/// Tokens by their text.
pub(super) struct Remembered {
    good: Cache<Box<str>, Good, ByLength>,
}

#[derive(Clone)]
struct Good {
    granted: Arc<Granted>,
    checked: Instant,
}

impl Remembered {
    pub(super) fn new() -> Self {
        Self { good: Cache::with_weighter(USUAL, MAX_BYTES, ByLength) }
    }

    /// What the token grants, if it was good a moment ago and is not too old `now` (seconds since
    /// the epoch).
    pub(super) fn get(&self, token: &str, now: f64) -> Option<Arc<Granted>> {
        let Good { granted, checked } = self.good.get(token)?;
        (checked.elapsed() < REMEMBER && now < granted.until).then_some(granted)
    }

    /// The token is good.
    pub(super) fn insert(&self, token: &str, granted: &Arc<Granted>) {
        let good = Good { granted: Arc::clone(granted), checked: Instant::now() };
        self.good.insert(token.into(), good);
    }
}

/// What a token grants is about as long as its text.
#[derive(Clone)]
struct ByLength;

impl Weighter<Box<str>, Good> for ByLength {
    fn weight(&self, token: &Box<str>, _: &Good) -> u64 {
        2 * token.len() as u64 + 128
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::claims;

    #[test]
    fn a_token_is_remembered_until_it_ends() {
        let payload = br#"{"iss":"i","aud":"s","exp":1000}"#;
        let granted = Arc::new(claims::granted(payload, "i", "s", 900.0).unwrap());
        let remembered = Remembered::new();
        assert!(remembered.get("token", 900.0).is_none());
        remembered.insert("token", &granted);
        assert!(remembered.get("token", 900.0).is_some());
        assert!(remembered.get("token", 1059.0).is_some(), "clocks differ");
        assert!(remembered.get("token", 1060.0).is_none());
        assert!(remembered.get("Token", 900.0).is_none());
    }
}
