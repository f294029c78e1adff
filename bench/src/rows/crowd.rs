//! Many at once: a herd that pulls a new image, connections that do nothing, and slow pulls beside
//! pushes. What it costs in memory, and what others see of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::{Digest as _, Sha256};

use super::{Extra, Pass, Row, Scale};
use crate::arrivals::Arrivals;
use crate::background;
use crate::content::name_of;
use crate::goal::Goal;
use crate::http::{Client, Request, Sink};
use crate::load::{self, Bound, Load, Sample};
use crate::random::Random;
use crate::registry::{self, ACCEPT, Blob, Upload};
use crate::seed::{self, READ, TAG, WRITE};
use crate::server::Server;
use crate::unit::Unit;

const CLIENTS: usize = 1000;
const LAYERS: u64 = 8;
/// Of the layer that a client of the herd pulls; the herd moves no more than 8 GiB.
const SHARE: u64 = 36;

/// Connections that do nothing, at most.
const MOST_IDLE: usize = 10_000;

const SLOW_PULLS: usize = 64;
const PUSHES: usize = 16;
const PUSHED: u64 = 16 << 20;
/// A slow client takes so much, and then nothing for a while: 3 MB/s.
const SIP: usize = 64 * 1024;
const PAUSE: Duration = Duration::from_millis(20);

/// What others ask for meanwhile, per second, and for how long.
const OTHERS: f64 = 300.0;
const MEANWHILE: Duration = Duration::from_secs(2);

pub(super) fn rows(scale: &Scale) -> Vec<Row> {
    let others = "manifest GET at 300/s";
    let idle_ones = format!("{} idle connections", idle_connections());
    let rows = vec![
        Row::new("memory, 1,000 clients pull a new image", Unit::Anonymous, herd)
            .static_files()
            .once()
            .goals([Goal::Below(40.0)]),
        Row::new(format!("{others}, nothing else"), Unit::Tail, alone).only(Extra::Long).goals([]),
        Row::new(format!("{others}, beside {idle_ones}"), Unit::Tail, idle)
            .once()
            .only(Extra::Long)
            .goals([]),
        Row::new(format!("memory, {idle_ones}"), Unit::Anonymous, |server, pass| {
            Ok(Sample { bytes: 0, ..idle(server, pass)? })
        })
        .once()
        .goals([Goal::Below(150.0)]),
        Row::new(format!("{others}, beside 64 slow pulls and 16 pushes"), Unit::Tail, slow)
            .only(Extra::Long)
            .goals([]),
        Row::new("memory, 64 slow pulls and 16 pushes", Unit::Anonymous, |server, pass| {
            Ok(Sample { bytes: 0, ..slow(server, pass)? })
        })
        .once()
        .goals([Goal::Below(40.0)]),
    ];
    if scale.peers_with_crowds {
        return rows;
    }
    rows.into_iter().map(Row::ours).collect()
}

fn herd(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    on_fresh(server, pass, |server| pull_together(server, pass))
}

/// Every client asks for the manifest and a part of each layer, all at the same time.
fn pull_together(server: &Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let repository = format!("bench/herd{}", pass.round);
    // 300 MB in a full run.
    let length = pass.scale.layer / 28;
    let part = length / SHARE;
    let layers: Vec<Blob> = (0..LAYERS)
        .map(|number| pass.shelf.blob(format!("herd/{}/{number}", pass.round), length))
        .collect();
    pass.seed.fill_image(server, &repository)?;
    layers.iter().try_for_each(|layer| seed::ensure_blob(server, &repository, layer))?;
    let (config, digest) = registry::config();
    let manifest = registry::manifest((&digest, config.len()), &layers, "herd");
    seed::fill_tags(server, &repository, 1, |_| manifest.clone())?;
    if pass.round == 0 {
        check(server, &repository, layers.first().context("no layer")?)?;
    }
    let address = server.address();
    let tag = format!("/v2/{repository}/manifests/{}", seed::tag_name(0));
    let tag = Request::new("GET", address, &tag, &[("Accept", ACCEPT)]);
    let load = Load { connections: CLIENTS, bound: Bound::Count(1) };
    load::run(server, load, |connection| {
        let mut client = server.client();
        let mut random = Random::new(connection as u64);
        let requests: Vec<Request> = layers
            .iter()
            .map(|layer| {
                let start = random.below(length - part);
                let range = format!("bytes={start}-{}", start + part - 1);
                let target = format!("/v2/{repository}/blobs/{}", layer.digest);
                Request::new("GET", address, &target, &[("Range", &range)])
            })
            .collect();
        let (tag, manifest) = (&tag, &manifest);
        Ok(move |_| {
            let found = client.send(tag, Sink::Discard)?.expect(200, "manifest")?.received;
            ensure!(found == manifest.len() as u64, "the manifest has {found} bytes");
            let mut sum = found;
            for request in &requests {
                let found = client.send(request, Sink::Discard)?.expect(206, "layer")?.received;
                ensure!(found == part, "expected {part} bytes, found {found}");
                sum += found;
            }
            Ok(sum)
        })
    })
}

