//! An object store of three nodes, two of which have each object. One of them dies or hangs while
//! clients push.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::http::{Http, array};
use crate::ports::free_ports;
use crate::process::Daemon;
use crate::pusher::{Pusher, Tally};
use crate::random::Random;
use crate::registry::Setup;
use crate::scenario::{Scenario, Stage, wait_until};
use crate::seaweedfs::{Bucket, identities};

/// Only with an object store.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("store nodes: one of three is killed while clients push", 300, |stage| {
        while_clients_push(stage, |nodes, stage, node| {
            nodes.kill(node)?;
            std::thread::sleep(TROUBLE);
            nodes.start(stage, node)
        })
    }),
    Scenario::new("store nodes: one of three hangs while clients push", 300, |stage| {
        while_clients_push(stage, |nodes, _, node| {
            nodes.signal(node, Signal::STOP)?;
            std::thread::sleep(TROUBLE);
            nodes.signal(node, Signal::CONT)
        })
    }),
];

const CLIENTS: usize = 4;
/// The longest blob: several parts.
const LONGEST: usize = 14_000_000;
const ROUNDS: usize = 4;
/// How long a node is away.
const TROUBLE: Duration = Duration::from_secs(5);
/// How long clients push before and after that.
const PEACE: Duration = Duration::from_secs(1);

const START_LIMIT: Duration = Duration::from_mins(1);

/// Nobody has to try anything twice, and nothing is lost.
fn while_clients_push(
    stage: &Stage,
    trouble: fn(&mut Nodes, &Stage, usize) -> Result<()>,
) -> Result<()> {
    let mut random = Random::printed("store nodes");
    let mut nodes = Nodes::start_all(stage)?;
    let setup = Setup {
        environment: vec![
            ("REGISTRY_STORAGE_S3_REGIONENDPOINT", nodes.bucket.url.clone()),
            ("REGISTRY_STORAGE_S3_CHUNKSIZE", (5 << 20).to_string()),
            ("REGISTRY_STORAGE_REDIRECT_DISABLE", "true".to_owned()),
        ],
        ..Setup::default()
    };
    stage.with_registry_set_up(&setup, |registry| {
        let mut clients = (0..CLIENTS)
            .map(|number| Pusher::new(&registry.host, number, LONGEST, random.fork()))
            .collect::<Vec<_>>();
        for round in 0..ROUNDS {
            let node = random.between(0, nodes.volumes.len() - 1);
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let pushes = scope.spawn(|| {
                    Pusher::each(&mut clients, |client| {
                        while !over.load(Ordering::SeqCst) {
                            client.push(1)?;
                        }
                        Ok(())
                    })
                });
                std::thread::sleep(PEACE);
                let troubled = trouble(&mut nodes, stage, node).and_then(|()| nodes.wait(stage));
                std::thread::sleep(PEACE);
                over.store(true, Ordering::SeqCst);
                let pushed = pushes.join().unwrap_or_else(|_| anyhow::bail!("a client panicked"));
                pushed.and(troubled)
            })
            .with_context(|| format!("round {round}, node {node}"))?;
            Pusher::each(&mut clients, Pusher::check_sample)?;
        }
        // Every object has a second copy.
        nodes.kill(random.between(0, nodes.volumes.len() - 1))?;
        Pusher::each(&mut clients, Pusher::check_all).context("with two nodes")?;
        let tally =
            clients.iter().fold(Tally::default(), |tally, client| tally.plus(client.tally()));
        crate::say(&format!("store nodes: {tally}"));
        tally.lost_nothing()
    })
}

/// A master, three volume servers, and a filer that speaks S3. They end with this.
struct Nodes {
    master: Daemon,
    /// Where the master is, for HTTP.
    known: String,
    volumes: Vec<Volume>,
    filer: Option<Daemon>,
    bucket: Bucket,
}

struct Volume {
    process: Daemon,
    name: &'static str,
    port: u16,
}

