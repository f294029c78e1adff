//! Pulling: manifests and blobs, with GET and HEAD.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::{Extra, Pass, Row, Scale};
use crate::content::name_of;
use crate::goal::Goal;
use crate::http::{Request, Sink};
use crate::load::{self, Bound, Load};
use crate::registry::{ACCEPT, Blob};
use crate::seed::{self, READ, TAG};
use crate::server::{Kind, Server, Setup};
use crate::unit::Unit;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// From here on the same number of bytes is pulled from each server, however fast it is.
const LARGE: u64 = 100 * MIB;
/// In longer samples of 1 MiB each, a fast server would move more than 8 GiB.
const MEDIUM_SAMPLE: Duration = Duration::from_millis(700);

pub(super) fn rows(scale: &Scale) -> Vec<Row> {
    let mut rows = vec![
        metadata("manifest GET by tag", Ask::Get, manifest_by_tag),
        metadata("manifest GET by digest", Ask::Get, manifest_by_digest),
        metadata("manifest HEAD by tag", Ask::Head, manifest_by_tag),
        metadata("manifest GET, not changed", Ask::Again, manifest_by_tag).without(Kind::Zot),
        metadata("blob HEAD", Ask::Head, small_blob),
        metadata("blob HEAD, not there", Ask::Missing, missing_blob),
        row("manifest GET, new connection each", Ask::Once, manifest_by_tag, 8)
            .goals([Goal::Ahead(3.0)]),
        row("blob GET 4 KiB, new connection each", Ask::Once, small_blob, 8).only(Extra::Long),
    ];
    rows.extend(scale.small_pulls.iter().map(|&connections| {
        row("blob GET 4 KiB", Ask::Get, small_blob, connections)
            .with(Kind::Bare)
            .goals(beside_nginx(1.4, 60.0))
    }));
    rows.extend(scale.small_pulls.iter().map(|&connections| {
        row("blob GET 64 KiB", Ask::Get, medium_blob, connections)
            .with(Kind::Bare)
            .goals(beside_nginx(1.4, 12.0))
    }));
    rows.extend(scale.small_pulls.iter().map(|&connections| {
        row("blob GET 1 MiB", Ask::Get, |pass| blob(pass, MIB), connections)
            .goals(beside_nginx(1.1, 6.0))
    }));
    rows.extend(scale.pulls.iter().map(|&(length, connections)| {
        let row = bandwidth(length, connections);
        let mut goals = beside_nginx(1.15, 2.0);
        if connections > 1 {
            goals.push(Goal::RateAtLeast(Kind::Nginx, 0.95));
        }
        row.goals(goals)
    }));
    rows
}

/// The same by TLS. The client has as much to do as the server, so that only processor time tells.
pub(super) fn tls_rows(scale: &Scale) -> Vec<Row> {
    let small = [
        row("manifest GET by tag", Ask::Get, manifest_by_tag, 16)
            .goals([Goal::CheaperThan(Kind::Distribution, 1.0)]),
        row("blob GET 4 KiB", Ask::Get, small_blob, 16)
            .goals([Goal::CpuAtMost(Kind::Nginx, 1.4), Goal::CheaperThan(Kind::Distribution, 1.0)]),
    ];
    let per_byte = [Goal::CpuAtMost(Kind::Nginx, 0.75), Goal::CheaperThan(Kind::Distribution, 1.0)];
    let medium = row("blob GET 1 MiB", Ask::Get, |pass| blob(pass, MIB), 8);
    let large = scale.pulls.iter().filter(|&&(_, connections)| connections == 8);
    let large =
        large.map(|&(length, connections)| bandwidth(length, connections).only(Extra::Long));
    let more = std::iter::once(medium).chain(large).map(|row| row.goals(per_byte.clone()));
    let by_tls = |row: Row| Row { name: format!("TLS, {}", row.name), ..row }.over(Setup::Tls);
    small.into_iter().chain(more).map(by_tls).collect()
}

