//! What Orlop has to reach, and whether it did.

use crate::outcome::Outcome;
use crate::server::Kind;

/// Something that a row must show.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// So many times as good as docker-registry; 1 means ahead.
    Ahead(f64),
    /// The figure itself, in the row's unit.
    Below(f64),
    /// The figure is so many times another server's, or better.
    RateAtLeast(Kind, f64),
    /// Processor time, in the row's unit for it.
    CpuBelow(f64),
    /// Processor time is so many times another server's, or less.
    CpuAtMost(Kind, f64),
    /// Another server takes so many times the processor time, or more.
    CheaperThan(Kind, f64),
    /// Processor time is so many times what Orlop took in the row of that name, or less.
    NoDearer(String, f64),
    /// Beside the row of that name, processor time grows by so many times what another server's
    /// does, or less.
    GrowsWith(Kind, String, f64),
    /// The figure is so many times as bad as Orlop's in the row of that name, or better.
    NoWorse(String, f64),
    /// Anonymous memory grows by no more bytes between the halves of a sample.
    Flat(i64),
}

/// How it went with the goals of a run.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) reached: usize,
    /// A sentence for each.
    pub(crate) missed: Vec<String>,
    /// Those beside a server or a row that took no part.
    pub(crate) open: usize,
}

pub(crate) fn judge(outcomes: &[Outcome]) -> Verdict {
    let mut verdict = Verdict::default();
    for outcome in outcomes {
        for goal in &outcome.goals {
            match goal.finding(outcome, outcomes) {
                None => verdict.open += 1,
                Some(finding) if finding.reached => verdict.reached += 1,
                Some(Finding { expected, found, .. }) => verdict
                    .missed
                    .push(format!("{}: expected {expected}, found {found}", outcome.name)),
            }
        }
    }
    verdict
}

struct Finding {
    reached: bool,
    expected: String,
    found: String,
}

