//! What Orlop has to reach, and whether it did.

use crate::outcome::Outcome;
use crate::server::Kind;

/// Something that a row must show.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// So many times as good as docker-registry; 1 means ahead.
    Ahead(f64),
    /// The figure itself, in the row's unit.
    Below(f64),
    /// Anonymous memory grows by no more bytes between the halves of a sample.
    Flat(i64),
}

/// A goal that was missed, as a sentence.
pub(crate) fn missed(results: &[Outcome]) -> Vec<String> {
    results
        .iter()
        .flat_map(|result| result.goals.iter().filter_map(|goal| goal.miss(result)))
        .collect()
}

impl Goal {
    fn miss(self, result: &Outcome) -> Option<String> {
        let row = &result.name;
        let ours = result.of(Kind::Orlop)?;
        match self {
            Self::Ahead(times) => {
                let lead = result.lead(Kind::DockerRegistry)?;
                (lead < times || lead <= 1.0).then(|| {
                    format!("{row}: expected {times} × docker-registry or more, found {lead:.2} ×")
                })
            }
            Self::Below(limit) => {
                let (found, unit) = (ours.value.median, result.unit.name());
                (found >= limit)
                    .then(|| format!("{row}: expected less than {limit} {unit}, found {found:.1}"))
            }
            Self::Flat(limit) => {
                let growth = ours.samples.iter().map(|sample| sample.anonymous_growth).max()?;
                (growth > limit).then(|| {
                    format!("{row}: expected flat memory, found {growth} bytes more in the end")
                })
            }
        }
    }
}
