//! What the samples of a row come to.

use crate::goal::Goal;
use crate::load::Sample;
use crate::server::Kind;
use crate::unit::Unit;

/// A row that has run.
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) goals: Vec<Goal>,
    pub(crate) servers: Vec<Figures>,
}

/// The share of the machine that others have used, in the middle of all samples.
pub(crate) fn foreign(outcomes: &[Outcome]) -> f64 {
    let figures = outcomes.iter().flat_map(|outcome| &outcome.servers);
    let samples = figures.flat_map(|figures| &figures.samples);
    // Some samples, of a server that idles or starts, do not look at it.
    let loaded = samples.filter(|sample| sample.load_cpu > 0.0);
    Spread::of(loaded.map(|sample| sample.foreign)).median
}

/// A row's figures for one server.
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) samples: Vec<Sample>,
    pub(crate) value: Spread,
    pub(crate) cpu: Option<Spread>,
    /// PostgreSQL's processor time for the same work, if the server asks it.
    pub(crate) database_cpu: Option<Spread>,
    /// The same of the object store.
    pub(crate) store_cpu: Option<Spread>,
}

/// A figure over all rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Outcome {
    pub(crate) fn of(&self, kind: Kind) -> Option<&Figures> {
        self.servers.iter().find(|figures| figures.kind == kind)
    }

    /// How many times better Orlop is than `other`; above 1 is ahead.
    pub(crate) fn lead(&self, other: Kind) -> Option<f64> {
        let ours = self.of(Kind::Orlop)?.value.median;
        let theirs = self.of(other)?.value.median;
        Some(self.unit.lead(ours, theirs))
    }

    /// How many times less processor time Orlop takes than `other`; above 1 is ahead.
    pub(crate) fn cpu_lead(&self, other: Kind) -> Option<f64> {
        let ours = self.of(Kind::Orlop)?.cpu?.median;
        let theirs = self.of(other)?.cpu?.median;
        (ours > 0.0).then(|| theirs / ours)
    }
}

impl Figures {
    pub(crate) fn new(kind: Kind, unit: Unit, samples: Vec<Sample>) -> Self {
        let value = Spread::of(samples.iter().map(|sample| unit.value(sample)));
        let spread = |share: &dyn Fn(&Sample) -> Option<f64>| {
            let shares: Option<Vec<f64>> = samples.iter().map(share).collect();
            shares.map(|shares| Spread::of(shares.into_iter()))
        };
        let behind = |seconds: fn(&Sample) -> f64| {
            let used = samples.iter().any(|sample| seconds(sample) > 0.0);
            spread(&|sample| unit.share(seconds(sample), sample)).filter(|_| used)
        };
        Self {
            kind,
            value,
            cpu: spread(&|sample| unit.cpu(sample)),
            database_cpu: behind(|sample| sample.database_cpu),
            store_cpu: behind(|sample| sample.store_cpu),
            samples,
        }
    }

    /// Highest resident set of any round, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.samples.iter().map(|sample| sample.peak).max().unwrap_or(0)
    }

    /// Highest anonymous memory of any round, in bytes.
    pub(crate) fn anonymous(&self) -> u64 {
        self.samples.iter().map(|sample| sample.anonymous).max().unwrap_or(0)
    }

    /// Median over the rounds of another figure of the samples.
    pub(crate) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        Spread::of(self.samples.iter().map(figure)).median
    }

    /// Whether the load generator was the limit in most rounds.
    pub(crate) fn is_load_bound(&self) -> bool {
        let bound = self.samples.iter().filter(|sample| sample.is_load_bound()).count();
        bound * 2 > self.samples.len()
    }
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
        Self {
            median: f64::midpoint(lower, upper),
            min: sorted.first().copied().unwrap_or(0.0),
            max: sorted.last().copied().unwrap_or(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0].into_iter());
        assert!((spread.median - 2.5).abs() < 1e-9);
        assert!((spread.min - 1.0).abs() < 1e-9 && (spread.max - 4.0).abs() < 1e-9);
    }
}
