//! Seeded chance: what looks random is the same in every run and for every server.

/// The odd constant of the splitmix64 generator.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The splitmix64 generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give the same numbers a step apart.
        Self(mix(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// From 0 to 1, without 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are kept")]
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The bias is 1 in 2^64 / end: nothing that a measurement sees.
        u64::try_from((u128::from(self.next()) * u128::from(end)) >> 64).unwrap_or(0)
    }

    /// An index of `list`, which is not empty.
    pub(crate) fn index<T>(&mut self, list: &[T]) -> usize {
        usize::try_from(self.below(list.len() as u64)).unwrap_or(0)
    }

    /// One of `list`, if it is not empty.
    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        if list.is_empty() { None } else { list.get(self.index(list)) }
    }

    /// Exponentially distributed with mean 1: the gaps of independent arrivals.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.share()).ln()
    }

    /// Normally distributed with mean 0 and deviation 1 (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.share()).cos()
    }

    /// Brings `list` into any order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            let other = self.below(end as u64 + 1);
            list.swap(end, usize::try_from(other).unwrap_or(end));
        }
    }
}

/// Ranks from 0 whose chance falls with the rank: rank r has a weight of 1 / (r + 1)^exponent.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    /// The sum of the weights up to each rank.
    sums: Vec<f64>,
}

impl Zipf {
    /// Over `count` ranks, at least one.
    #[allow(clippy::cast_precision_loss, reason = "ranks are few")]
    pub(crate) fn new(count: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=count.max(1)).map(|rank| (rank as f64).powf(-exponent));
        let sums = weights.map(|weight| {
            sum += weight;
            sum
        });
        Self { sums: sums.collect() }
    }

    pub(crate) fn rank(&self, random: &mut Random) -> usize {
        let total = self.sums.last().copied().unwrap_or(0.0);
        let point = random.share() * total;
        self.sums.partition_point(|&sum| sum <= point).min(self.sums.len() - 1)
    }
}

/// Spreads every bit of a word over all of them.
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(count: u32, mut value: impl FnMut() -> f64) -> f64 {
        (0..count).map(|_| value()).sum::<f64>() / f64::from(count)
    }

    #[test]
    fn shares_and_gaps_have_their_means() {
        let mut random = Random::new(1);
        assert!((mean(100_000, || random.share()) - 0.5).abs() < 0.01);
        assert!((mean(100_000, || random.exponential()) - 1.0).abs() < 0.02);
        assert!(mean(100_000, || random.normal()).abs() < 0.02);
        assert!((mean(100_000, || random.normal().powi(2)) - 1.0).abs() < 0.05);
    }

    #[test]
    fn numbers_stay_below_their_end() {
        let mut random = Random::new(2);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[usize::try_from(random.below(7)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 7]);
    }

    #[test]
    fn a_shuffled_list_keeps_its_members() {
        let mut list: Vec<u32> = (0..100).collect();
        Random::new(3).shuffle(&mut list);
        assert_ne!(list, (0..100).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_rank_is_the_most_popular() {
        let zipf = Zipf::new(10_000, 1.0);
        let mut random = Random::new(4);
        let mut counts = vec![0_u32; 10_000];
        for _ in 0..100_000 {
            counts[zipf.rank(&mut random)] += 1;
        }
        // The harmonic number of 10,000 is 9.79.
        let first = f64::from(counts[0]) / 100_000.0;
        assert!((first - 1.0 / 9.79).abs() < 0.005, "{first}");
        assert!((f64::from(counts[0]) / f64::from(counts[1]) - 2.0).abs() < 0.2);
    }
}
