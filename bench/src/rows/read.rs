//! Pulling: manifests and blobs, with GET and HEAD.

use anyhow::ensure;
use sha2::{Digest as _, Sha256};

use super::{Pass, Row};
use crate::content::name_of;
use crate::goal::Goal;
use crate::http::{Request, Sink};
use crate::load;
use crate::registry::ACCEPT;
use crate::seed::{READ, Seed, TAG};
use crate::server::Server;
use crate::unit::Unit;

pub(super) fn rows() -> Vec<Row> {
    let requests = 16;
    let metadata = [Goal::Ahead(3.0)];
    vec![
        row("manifest GET by tag", "GET", manifest_by_tag, requests).goals(metadata),
        row("manifest GET by digest", "GET", manifest_by_digest, requests).goals(metadata),
        row("manifest HEAD by tag", "HEAD", manifest_by_tag, requests).goals(metadata),
        row("blob HEAD", "HEAD", small_blob, requests).goals(metadata),
        row("manifest GET, new connection each", "GET once", manifest_by_tag, 8).goals(metadata),
        row("blob GET 4 KiB", "GET", small_blob, requests),
        row("blob GET 4 KiB, new connection each", "GET once", small_blob, 8),
        row("blob GET 64 KiB", "GET", medium_blob, requests),
        bandwidth("blob GET 256 MiB, 1 connection", 1),
        bandwidth("blob GET 256 MiB, 8 connections", 8),
    ]
}

/// What is asked for, and what must come back.
struct Resource<'a> {
    path: String,
    digest: &'a str,
    length: u64,
}

fn manifest_by_tag(seed: &Seed) -> Resource<'_> {
    manifest_at(seed, TAG)
}

fn manifest_by_digest(seed: &Seed) -> Resource<'_> {
    manifest_at(seed, &seed.manifest_digest)
}

fn manifest_at<'a>(seed: &'a Seed, reference: &str) -> Resource<'a> {
    Resource {
        path: format!("/v2/{READ}/manifests/{reference}"),
        digest: &seed.manifest_digest,
        length: seed.manifest.len() as u64,
    }
}

fn small_blob(seed: &Seed) -> Resource<'_> {
    blob(&seed.small)
}

fn medium_blob(seed: &Seed) -> Resource<'_> {
    blob(&seed.medium)
}

fn large_blob(seed: &Seed) -> Resource<'_> {
    blob(&seed.large)
}

fn blob(blob: &crate::registry::Blob) -> Resource<'_> {
    Resource {
        path: format!("/v2/{READ}/blobs/{}", blob.digest),
        digest: &blob.digest,
        length: blob.content.length(),
    }
}

/// `how` is GET, HEAD, or "GET once" for a new connection with every request.
fn row(
    name: &str,
    how: &'static str,
    resource: fn(&Seed) -> Resource<'_>,
    connections: usize,
) -> Row {
    Row::new(format!("{name} (c{connections})"), Unit::Rate, move |server, pass| {
        sample(server, pass, how, &resource(pass.seed), connections)
    })
    .static_files()
}

fn bandwidth(name: &str, connections: usize) -> Row {
    Row::new(name, Unit::Bandwidth, move |server, pass| {
        sample(server, pass, "GET", &large_blob(pass.seed), connections)
    })
    .static_files()
}

fn sample(
    server: &Server,
    pass: &Pass<'_>,
    how: &str,
    resource: &Resource<'_>,
    connections: usize,
) -> anyhow::Result<load::Sample> {
    let (method, once) = how.split_once(' ').map_or((how, false), |(method, _)| (method, true));
    let mut headers = vec![("Accept", ACCEPT)];
    if once {
        headers.push(("Connection", "close"));
    }
    let request = Request::new(method, server.address(), &resource.path, &headers);
    if pass.round == 0 {
        check(server, &request, method, resource)?;
    }
    load::run(server, pass.scale.timed(connections), |_| {
        let mut client = server.client();
        let request = &request;
        let path = &resource.path;
        Ok(move |_| {
            let response = client.send(request, Sink::Discard)?.expect(200, path)?;
            Ok(response.received)
        })
    })
}

/// One answer, with length and digest.
fn check(
    server: &Server,
    request: &Request,
    method: &str,
    resource: &Resource<'_>,
) -> anyhow::Result<()> {
    let mut hash = Sha256::new();
    let response = server.client().send(request, Sink::Hash(&mut hash))?;
    let response = response.expect(200, &resource.path)?;
    let length = if method == "HEAD" { response.announced } else { Some(response.received) };
    ensure!(
        length == Some(resource.length),
        "{method} {}: expected {} bytes, found {length:?}",
        resource.path,
        resource.length
    );
    if method == "GET" {
        let found = name_of(hash);
        ensure!(found == resource.digest, "GET {}: the bytes are {found}", resource.path);
    }
    Ok(())
}
