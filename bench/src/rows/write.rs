//! Pushing: large blobs in every way, many small ones, manifests, and the memory that takes.

use anyhow::ensure;
use sha2::{Digest as _, Sha256};

use super::{Pass, Row};
use crate::content::{Content, digest_of, name_of};
use crate::goal::Goal;
use crate::http::{Request, Sink};
use crate::load::{self, Bound, Load, Sample};
use crate::registry::{self, Blob, Upload};
use crate::seed::WRITE;
use crate::server::Server;
use crate::unit::Unit;

const LARGE: u64 = 256 * 1024 * 1024;
const SMALL: u64 = 4 * 1024;

pub(super) fn rows() -> Vec<Row> {
    vec![
        large("push 256 MiB, POST+PUT", Upload::Monolithic),
        large("push 256 MiB, as docker streams it", Upload::Stream),
        large("push 256 MiB, PATCH of 5 MiB each", Upload::Chunked),
        Row::new("push 4 KiB, POST+PUT (c16)", Unit::Rate, small),
        Row::new("manifest PUT, new tag each (c8)", Unit::Rate, manifests),
        Row::new("memory while 8 layers are pushed", Unit::Anonymous, memory)
            .once()
            .goals([Goal::Ahead(1.0), Goal::Flat(16_000_000)]),
    ]
}

fn large(name: &str, upload: Upload) -> Row {
    let label = name.to_owned();
    Row::new(name, Unit::Bandwidth, move |server, pass| {
        let load = Load { connections: 1, bound: Bound::Count(pass.scale.pushes) };
        push_large(server, pass, &label, load, LARGE, upload)
    })
}

/// What other rows have left in a server's caches is not counted.
fn memory(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let folder = tempfile::tempdir_in(server.folder())?;
    let mut server = server.fresh(&folder.path().join("fresh"))?;
    server.start()?;
    let load = Load { connections: 8, bound: Bound::Count(1) };
    let sample = push_large(&server, pass, "memory", load, pass.scale.layer, Upload::Stream)?;
    server.stop()?;
    Ok(sample)
}

/// Pushes blobs of `length` bytes that no server has seen; their digests are taken beforehand.
fn push_large(
    server: &Server,
    pass: &Pass<'_>,
    label: &str,
    load: Load,
    length: u64,
    upload: Upload,
) -> anyhow::Result<Sample> {
    let Bound::Count(count) = load.bound else { unreachable!("large pushes are counted") };
    let blobs: Vec<Vec<Blob>> = (0..load.connections)
        .map(|connection| {
            let label = format!("{label}/{}/{connection}", pass.round);
            (0..count).map(|number| pass.shelf.blob(format!("{label}/{number}"), length)).collect()
        })
        .collect();
    settle_disk();
    let sample = load::run(server, load, |connection| {
        let mut client = server.client();
        let mut blobs = blobs.get(connection).into_iter().flatten();
        Ok(move |_| {
            blobs.next().map_or(Ok(0), |blob| registry::push(&mut client, WRITE, blob, upload))
        })
    })?;
    if pass.round == 0
        && let Some(blob) = blobs.iter().flatten().next()
    {
        check(server, "blobs", &blob.digest)?;
    }
    Ok(sample)
}

fn small(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    settle_disk();
    let label = |connection: usize, number: u64| format!("4k/{}/{connection}/{number}", pass.round);
    let sample = load::run(server, pass.scale.timed(16), |connection| {
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

fn manifests(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    settle_disk();
    let tag = |connection: usize, number: u64| format!("t{}-{connection}-{number}", pass.round);
    let sample = load::run(server, pass.scale.timed(8), |connection| {
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
