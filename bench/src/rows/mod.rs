//! The rows of the table: one kind of work each.

mod clients;
mod cluster;
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
use crate::server::{Kind, Server, Setup};
use crate::trace::Extent;
use crate::unit::Unit;

const MIB: u64 = 1 << 20;

/// One row: some work, and what its figure means.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// How it reaches the servers.
    pub(crate) setup: Setup,
    kinds: Vec<Kind>,
    /// Rows with the same name here are measured in turn.
    turns: Option<&'static str>,
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
    /// PostgreSQL and an object store, which have to be installed.
    Cluster,
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
    /// The large blobs of the run.
    pub(crate) shelf: &'a Shelf,
}

/// How long everything takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Of a sample that is bound by time.
    pub(crate) sample: Duration,
    /// Connections that pull blobs up to 1 MiB.
    pub(crate) small_pulls: &'static [usize],
    /// Bytes and connections of larger pulls.
    pub(crate) pulls: &'static [(u64, usize)],
    /// Bytes that a sample of them moves, about.
    pub(crate) volume: u64,
    /// Bytes of large pushes, and how many clients push one each at once.
    pub(crate) pushes: &'static [(u64, usize)],
    /// Bytes of each layer in the memory row.
    pub(crate) layer: u64,
    /// Whether peers take part where many come at once: they take minutes for it.
    pub(crate) peers_with_crowds: bool,
    /// Of the replayed production workload.
    pub(crate) mix: Extent,
}

impl Scale {
    pub(crate) fn full() -> Self {
        Self {
            sample: Duration::from_secs(2),
            small_pulls: &[1, 8, 64],
            pulls: &[
                (100 * MIB, 1),
                (100 * MIB, 8),
                (100 * MIB, 64),
                (1024 * MIB, 1),
                (1024 * MIB, 8),
            ],
            volume: 4096 * MIB,
            pushes: &[(1024 * MIB, 1), (1024 * MIB, 4), (256 * MIB, 16)],
            layer: 1024 * MIB,
            peers_with_crowds: true,
            mix: Extent { requests: 4_000, divisor: 8 },
        }
    }

    pub(crate) fn short() -> Self {
        Self {
            sample: Duration::from_millis(400),
            small_pulls: &[8],
            pulls: &[(100 * MIB, 8)],
            volume: 2048 * MIB,
            pushes: &[(64 * MIB, 1), (8 * MIB, 16)],
            layer: 64 * MIB,
            peers_with_crowds: false,
            mix: Extent { requests: 600, divisor: 32 },
        }
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
            setup: Setup::Open,
            kinds: Kind::REGISTRIES.to_vec(),
            turns: None,
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

    /// Only Orlop can do it in bearable time, or at all.
    fn ours(self) -> Self {
        Self { kinds: vec![Kind::Orlop], ..self }
    }

    /// Not in every run.
    fn only(self, extra: Extra) -> Self {
        Self { extra: Some(extra), ..self }
    }

    fn with(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    fn without(mut self, kind: Kind) -> Self {
        self.kinds.retain(|&other| other != kind);
        self
    }

    fn over(self, setup: Setup) -> Self {
        Self { setup, ..self }
    }

    fn in_turn(self, turns: &'static str) -> Self {
        Self { turns: Some(turns), ..self }
    }

    /// zot would take hours to be filled with them.
    fn needs_lists(self) -> Self {
        Self { needs_lists: true, ..self }.without(Kind::Zot)
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

    /// Whether the samples of both are taken in turn.
    pub(crate) fn runs_with(&self, other: &Self) -> bool {
        self.turns.is_some() && self.turns == other.turns
    }

    /// Takes one sample.
    pub(crate) fn sample(&self, server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
        (self.work)(server, pass)
    }
}

/// All rows, in the order in which they run: the ones that restart the servers last.
pub(crate) fn all(scale: &Scale) -> Vec<Row> {
    let rows = [
        read::rows(scale),
        read::access_rows(),
        read::tls_rows(scale),
        range::rows(scale),
        popular::rows(),
        cold::rows(),
        list::rows(),
        write::rows(scale),
        constant::rows(),
        mix::rows(),
        zb::rows(),
        crowd::rows(scale),
        clients::rows(),
        cluster::rows(),
        growth::rows(),
        life::rows(),
    ];
    rows.into_iter().flatten().collect()
}
