//! Three servers behind nginx, PostgreSQL, Redis and an object store of three nodes, each on a machine of
//! its own: while clients push and pull, programs are killed, paused and cut off, or the servers are
//! replaced by a newer version. What was acknowledged is whole in the end, and tags behave as if
//! there were one server.

mod faults;
mod history;
mod linearizable;
mod load;
mod service;
mod stack;
mod topology;
mod upgrade;

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::docker::Docker;
use crate::pusher::{Pusher, Tally};
use crate::random::Random;
use crate::scenario::{Scenario, Stage, wait_until};
use faults::Faults;
use history::History;
use load::{Client, Images, Manifests, Reports, Tagger, Tool};
use stack::{Cluster, REPLICAS};
use topology::Network;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("cluster: faults for a minute", 600, |stage| {
        troubled(stage, Duration::from_mins(1))
    }),
    Scenario::new("cluster: faults for a quarter of an hour", 3600, |stage| {
        troubled(stage, Duration::from_mins(15))
    })
    .long(),
    Scenario::new("cluster: replaced by a newer version under load", 3600, upgrade::rolling).long(),
];

/// Clients of each kind.
const PUSHERS: usize = 4;
const TAGGERS: usize = 6;
/// Tags that they fight over.
const NAMES: usize = 4;
/// The longest blob.
const LONGEST: usize = 20_000_000;

fn troubled(stage: &Stage, duration: Duration) -> Result<()> {
    alone(|| {
        let mut random = Random::printed("cluster");
        let mut cluster = Cluster::start(stage, stage.binary())?;
        let mut faults = Faults::new(stage, random.fork());
        let play = Play { stage, duration };
        let outcome = play
            .run(&mut cluster, &mut random, |cluster, stop| faults.make(cluster, duration, stop));
        match outcome {
            Ok(outcome) => {
                crate::say(&format!("cluster: {} faults; {}", faults.count, outcome.summary));
                Ok(())
            }
            Err(error) => {
                let complaints: String = REPLICAS.map(|name| stage.complaints(name)).concat();
                bail!("{error:#}\n    faults:\n      {}{complaints}", faults.log.join("\n      "))
            }
        }
    })
}

/// On a thread of its own, which is moved to another network.
fn alone(play: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        scope.spawn(play).join().unwrap_or_else(|_| bail!("the scenario panicked"))
    })
}

/// Clients at work on a cluster, and what is looked at afterwards.
struct Play<'a> {
    stage: &'a Stage,
    /// How long the clients work.
    duration: Duration,
}

impl Play<'_> {
    fn run(
        &self,
        cluster: &mut Cluster,
        random: &mut Random,
        meanwhile: impl FnOnce(&mut Cluster, &AtomicBool) -> Result<()>,
    ) -> Result<Outcome> {
        let (front, replicas) = (cluster.front.clone(), cluster.replicas());
        let (history, manifests) = (History::new(NAMES), Manifests::default());
        Tagger::prepare(&front)?;
        let range = Network::range();
        let docker = Docker::start_as(self.stage, "dockerd", |command| {
            command.arg(format!("--insecure-registry={range}"));
        })?;
        let mut pushers: Vec<_> = (0..PUSHERS)
            .map(|number| Pusher::new(&front, number, LONGEST, random.fork()).in_cluster())
            .collect();
        let mut clients: Vec<Box<dyn Client + '_>> = Vec::new();
        for pusher in &mut pushers {
            clients.push(Box::new(pusher));
        }
        for _ in 0..TAGGERS {
            let tagger = Tagger::new(&history, &manifests, random.fork(), &front, &replicas);
            clients.push(Box::new(tagger));
        }
        for tool in [Tool::Crane, Tool::Skopeo, Tool::Docker(docker)] {
            clients.push(Box::new(Images::new(self.stage, tool, &front)));
        }
        let reports = load::work(&mut clients, random, |stop| meanwhile(cluster, stop))?;
        let begun = Instant::now();
        check(&mut clients, &replicas)?;
        drop(clients);
        let (operations, tags) = history.is_linearizable()?;
        cluster.stop_and_check(self.stage)?;
        is_tidy(cluster, self.stage, &reports)?;
        let tally = pushers.iter().fold(Tally::default(), |tally, one| tally.plus(one.tally()));
        reports.is_enough()?;
        let summary = format!(
            "{} s of load; {reports}; {tally}; {operations} operations on {tags} tags are \
             linearizable; all was whole at each server, checked in {} s",
            self.duration.as_secs(),
            begun.elapsed().as_secs()
        );
        Ok(Outcome { reports, tally, summary })
    }
}

/// What the clients went through, and all of it in a line.
struct Outcome {
    reports: Reports,
    tally: Tally,
    summary: String,
}

/// Every client looks at every server for all that was acknowledged.
fn check(clients: &mut [Box<dyn Client + '_>], replicas: &[String]) -> Result<()> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || replicas.iter().try_for_each(|host| client.check(host)))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| bail!("a client panicked")))
            .fold(Ok(()), Result::and)
    })
}

/// Longer than a server can hold an upload after its end.
const LEASE: Duration = Duration::from_secs(12);

/// An upload that a client gave up stays until it is purged; nothing else does. Tools try again by
/// themselves, and do not say how often.
fn is_tidy(cluster: &Cluster, stage: &Stage, reports: &Reports) -> Result<()> {
    let count = |sql: &str| -> Result<usize> { Ok(cluster.query(stage, sql)?.parse()?) };
    let uploads = count(
        "SELECT count(*) FROM uploads JOIN repositories ON repositories.id = repository_id \
         WHERE name LIKE 'pushes/%' OR name LIKE 'mounts/%'",
    )?;
    let failures = reports.uploads.failures;
    ensure!(uploads <= failures, "{uploads} uploads are left after {failures} failures");
    // A lease that was not given back runs out by itself.
    wait_until(LEASE, || {
        let held = count(
            "SELECT count(*) FROM uploads JOIN leases ON leases.name = uploads.holder \
             WHERE leases.until > extract(epoch FROM now()) * 1000000",
        )?;
        ensure!(held == 0, "{held} uploads are held by servers that have ended");
        Ok(())
    })
}
