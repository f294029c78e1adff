//! When the operations of an open loop are due: independently of whether the server keeps up.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::random::Random;

/// The same gaps for every server and in every round.
const SEED: u64 = 0x0a11_0c8e_d5ee_d001;

/// Arrivals of many independent clients: exponential gaps around a constant rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrivals {
    /// Per second, over all connections.
    pub(crate) rate: f64,
    pub(crate) count: u64,
}

impl Arrivals {
    /// As many as come in this time on average, at least one.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few and positive")]
    pub(crate) fn during(rate: f64, time: Duration) -> Self {
        Self { rate, count: ((rate * time.as_secs_f64()) as u64).max(1) }
    }
}

/// The operations that are due, given out in order to whichever connection is free.
pub(crate) struct Schedule {
    /// After the beginning.
    due: Vec<Duration>,
    next: AtomicUsize,
}

impl Schedule {
    pub(crate) fn new(arrivals: Arrivals) -> Self {
        let mut random = Random::new(SEED);
        let mut seconds = 0.0;
        let due = (0..arrivals.count)
            .map(|_| {
                seconds += random.exponential() / arrivals.rate;
                Duration::from_secs_f64(seconds)
            })
            .collect();
        Self { due, next: AtomicUsize::new(0) }
    }

    /// Waits for the next operation that no connection has taken; its number and when it was due.
    /// It was due earlier than now if no connection was free: what it waited is part of its time.
    pub(crate) fn wait(&self, begin: Instant) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = begin + *self.due.get(number)?;
        sleep(due.saturating_duration_since(Instant::now()));
        Some((number as u64, due))
    }
}

/// Lets this thread wake when it asked for it; the kernel is 50 µs late otherwise.
pub(crate) fn wake_punctually() {
    // A kernel that refuses makes the figures worse by that, no more.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_on_average() {
        let schedule = Schedule::new(Arrivals::during(1000.0, Duration::from_secs(10)));
        assert_eq!(schedule.due.len(), 10_000);
        let last = schedule.due.last().unwrap().as_secs_f64();
        assert!((last - 10.0).abs() < 0.5, "{last}");
        assert!(schedule.due.is_sorted());
    }

    #[test]
    fn every_operation_is_given_out_once() {
        let schedule = Schedule::new(Arrivals { rate: 1e6, count: 3 });
        let begin = Instant::now();
        let numbers: Vec<_> =
            std::iter::from_fn(|| schedule.wait(begin)).map(|(number, _)| number).collect();
        assert_eq!(numbers, [0, 1, 2]);
    }
}
