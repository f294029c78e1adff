//! For how long an answer may be kept although others may have written since.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Cuts time into periods as long as an answer may be kept: one that is used only in the period
/// that it was asked for in is never older.
pub(super) struct Staleness {
    limit: Duration,
    begun: Instant,
    /// Writes of this server that have ended: what it was told itself it knows at once.
    writes: AtomicU32,
}

impl Staleness {
    /// Without a `limit`, no answer may be kept.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, begun: Instant::now(), writes: AtomicU32::new(0) }
    }

    pub(super) fn note_write(&self) {
        self.writes.fetch_add(1, Ordering::Release);
    }

    /// How many writes have ended.
    pub(super) fn writes(&self) -> u32 {
        self.writes.load(Ordering::Acquire)
    }

    /// A number that changes with each period and each write; `None` without a limit.
    pub(super) fn version(&self) -> Option<u64> {
        let writes = u64::from(self.writes());
        let period = self.begun.elapsed().as_nanos().checked_div(self.limit.as_nanos())?;
        Some(u64::try_from(period).ok()? << 32 | writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_a_period_or_until_a_write() {
        assert_eq!(Staleness::new(Duration::ZERO).version(), None);
        let day = Staleness::new(Duration::from_hours(24));
        let before = day.version().unwrap();
        assert_eq!(day.version(), Some(before));
        day.note_write();
        assert_ne!(day.version(), Some(before));
        let instant = Staleness::new(Duration::from_nanos(1));
        let before = instant.version();
        while instant.begun.elapsed() < Duration::from_nanos(1) {}
        assert_ne!(instant.version(), before);
    }
}
