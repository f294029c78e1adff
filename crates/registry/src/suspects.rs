//! Content that a store had lost when somebody wanted it.
//!
//! Where a store loses nothing, a HEAD does not ask it. What was missed once is asked for, so that
//! clients push it again.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci::Digest;

/// How many are remembered. A store that has lost more has other troubles.
const MAX: usize = 10_000;

/// Digests of content that was missed.
#[derive(Debug, Default)]
pub(crate) struct Suspects(Mutex<HashSet<Digest>>);

impl Suspects {
    pub(crate) fn add(&self, digest: &Digest) {
        let mut suspects = self.lock();
        if suspects.len() < MAX {
            suspects.insert(*digest);
        }
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.lock().contains(digest)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
