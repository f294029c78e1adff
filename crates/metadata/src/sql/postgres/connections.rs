//! How the connections are used, for operators.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How the connections to PostgreSQL are used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Connections {
    /// So many there may be at a time.
    pub limit: usize,
    /// Those that transactions have at present.
    pub used: usize,
    /// Those that are open beside these.
    pub idle: usize,
    /// How long transactions have waited, all together, because others had all connections.
    pub waited: Duration,
    /// Transactions that were run again because they had lost against others.
    pub conflicts: u64,
    /// Transactions whose connection broke.
    pub broken: u64,
}

/// What is counted.
#[derive(Default)]
pub(super) struct Counts {
    waited_micros: AtomicU64,
    conflicts: AtomicU64,
    broken: AtomicU64,
}

impl Counts {
    pub(super) fn waited(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn broke(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, connections: Connections) -> Connections {
        Connections {
            waited: Duration::from_micros(self.waited_micros.load(Ordering::Relaxed)),
            conflicts: self.conflicts.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
            ..connections
        }
    }
}
