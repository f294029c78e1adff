//! Random choices that can be repeated: the seed is printed.

use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that repeats a run.
const SEED: &str = "E2E_SEED";

/// A xorshift generator: good enough to choose what to do next.
pub(crate) struct Random(u64);

impl Random {
    /// From [`SEED`], or else from the clock. The seed is printed for `subject`.
    pub(crate) fn printed(subject: &str) -> Self {
        let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        let clock = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |now| u64::from(now.subsec_nanos()))
        };
        let seed = given.unwrap_or_else(clock);
        crate::say(&format!("{subject}: {SEED}={seed}"));
        Self::new(seed)
    }

    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // Small seeds differ in a few bits only; these rounds spread them.
        for _ in 0..8 {
            random.next();
        }
        random
    }

    /// Another generator, which does not depend on how much this one is used later.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        let span = (high - low) as u64 + 1;
        low + usize::try_from(self.next() % span).unwrap_or_default()
    }

    /// True once in `count` times.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.between(1, count) == 1
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(length).collect()
    }
}