impl Nodes {
    fn start_all(stage: &Stage) -> Result<Self> {
        let [master, first, second, third, filer, s3] = free_ports()?;
        let known = format!("127.0.0.1:{master}");
        let folder = stage.folder("master")?;
        let process = stage.daemon("master", "weed", |command| {
            command.args(["master", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-telemetry=false"]);
            // One more copy, on another rack.
            command.args(["-defaultReplication=010", "-volumeSizeLimitMB=64"]);
            command.arg(format!("-port={master}")).arg(format!("-mdir={}", folder.display()));
        })?;
        let volumes = [("volume-1", first), ("volume-2", second), ("volume-3", third)]
            .into_iter()
            .map(|(name, port)| {
                Ok(Volume { process: start_volume(stage, &known, name, port)?, name, port })
            })
            .collect::<Result<_>>()?;
        let bucket = Bucket { url: format!("http://127.0.0.1:{s3}") };
        let mut nodes = Self { master: process, known, volumes, filer: None, bucket };
        nodes.wait(stage)?;
        let (folder, config) = (stage.folder("filer")?, identities(stage)?);
        nodes.filer = Some(stage.daemon("filer", "weed", |command| {
            command.args(["filer", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]);
            // These would be the same for every server of a machine.
            command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
            command.arg(format!("-port={filer}")).arg(format!("-s3.port={s3}"));
            command.arg(format!("-master={}", nodes.known));
            command.arg(format!("-s3.config={}", config.display()));
            command.arg(format!("-defaultStoreDir={}", folder.display())).current_dir(&folder);
            command.args(["-localSocket=filer.sock", "-s3.localSocket=s3.sock"]);
        })?);
        wait_until(START_LIMIT, || nodes.bucket.make(stage))?;
        Ok(nodes)
    }

    /// Waits until the master knows all volume servers.
    fn wait(&self, stage: &Stage) -> Result<()> {
        let http = Http::new(&self.known, stage.remaining()?);
        let begin = Instant::now();
        wait_until(START_LIMIT, || {
            let status = http.get("/dir/status")?.expect(200)?.json()?;
            let topology = status.get("Topology").context("no topology")?;
            let racks = array(topology, "DataCenters").iter().flat_map(|one| array(one, "Racks"));
            let nodes = racks.flat_map(|rack| array(rack, "DataNodes")).count();
            ensure!(nodes == self.volumes.len(), "{nodes} nodes after {:?}", begin.elapsed());
            Ok(())
        })
    }

    fn kill(&mut self, node: usize) -> Result<()> {
        self.volumes.get_mut(node).context("no such node")?.process.kill()
    }

    fn signal(&self, node: usize, signal: Signal) -> Result<()> {
        self.volumes.get(node).context("no such node")?.process.signal(signal)
    }

    /// Starts a node that was killed.
    fn start(&mut self, stage: &Stage, node: usize) -> Result<()> {
        let volume = self.volumes.get_mut(node).context("no such node")?;
        volume.process = start_volume(stage, &self.known, volume.name, volume.port)?;
        Ok(())
    }
}

impl Drop for Nodes {
    /// Asked to end, they take half a minute; and some do not when another is gone.
    fn drop(&mut self) {
        let volumes = self.volumes.iter_mut().map(|volume| &mut volume.process);
        for process in self.filer.iter_mut().chain(volumes).chain([&mut self.master]) {
            let _ = process.kill();
        }
    }
}

fn start_volume(stage: &Stage, master: &str, name: &'static str, port: u16) -> Result<Daemon> {
    let folder = stage.folder(name)?;
    stage.daemon(name, "weed", |command| {
        command.args(["volume", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dataCenter=one"]);
        command.args(["-max=100".to_owned(), format!("-rack={name}"), format!("-port={port}")]);
        command.arg(format!("-mserver={master}")).arg(format!("-dir={}", folder.display()));
    })
}
