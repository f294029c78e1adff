//! How large the blobs are that production registries are asked for.

const MB: f64 = 1e6;
const MIB: f64 = 1_048_576.0;

/// The floor of sizes that are divided: the share of requests under 1 MB must not change.
const KEPT: u64 = 1_000_001;

/// An interval of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    UnderOneMegabyte,
    UnderTenMegabytes,
    Under64Mebibytes,
    Under256Mebibytes,
    UnderOneGibibyte,
    Larger,
}

/// The classes and their shares of blob GETs.
pub(super) const CLASSES: [(Class, f64); 6] = [
    (Class::UnderOneMegabyte, 0.65),
    (Class::UnderTenMegabytes, 0.15),
    (Class::Under64Mebibytes, 0.1414),
    (Class::Under256Mebibytes, 0.0530),
    (Class::UnderOneGibibyte, 0.0051),
    (Class::Larger, 0.0005),
];

impl Class {
    /// The size that this share of the class's blobs stays below, sizes above 1 MB divided.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes of blobs")]
    pub(super) fn size(self, share: f64, divisor: u64) -> u64 {
        // The small classes are even on a logarithmic scale, the large ones thin out towards
        // their end, so that their means are the published ones: 30, 107, 457 and 2,200 MB.
        let size = match self {
            Self::UnderOneMegabyte => even(500.0, MB, share),
            Self::UnderTenMegabytes => even(MB, 10.0 * MB, share),
            Self::Under64Mebibytes => even(10.0 * MB, 64.0 * MIB, share),
            Self::Under256Mebibytes => thinning(64.0 * MIB, 256.0 * MIB, 45.0 * MB, share),
            Self::UnderOneGibibyte => thinning(256.0 * MIB, 1024.0 * MIB, 200.0 * MB, share),
            Self::Larger => thinning(1024.0 * MIB, 5e9, 1200.0 * MB, share),
        } as u64;
        if self == Self::UnderOneMegabyte { size } else { (size / divisor).max(KEPT) }
    }
}

fn even(from: f64, to: f64, share: f64) -> f64 {
    from * (to / from).powf(share)
}

/// `from` and something exponential, cut off at `to`.
fn thinning(from: f64, to: f64, mean: f64, share: f64) -> f64 {
    let whole = 1.0 - (-(to - from) / mean).exp();
    from - mean * (1.0 - share * whole).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(class: Class) -> f64 {
        let sizes = (0..1000).map(|number| class.size((f64::from(number) + 0.5) / 1000.0, 1));
        #[allow(clippy::cast_precision_loss)]
        let sum = sizes.sum::<u64>() as f64;
        sum / 1000.0 / MB
    }

    #[test]
    fn means_are_the_published_ones() {
        for (class, expected) in [
            (Class::Under64Mebibytes, 30.0),
            (Class::Under256Mebibytes, 107.0),
            (Class::UnderOneGibibyte, 457.0),
            (Class::Larger, 2200.0),
        ] {
            let found = mean(class);
            assert!((found / expected - 1.0).abs() < 0.05, "{class:?}: {found}");
        }
    }

    #[test]
    fn what_is_divided_stays_above_a_megabyte() {
        assert_eq!(Class::UnderTenMegabytes.size(0.5, 32), KEPT);
        assert!(Class::UnderOneMegabyte.size(0.999, 32) < 1_000_000);
    }
}
