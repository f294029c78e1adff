//! What a row's figure is: how it comes from a sample, and which direction is better.

use crate::load::Sample;

/// The figure that a row compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations per second; processor time per operation.
    Rate,
    /// Body bytes per second; processor time per byte.
    Bandwidth,
    /// Median time of an operation; processor time per operation.
    Latency,
    /// The time that 99 of 100 operations stay below; processor time per operation.
    Tail,
    /// Time of one operation that is the whole sample; its processor time.
    Start,
    /// Highest resident set.
    Resident,
    /// Highest anonymous memory; processor time per byte.
    Anonymous,
}

impl Unit {
    /// The figure of a sample.
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn value(self, sample: &Sample) -> f64 {
        match self {
            Self::Rate => sample.operations as f64 / sample.seconds,
            Self::Bandwidth => sample.bytes as f64 / 1e9 / sample.seconds,
            Self::Latency | Self::Start => sample.median,
            Self::Tail => sample.p99,
            Self::Resident => sample.peak as f64 / 1e6,
            Self::Anonymous => sample.anonymous as f64 / 1e6,
        }
    }

    /// The server's processor time for the same work, where that has a meaning.
    pub(crate) fn cpu(self, sample: &Sample) -> Option<f64> {
        self.share(sample.server_cpu, sample)
    }

    /// Of so many seconds in a sample, those that one operation, or a GB, has taken.
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn share(self, seconds: f64, sample: &Sample) -> Option<f64> {
        match self {
            Self::Rate | Self::Latency | Self::Tail => {
                Some(seconds * 1e6 / sample.operations as f64)
            }
            Self::Anonymous if sample.bytes == 0 => None,
            Self::Bandwidth | Self::Anonymous => Some(seconds / (sample.bytes as f64 / 1e9)),
            Self::Start => Some(seconds * 1e3),
            Self::Resident => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "1/s",
            Self::Bandwidth => "GB/s",
            Self::Latency | Self::Tail | Self::Start => "ms",
            Self::Resident | Self::Anonymous => "MB",
        }
    }

    pub(crate) fn cpu_name(self) -> &'static str {
        match self {
            Self::Rate | Self::Latency | Self::Tail => "µs each",
            Self::Bandwidth | Self::Anonymous => "s/GB",
            Self::Start => "ms",
            Self::Resident => "",
        }
    }

    /// How many times better `ours` is than `theirs`: above 1 is ahead.
    pub(crate) fn lead(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::Rate | Self::Bandwidth => ours / theirs,
            Self::Latency | Self::Tail | Self::Start | Self::Resident | Self::Anonymous => {
                theirs / ours
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_is_above_one_in_both_directions() {
        assert!(Unit::Rate.lead(200.0, 100.0) > 1.0);
        assert!(Unit::Latency.lead(1.0, 2.0) > 1.0);
    }

    #[test]
    fn figures_are_per_operation_and_per_gigabyte() {
        let sample = Sample {
            operations: 1000,
            bytes: 2_000_000_000,
            seconds: 0.5,
            server_cpu: 0.4,
            ..Sample::default()
        };
        assert!((Unit::Rate.value(&sample) - 2000.0).abs() < 1e-6);
        assert!((Unit::Bandwidth.value(&sample) - 4.0).abs() < 1e-6);
        assert_eq!(Unit::Rate.cpu(&sample).map(f64::round), Some(400.0));
        assert!((Unit::Bandwidth.cpu(&sample).unwrap() - 0.2).abs() < 1e-6);
    }
}