fn check(server: &Server, repository: &str, layer: &Blob) -> anyhow::Result<()> {
    let mut hash = Sha256::new();
    let target = format!("/v2/{repository}/blobs/{}", layer.digest);
    let get = Request::new("GET", server.address(), &target, &[]);
    server.client().send(&get, Sink::Hash(&mut hash))?.expect(200, &target)?;
    let found = name_of(hash);
    ensure!(found == layer.digest, "GET {target}: the bytes are {found}");
    Ok(())
}

fn alone(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    on_fresh(server, pass, others)
}

/// Each of the connections has had one answer, and is kept alive.
fn idle(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    allow_files()?;
    on_fresh(server, pass, |server| {
        let ping = format!("GET /v2/ HTTP/1.1\r\nHost: {}\r\n\r\n", server.address());
        let connections: Vec<TcpStream> = (0..idle_connections())
            .map(|number| {
                let mut connection = TcpStream::connect(server.address())?;
                connection.write_all(ping.as_bytes())?;
                let mut answer = [0; 4096];
                let length = connection.read(&mut answer)?;
                let answer = answer.get(..length).unwrap_or_default();
                ensure!(answer.starts_with(b"HTTP/1.1 200"), "number {number} has another answer");
                Ok(connection)
            })
            .collect::<anyhow::Result<_>>()
            .context("opening idle connections")?;
        let sample = others(server)?;
        drop(connections);
        Ok(sample)
    })
}

fn slow(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let large = pass.shelf.blob("slow".to_owned(), pass.scale.layer);
    on_fresh(server, pass, |server| {
        seed::ensure_blob(server, READ, &large)?;
        let target = format!("/v2/{READ}/blobs/{}", large.digest);
        rustix::fs::sync();
        background::during(
            SLOW_PULLS + PUSHES,
            |number| -> Box<dyn FnMut() -> anyhow::Result<()>> {
                if number < SLOW_PULLS {
                    let mut pull = SlowPull::new(server.address(), &target);
                    return Box::new(move || pull.sip());
                }
                let mut client = server.client();
                let mut labels = (0..).map(move |push| format!("slow/{number}/{push}"));
                Box::new(move || {
                    let blob = Blob::new(&labels.next().context("no label")?, PUSHED);
                    registry::push(&mut client, WRITE, &blob, Upload::Stream).map(drop)
                })
            },
            || others(server),
        )
    })
}

/// What other rows have left in a server's caches is not counted.
fn on_fresh(
    server: &Server,
    pass: &Pass<'_>,
    work: impl FnOnce(&Server) -> anyhow::Result<Sample>,
) -> anyhow::Result<Sample> {
    let folder = tempfile::tempdir_in(server.folder())?;
    let mut server = server.fresh(&folder.path().join("fresh"))?;
    server.start()?;
    pass.seed.fill_image(&server, READ)?;
    let manifest = pass.seed.manifest_to_push("crowd");
    let put = registry::manifest_put(server.address(), READ, TAG, &manifest);
    server.client().send(&put, Sink::Discard)?.expect(201, "PUT of a manifest")?;
    let sample = work(&server)?;
    server.stop()?;
    Ok(sample)
}

/// Those who want a manifest meanwhile.
fn others(server: &Server) -> anyhow::Result<Sample> {
    let target = format!("/v2/{READ}/manifests/{TAG}");
    let get = Request::new("GET", server.address(), &target, &[("Accept", ACCEPT)]);
    let bound = Bound::Due(Arrivals::during(OTHERS, MEANWHILE));
    load::run(server, Load { connections: 8, bound }, |_| {
        let mut client: Client = server.client();
        let get = &get;
        Ok(move |_| Ok(client.send(get, Sink::Discard)?.expect(200, "manifest")?.received))
    })
}

/// A client on a thin line, which pulls a blob again and again.
struct SlowPull {
    address: SocketAddr,
    request: String,
    connection: Option<TcpStream>,
    cup: Vec<u8>,
}

impl SlowPull {
    fn new(address: SocketAddr, target: &str) -> Self {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        Self { address, request, connection: None, cup: vec![0; SIP] }
    }

    /// Takes a little of the blob, and rests.
    fn sip(&mut self) -> anyhow::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let mut connection = TcpStream::connect(self.address)?;
                connection.write_all(self.request.as_bytes())?;
                none.insert(connection)
            }
        };
        if connection.read(&mut self.cup)? == 0 {
            self.connection = None;
        }
        sleep(PAUSE);
        Ok(())
    }
}

/// How many connections this machine allows: servers keep half of their files for other things.
fn idle_connections() -> usize {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    usize::try_from(most / 2).map_or(MOST_IDLE, |half| half.saturating_sub(500).min(MOST_IDLE))
}

/// Lets this process, and the servers that it starts from now on, open all files that they may.
fn allow_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("cannot raise the number of open files")
}