/// What it costs to know who asks: each beside the same without.
pub(super) fn access_rows() -> Vec<Row> {
    let three = |name: &'static str, resource: fn(&Pass<'_>) -> Resource| {
        let of = |setup, access: &str| {
            row(&format!("{name}, {access}"), Ask::Get, resource, 16)
                .without(Kind::Zot)
                .without(Kind::Nginx)
                .over(setup)
                .in_turn(name)
        };
        let open = of(Setup::Open, "everybody may");
        let goals = [Goal::Ahead(1.0), Goal::NoDearer(open.name.clone(), 1.1)];
        let password = of(Setup::Password, "password").goals(goals.clone());
        [open, password, of(Setup::Token, "token").goals(goals)]
    };
    let blobs = three("blob GET 4 KiB", small_blob).map(|row| row.only(Extra::Long));
    three("manifest GET by tag", manifest_by_tag).into_iter().chain(blobs).collect()
}

/// Processor time: at most so many times nginx's, and so many times less than distribution's.
fn beside_nginx(at_most: f64, cheaper: f64) -> Vec<Goal> {
    vec![
        Goal::Ahead(1.0),
        Goal::CpuAtMost(Kind::Nginx, at_most),
        Goal::CheaperThan(Kind::Distribution, cheaper),
    ]
}

