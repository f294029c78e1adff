//! The replay of a production workload: what the whole mix costs, and how long small requests take
//! while the server has work for 70 % of its time.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Pass, Row};
use crate::arrivals::Arrivals;
use crate::goal::Goal;
use crate::load::{self, Bound, Load, Sample};
use crate::server::{Kind, Server};
use crate::trace::{Replay, Stage};
use crate::unit::Unit;

const CONNECTIONS: usize = 64;
/// What moves less is a small request.
const SMALL: u64 = 1_000_000;

pub(super) fn rows() -> Vec<Row> {
    let mix = Rc::default();
    vec![
        row("production mix (c64)", Unit::Rate, &mix, Mix::capacity)
            .goals([Goal::Ahead(1.0), Goal::CpuAtMost(Kind::Distribution, 0.4)]),
        row("production mix at 70 % of capacity, requests under 1 MB", Unit::Tail, &mix, Mix::tail)
            .goals([Goal::Below(5.0)]),
    ]
}

/// What the rows share.
#[derive(Default)]
struct Mix {
    stage: OnceCell<Stage>,
    /// Operations per second of the last closed loop.
    capacities: RefCell<BTreeMap<Kind, f64>>,
}

fn row(
    name: &str,
    unit: Unit,
    mix: &Rc<Mix>,
    work: fn(&Mix, &Server, &Pass<'_>, &Stage) -> anyhow::Result<Sample>,
) -> Row {
    let mix = Rc::clone(mix);
    Row::new(name, unit, move |server, pass| {
        let stage = mix.stage.get_or_init(|| Stage::new(pass.scale.mix));
        if pass.round == 0 {
            stage.store(server)?;
        }
        work(&mix, server, pass, stage)
    })
}

impl Mix {
    /// In a closed loop: each connection does the next operation that no other has taken.
    #[allow(clippy::cast_precision_loss, reason = "operations of one sample are few")]
    fn capacity(&self, server: &Server, pass: &Pass<'_>, stage: &Stage) -> anyhow::Result<Sample> {
        let count = stage.operations();
        let sample = replay(server, pass, stage, "capacity", Bound::Total(count))?;
        self.capacities.borrow_mut().insert(server.kind(), count as f64 / sample.seconds);
        Ok(sample)
    }

    /// At a constant rate.
    fn tail(&self, server: &Server, pass: &Pass<'_>, stage: &Stage) -> anyhow::Result<Sample> {
        if !self.capacities.borrow().contains_key(&server.kind()) {
            self.capacity(server, pass, stage)?;
        }
        let capacity = self.capacities.borrow().get(&server.kind()).copied().unwrap_or(1.0);
        let arrivals = Arrivals { rate: 0.7 * capacity, count: stage.operations() };
        replay(server, pass, stage, "tail", Bound::Due(arrivals))
    }
}

fn replay(
    server: &Server,
    pass: &Pass<'_>,
    stage: &Stage,
    label: &str,
    bound: Bound,
) -> anyhow::Result<Sample> {
    let edition = format!("{label}-{}", pass.round);
    let replay = Replay::new(stage, pass.shelf, &edition);
    rustix::fs::sync();
    let load = Load { connections: CONNECTIONS, bound };
    let (mut sample, done) = load::record(server, load, |_| {
        let mut client = server.client();
        let replay = &replay;
        Ok(move |number| replay.operate(&mut client, number))
    })?;
    if pass.round == 0 {
        replay.check(server)?;
    }
    let small = done.iter().filter(|done| done.bytes < SMALL);
    sample.set_percentiles(small.map(|done| replay.own_time(done)));
    // Processor time is told for each request, and a push takes several.
    sample.operations = stage.requests();
    Ok(sample)
}
