//! Pushing: large blobs in every way, many small ones, manifests, and the memory that takes.

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::read::size;
use super::{Extra, Pass, Row, Scale};
use crate::content::{Content, digest_of, name_of};
use crate::cores::Cores;
use crate::goal::Goal;
use crate::http::{Request, Sink};
use crate::load::{self, Bound, Load, Sample};
use crate::registry::{self, Blob, Upload};
use crate::seed::WRITE;
use crate::server::{Kind, Server};
use crate::unit::Unit;

const SMALL: u64 = 4 * 1024;

pub(super) fn rows(scale: &Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, upload) in [("POST+PUT", Upload::Monolithic), ("PATCH stream", Upload::Stream)] {
        rows.extend(scale.pushes.iter().map(|&load| large(name, load, upload)));
    }
    if let Some(&one) = scale.pushes.first() {
        rows.push(large("PATCH of 5 MiB each", one, Upload::Chunked).only(Extra::Long));
        rows.push(overlapping(one));
    }
    let ten_times = [Goal::Ahead(1.0), Goal::RateAtLeast(Kind::Distribution, 10.0)];
    rows.extend([
        Row::new("push 4 KiB, POST+PUT (c16)", Unit::Rate, small).goals(ten_times.clone()),
        Row::new("manifest PUT, new tag each (c16)", Unit::Rate, manifests).goals(ten_times),
        Row::new("memory while 8 layers are pushed", Unit::Anonymous, memory)
            .once()
            .goals([Goal::Ahead(1.0), Goal::Flat(16_000_000)]),
    ]);
    rows
}

/// Each client pushes one blob.
fn large(how: &str, (length, clients): (u64, usize), upload: Upload) -> Row {
    let name = format!("push {}, {how} (c{clients})", size(length));
    Row::new(name, Unit::Bandwidth, move |server, pass| {
        on_fresh(server, server.cores(), |server| {
            push_large(server, pass, &blobs(pass, clients, length), upload)
        })
    })
    .with(Kind::Bare)
    .goals([
        Goal::Ahead(1.0),
        Goal::CpuAtMost(Kind::Bare, 1.2),
        Goal::CheaperThan(Kind::Distribution, 1.6),
    ])
}

/// With all cores for server and load, one stream can be received, hashed and written at once; the
/// bare program does one after the other.
fn overlapping((length, clients): (u64, usize)) -> Row {
    let name = format!("push {}, PATCH stream, not pinned (c{clients})", size(length));
    Row::new(name, Unit::Bandwidth, move |server, pass| {
        let cores = server.cores();
        cores.free().pin_load()?;
        let sample = on_fresh(server, cores.free(), |server| {
            push_large(server, pass, &blobs(pass, clients, length), Upload::Stream)
        });
        cores.pin_load()?;
        sample
    })
    .with(Kind::Bare)
    .goals([Goal::Ahead(1.0), Goal::RateAtLeast(Kind::Bare, 1.0)])
}

fn memory(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    on_fresh(server, server.cores(), |server| {
        push_large(server, pass, &blobs(pass, 8, pass.scale.layer), Upload::Stream)
    })
}

/// Runs a sample on a server that holds nothing: what others have left in caches is not counted,
/// the content need not be new, and the disk gets it all back.
pub(super) fn on_fresh(
    server: &Server,
    cores: Cores,
    sample: impl FnOnce(&Server) -> anyhow::Result<Sample>,
) -> anyhow::Result<Sample> {
    let folder = tempfile::tempdir_in(server.folder())?;
    let mut server = server.fresh(&folder.path().join("fresh"))?.on(cores);
    server.start()?;
    let sample = sample(&server)?;
    server.stop()?;
    folder.close()?;
    Ok(sample)
}

/// One for each client.
fn blobs(pass: &Pass<'_>, clients: usize, length: u64) -> Vec<Blob> {
    let label = |client: usize| format!("pushed/{length}/{client}");
    (0..clients).map(|client| pass.shelf.blob(label(client), length)).collect()
}

/// Each client pushes one of these blobs, which the server has not seen.
pub(super) fn push_large(
    server: &Server,
    pass: &Pass<'_>,
    blobs: &[Blob],
    upload: Upload,
) -> anyhow::Result<Sample> {
    settle_disk();
    let load = Load { connections: blobs.len(), bound: Bound::Count(1) };
    let sample = load::run(server, load, |number| {
        let mut client = server.client();
        let blob = blobs.get(number).context("no blob for a client")?;
        Ok(move |_| registry::push(&mut client, WRITE, blob, upload))
    })?;
    // The bare program compares digests itself.
    if pass.round == 0
        && server.kind().is_registry()
        && let Some(blob) = blobs.first()
    {
        check(server, "blobs", &blob.digest)?;
    }
    Ok(sample)
}

pub(super) fn small(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    small_of(server, pass, 16)
}

/// The same of so many clients.
pub(super) fn small_of(server: &Server, pass: &Pass<'_>, clients: usize) -> anyhow::Result<Sample> {
    settle_disk();
    let label = |connection: usize, number: u64| {
        format!("4k/{clients}/{}/{connection}/{number}", pass.round)
    };
    let sample = load::run(server, pass.scale.timed(clients), |connection| {
        let mut client = server.client();
        Ok(move |number| {
            let bytes = Content::new(&label(connection, number), SMALL).bytes();
            registry::push_bytes(&mut client, WRITE, &digest_of(&bytes), &bytes)
        })
    })?;
    if pass.round == 0 {
        check(server, "blobs", &Content::new(&label(0, 0), SMALL).digest())?;
    }
    Ok(sample)
}

pub(super) fn manifests(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    manifests_of(server, pass, 16)
}

/// The same of so many clients.
pub(super) fn manifests_of(
    server: &Server,
    pass: &Pass<'_>,
    clients: usize,
) -> anyhow::Result<Sample> {
    settle_disk();
    let tag =
        |connection: usize, number: u64| format!("t{clients}-{}-{connection}-{number}", pass.round);
    let sample = load::run(server, pass.scale.timed(clients), |connection| {
        let mut client = server.client();
        Ok(move |number| {
            let tag = tag(connection, number);
            let manifest = pass.seed.manifest_to_push(&tag);
            let put = registry::manifest_put(client.address(), WRITE, &tag, &manifest);
            client.send(&put, Sink::Discard)?.expect(201, "PUT of a manifest")?;
            Ok(manifest.len() as u64)
        })
    })?;
    if pass.round == 0 {
        check(server, "manifests", &digest_of(&pass.seed.manifest_to_push(&tag(0, 0))))?;
    }
    Ok(sample)
}

/// What was pushed comes back with the same digest.
fn check(server: &Server, kind: &str, digest: &str) -> anyhow::Result<()> {
    let target = format!("/v2/{WRITE}/{kind}/{digest}");
    let headers = [("Accept", registry::ACCEPT)];
    let request = Request::new("GET", server.address(), &target, &headers);
    let mut hash = Sha256::new();
    server.client().send(&request, Sink::Hash(&mut hash))?.expect(200, &target)?;
    let found = name_of(hash);
    ensure!(found == digest, "GET {target}: the bytes are {found}");
    Ok(())
}

/// Writes back what earlier samples left, so that it does not burden this one.
fn settle_disk() {
    rustix::fs::sync();
}