impl Goal {
    /// Nothing if what it speaks of was not measured.
    fn finding(&self, outcome: &Outcome, all: &[Outcome]) -> Option<Finding> {
        let ours = outcome.of(Kind::Orlop)?;
        let finding = match self {
            &Self::Ahead(times) => {
                let lead = outcome.lead(Kind::DockerRegistry)?;
                Finding {
                    reached: lead >= times && lead > 1.0,
                    expected: format!("{times} × docker-registry or more"),
                    found: format!("{lead:.2} ×"),
                }
            }
            &Self::Below(limit) => {
                let (found, unit) = (ours.value.median, outcome.unit.name());
                Finding {
                    reached: found < limit,
                    expected: format!("less than {limit} {unit}"),
                    found: format!("{found:.1}"),
                }
            }
            &Self::RateAtLeast(kind, times) => {
                let lead = outcome.lead(kind)?;
                Finding {
                    reached: lead >= times,
                    expected: format!("{times} × {} or more", kind.name()),
                    found: format!("{lead:.2} ×"),
                }
            }
            &Self::CpuBelow(limit) => {
                let (found, unit) = (ours.cpu?.median, outcome.unit.cpu_name());
                Finding {
                    reached: found <= limit,
                    expected: format!("processor time of {limit} {unit} or less"),
                    found: format!("{found:.1}"),
                }
            }
            &Self::CpuAtMost(kind, times) => {
                let share = 1.0 / outcome.cpu_lead(kind)?;
                Finding {
                    reached: share <= times,
                    expected: format!("processor time of {times} × {} or less", kind.name()),
                    found: format!("{share:.2} ×"),
                }
            }
            &Self::CheaperThan(kind, times) => {
                let lead = outcome.cpu_lead(kind)?;
                Finding {
                    reached: lead >= times,
                    expected: format!("{} to take {times} × the processor time", kind.name()),
                    found: format!("{lead:.2} ×"),
                }
            }
            Self::NoDearer(row, times) => {
                let other = all.iter().find(|outcome| outcome.name == *row)?;
                let share = ours.cpu?.median / other.of(Kind::Orlop)?.cpu?.median;
                Finding {
                    reached: share <= *times,
                    expected: format!("processor time of {times} × {row:?} or less"),
                    found: format!("{share:.2} ×"),
                }
            }
            Self::GrowsWith(kind, row, times) => {
                let other = all.iter().find(|outcome| outcome.name == *row)?;
                let growth =
                    |kind| Some(outcome.of(kind)?.cpu?.median / other.of(kind)?.cpu?.median);
                let (ours, theirs) = (growth(Kind::Orlop)?, growth(*kind)?);
                Finding {
                    reached: ours <= times * theirs,
                    expected: format!(
                        "processor time of {times} × {row:?} or less, times {theirs:.2} as {}'s",
                        kind.name()
                    ),
                    found: format!("{ours:.2} ×"),
                }
            }
            Self::NoWorse(row, times) => {
                let other = all.iter().find(|outcome| outcome.name == *row)?;
                let ours = ours.value.median;
                let worse = outcome.unit.lead(other.of(Kind::Orlop)?.value.median, ours);
                Finding {
                    reached: worse <= *times,
                    expected: format!("at most {times} × as bad as {row:?}"),
                    found: format!("{worse:.2} ×"),
                }
            }
            &Self::Flat(limit) => {
                let growth = ours.samples.iter().map(|sample| sample.anonymous_growth).max()?;
                Finding {
                    reached: growth <= limit,
                    expected: "flat memory".to_owned(),
                    found: format!("{growth} bytes more in the end"),
                }
            }
        };
        Some(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Sample;
    use crate::outcome::Figures;
    use crate::unit::Unit;

    fn outcome(name: &str, goals: Vec<Goal>, cpu: [(Kind, f64); 2]) -> Outcome {
        let figures = |(kind, server_cpu)| {
            let sample = Sample { operations: 10, seconds: 1.0, server_cpu, ..Sample::default() };
            Figures::new(kind, Unit::Rate, vec![sample])
        };
        let servers = cpu.into_iter().map(figures).collect();
        Outcome { name: name.to_owned(), unit: Unit::Rate, goals, servers }
    }

    #[test]
    fn goals_are_reached_missed_or_open() {
        let goals = vec![
            Goal::CpuAtMost(Kind::Nginx, 1.5),
            Goal::CpuAtMost(Kind::Nginx, 1.4),
            Goal::CheaperThan(Kind::Distribution, 2.0),
        ];
        let verdict = judge(&[outcome("r", goals, [(Kind::Orlop, 3.0), (Kind::Nginx, 2.0)])]);
        assert_eq!((verdict.reached, verdict.open), (1, 1));
        assert_eq!(
            verdict.missed,
            ["r: expected processor time of 1.4 × nginx or less, found 1.50 ×"]
        );
    }

    #[test]
    fn rows_are_compared_with_each_other() {
        let open = outcome("open", Vec::new(), [(Kind::Orlop, 1.0), (Kind::Nginx, 1.0)]);
        let goals = vec![Goal::NoDearer("open".to_owned(), 1.1)];
        let password = outcome("password", goals, [(Kind::Orlop, 1.2), (Kind::Nginx, 1.0)]);
        assert_eq!(judge(&[open, password]).missed.len(), 1);
    }

    #[test]
    fn what_the_machine_costs_is_not_held_against_replicas() {
        let one = outcome("1", Vec::new(), [(Kind::Orlop, 1.0), (Kind::Bare, 0.5)]);
        let goals = [1.1, 1.0].map(|times| Goal::GrowsWith(Kind::Bare, "1".to_owned(), times));
        let four = outcome("4", goals.to_vec(), [(Kind::Orlop, 1.25), (Kind::Bare, 0.6)]);
        let verdict = judge(&[one, four]);
        assert_eq!((verdict.reached, verdict.missed.len()), (1, 1));
    }

    #[test]
    fn large_stores_may_be_little_slower_than_small_ones() {
        let pages = |name: &str, goals, p99| {
            let sample = Sample { operations: 10, seconds: 1.0, p99, ..Sample::default() };
            let servers = vec![Figures::new(Kind::Orlop, Unit::Tail, vec![sample])];
            Outcome { name: name.to_owned(), unit: Unit::Tail, goals, servers }
        };
        let goals = [2.0, 1.9].map(|times| Goal::NoWorse("small".to_owned(), times));
        let verdict =
            judge(&[pages("small", Vec::new(), 1.0), pages("large", goals.to_vec(), 2.0)]);
        assert_eq!((verdict.reached, verdict.missed.len()), (1, 1));
    }
}
