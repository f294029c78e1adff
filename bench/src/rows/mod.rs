//! The rows of the table: one kind of work each.

mod clients;
mod cold;
mod constant;
mod crowd;
mod growth;
mod life;
mod list;
mod mix;
mod popular;
mod range;
mod read;
mod write;
mod zb;

use std::time::Duration;

use crate::goal::Goal;
use crate::load::{Bound, Load, Sample};
use crate::registry::Shelf;
use crate::seed::Seed;
use crate::server::{Kind, Server};
use crate::trace::Extent;
use crate::unit::Unit;

/// One row: some work, and what its figure means.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    kinds: Vec<Kind>,
    /// Whether it needs the many tags and repositories.
    pub(crate) needs_lists: bool,
    /// One round is enough, as each costs much and memory does not scatter.
    pub(crate) once: bool,
    /// Why it does not always run.
    pub(crate) extra: Option<Extra>,
    pub(crate) goals: Vec<Goal>,
    work: Work,
}

/// A kind of rows that take long, and that not every run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    /// Stores with a million entries.
    Growth,
    /// Clients that have to be installed.
    Clients,
    /// What a short run can do without.
    Long,
}

type Work = Box<dyn Fn(&mut Server, &Pass<'_>) -> anyhow::Result<Sample>>;

/// What a row needs to know about the run and the round.
pub(crate) struct Pass<'a> {
    /// From 0; in round 0 a row also checks what the server answers.
    pub(crate) round: u32,
    pub(crate) scale: &'a Scale,
    pub(crate) seed: &'a Seed,
    /// The large blobs of this round.
    pub(crate) shelf: Shelf,
}

/// How long everything takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Of a sample that is bound by time.
    pub(crate) sample: Duration,
    /// Large pushes in one sample.
    pub(crate) pushes: u64,
    /// Bytes of each layer in the memory row.
    pub(crate) layer: u64,
    /// Of the replayed production workload.
    pub(crate) mix: Extent,
}

impl Scale {
    pub(crate) fn full() -> Self {
        let mix = Extent { requests: 4_000, divisor: 8 };
        Self { sample: Duration::from_secs(2), pushes: 3, layer: 1 << 30, mix }
    }

    pub(crate) fn short() -> Self {
        let mix = Extent { requests: 600, divisor: 32 };
        Self { sample: Duration::from_millis(500), pushes: 1, layer: 64 << 20, mix }
    }

    fn timed(&self, connections: usize) -> Load {
        Load { connections, bound: Bound::Time(self.sample) }
    }
}

impl Row {
    fn new(
        name: impl Into<String>,
        unit: Unit,
        work: impl Fn(&mut Server, &Pass<'_>) -> anyhow::Result<Sample> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            unit,
            kinds: vec![Kind::Orlop, Kind::DockerRegistry],
            needs_lists: false,
            once: false,
            extra: None,
            goals: vec![Goal::Ahead(1.0)],
            work: Box::new(work),
        }
    }

    /// nginx can do it too.
    fn static_files(self) -> Self {
        self.with(Kind::Nginx)
    }

    fn with(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Only Orlop can do it in bearable time, or at all.
    fn ours(self) -> Self {
        Self { kinds: vec![Kind::Orlop], ..self }
    }

    /// Not in every run.
    fn only(self, extra: Extra) -> Self {
        Self { extra: Some(extra), ..self }
    }

    fn needs_lists(self) -> Self {
        Self { needs_lists: true, ..self }
    }

    fn once(self) -> Self {
        Self { once: true, ..self }
    }

    fn goals(self, goals: impl Into<Vec<Goal>>) -> Self {
        Self { goals: goals.into(), ..self }
    }

    /// Whether this server takes part.
    pub(crate) fn suits(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Takes one sample.
    pub(crate) fn sample(&self, server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
        (self.work)(server, pass)
    }
}

/// All rows, in the order in which they run: the ones that restart the servers last.
pub(crate) fn all() -> Vec<Row> {
    let rows = [
        read::rows(),
        range::rows(),
        popular::rows(),
        cold::rows(),
        list::rows(),
        write::rows(),
        constant::rows(),
        mix::rows(),
        zb::rows(),
        crowd::rows(),
        clients::rows(),
        growth::rows(),
        life::rows(),
    ];
    rows.into_iter().flatten().collect()
}