fn metadata(name: &str, ask: Ask, resource: fn(&Pass<'_>) -> Resource) -> Row {
    row(name, ask, resource, 16).with(Kind::Bare).goals([
        Goal::Ahead(3.0),
        Goal::CpuBelow(25.0),
        Goal::CheaperThan(Kind::Distribution, 12.0),
    ])
}

fn row(name: &str, ask: Ask, resource: fn(&Pass<'_>) -> Resource, connections: usize) -> Row {
    Row::new(format!("{name} (c{connections})"), Unit::Rate, move |server, pass| {
        sample(server, pass, ask, &resource(pass), connections)
    })
    .static_files()
}

fn bandwidth(length: u64, connections: usize) -> Row {
    let name = format!("blob GET {} (c{connections})", size(length));
    Row::new(name, Unit::Bandwidth, move |server, pass| {
        sample(server, pass, Ask::Get, &blob(pass, length), connections)
    })
    .static_files()
}

/// A number of bytes as a row's name has it.
pub(super) fn size(bytes: u64) -> String {
    match bytes / MIB {
        0 => format!("{} KiB", bytes / KIB),
        mebibytes if mebibytes % 1024 == 0 => format!("{} GiB", mebibytes / 1024),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Get,
    /// With a new connection for each request.
    Once,
    Head,
    /// GET by a client that has it already, answered by 304.
    Again,
    /// HEAD of what is not there, answered by 404.
    Missing,
    /// GET of a blob that is elsewhere, answered by 307.
    Redirected,
}

/// What is asked for, and what must come back.
pub(super) struct Resource {
    path: String,
    digest: String,
    length: u64,
    /// What must be pushed first: more than [`seed::Seed::fill`] does.
    blob: Option<Blob>,
}

pub(super) fn manifest_by_tag(pass: &Pass<'_>) -> Resource {
    manifest_at(pass, TAG)
}

fn manifest_by_digest(pass: &Pass<'_>) -> Resource {
    manifest_at(pass, &pass.seed.manifest_digest)
}

fn manifest_at(pass: &Pass<'_>, reference: &str) -> Resource {
    Resource {
        path: format!("/v2/{READ}/manifests/{reference}"),
        digest: pass.seed.manifest_digest.clone(),
        length: pass.seed.manifest.len() as u64,
        blob: None,
    }
}

pub(super) fn small_blob(pass: &Pass<'_>) -> Resource {
    Resource { blob: None, ..blob_of(pass.seed.small.clone()) }
}

fn medium_blob(pass: &Pass<'_>) -> Resource {
    Resource { blob: None, ..blob_of(pass.seed.medium.clone()) }
}

fn missing_blob(_: &Pass<'_>) -> Resource {
    Resource { blob: None, ..blob_of(Blob::new("nobody pushes this", KIB)) }
}

pub(super) fn blob(pass: &Pass<'_>, length: u64) -> Resource {
    blob_of(pass.shelf.blob(format!("pulled/{length}"), length))
}

fn blob_of(blob: Blob) -> Resource {
    Resource {
        path: format!("/v2/{READ}/blobs/{}", blob.digest),
        digest: blob.digest.clone(),
        length: blob.content.length(),
        blob: Some(blob),
    }
}

pub(super) fn sample(
    server: &Server,
    pass: &Pass<'_>,
    ask: Ask,
    resource: &Resource,
    connections: usize,
) -> anyhow::Result<load::Sample> {
    if let Some(blob) = resource.blob.as_ref().filter(|_| pass.round == 0) {
        seed::ensure_blob(server, READ, blob)?;
    }
    let (request, status) = request(server, ask, resource)?;
    if pass.round == 0 {
        check(server, &request, status, ask, resource)?;
    }
    load::run(server, load(pass.scale, connections, resource.length), |_| {
        let mut client = server.client();
        let request = &request;
        let path = &resource.path;
        Ok(move |_| {
            let response = client.send(request, Sink::Discard)?.expect(status, path)?;
            Ok(response.received)
        })
    })
}

fn load(scale: &Scale, connections: usize, length: u64) -> Load {
    let at_once = length * connections as u64;
    let bound = match length {
        LARGE.. => Bound::Count((scale.volume / at_once).max(1)),
        MIB.. => Bound::Time(scale.sample.min(MEDIUM_SAMPLE)),
        _ => Bound::Time(scale.sample),
    };
    Load { connections, bound }
}

/// The request, and the status that it must be answered with.
fn request(server: &Server, ask: Ask, resource: &Resource) -> anyhow::Result<(Request, u16)> {
    let accept = ("Accept", ACCEPT);
    let with = |method, more: &[(&str, &str)]| {
        server.request(method, &resource.path, &[&[accept], more].concat())
    };
    Ok(match ask {
        Ask::Get => (with("GET", &[]), 200),
        Ask::Once => (with("GET", &[("Connection", "close")]), 200),
        Ask::Head => (with("HEAD", &[]), 200),
        Ask::Missing => (with("HEAD", &[]), 404),
        Ask::Redirected => (with("GET", &[]), 307),
        Ask::Again => {
            let first = server.client().send(&with("GET", &[]), Sink::Discard)?;
            let etag = first.expect(200, &resource.path)?.etag.context("an answer without ETag")?;
            (with("GET", &[("If-None-Match", &etag)]), 304)
        }
    })
}

/// One answer, with length and digest.
fn check(
    server: &Server,
    request: &Request,
    status: u16,
    ask: Ask,
    resource: &Resource,
) -> anyhow::Result<()> {
    let path = &resource.path;
    let mut hash = Sha256::new();
    let response = server.client().send(request, Sink::Hash(&mut hash))?.expect(status, path)?;
    let length = match ask {
        Ask::Get | Ask::Once => Some(response.received),
        Ask::Head => response.announced,
        Ask::Again | Ask::Missing | Ask::Redirected => return Ok(()),
    };
    ensure!(
        length == Some(resource.length),
        "{path}: expected {} bytes, found {length:?}",
        resource.length
    );
    if ask != Ask::Head {
        let found = name_of(hash);
        ensure!(found == resource.digest, "GET {path}: the bytes are {found}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_names() {
        assert_eq!(
            [size(4 * KIB), size(100 * MIB), size(1024 * MIB)],
            ["4 KiB", "100 MiB", "1 GiB"]
        );
    }

    #[test]
    fn no_sample_of_large_blobs_moves_more_than_8_gib() {
        for &(length, connections) in Scale::full().pulls {
            let load = load(&Scale::full(), connections, length);
            let Bound::Count(count) = load.bound else { panic!("{length} is not counted") };
            assert!(count * length * load.connections as u64 <= 8 << 30);
        }
    }
}
