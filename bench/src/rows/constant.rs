//! Work that must not grow with the bytes or the number of things that are there already: mounting,
//! pushing what exists, and the referrers of something that has many.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{Pass, Row};
use crate::arrivals::Arrivals;
use crate::content::digest_of;
use crate::goal::Goal;
use crate::http::{Client, Request, Sink};
use crate::load::{self, Bound, Load, Sample};
use crate::registry::{self, Blob};
use crate::seed::{self, READ};
use crate::server::{Kind, Server};
use crate::unit::Unit;

/// The repository of the image that is pushed again.
const AGAIN: &str = "bench/again";
const LAYERS: u64 = 25;

/// The repository with one subject.
const STATEMENTS: &str = "bench/statements";
const REFERRERS: u64 = 10_000;
const SUBJECT: &str = "subject";

pub(super) fn rows() -> Vec<Row> {
    vec![
        // Without deduplication zot does not mount.
        Row::new("cross-repository mount (c16)", Unit::Rate, mount).without(Kind::Zot),
        Row::new("push of an image whose 25 layers exist (c16)", Unit::Rate, push_again),
        Row::new("referrers of one with 10,000, n=100", Unit::Tail, referrers)
            .ours()
            .goals([Goal::Below(5.0)]),
    ]
}

/// Each mount is into a repository that does not have the blob.
fn mount(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    rustix::fs::sync();
    let digest = &pass.seed.medium.digest;
    let target = |connection: usize, number: u64| {
        let repository = format!("mounted/r{}-{connection}-{number}", pass.round);
        let query = format!("mount={digest}&from={READ}");
        (format!("/v2/{repository}/blobs/uploads/?{query}"), repository)
    };
    let sample = load::run(server, pass.scale.timed(16), |connection| {
        let mut client = server.client();
        Ok(move |number| {
            let (target, _) = target(connection, number);
            let post = Request::with_body("POST", client.address(), &target, &[], &[]);
            Ok(client.send(&post, Sink::Discard)?.expect(201, "mount")?.received)
        })
    })?;
    if pass.round == 0 {
        let mut body = Vec::new();
        let get = format!("/v2/{}/blobs/{digest}", target(0, 0).1);
        let get = Request::new("GET", server.address(), &get, &[]);
        server.client().send(&get, Sink::Keep(&mut body))?.expect(200, "mounted blob")?;
        ensure!(digest_of(&body) == *digest, "the mounted blob has other bytes");
    }
    Ok(sample)
}

/// As clients do it: a HEAD for the config and each layer, then the manifest at a new tag.
fn push_again(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let (config, digest) = registry::config();
    let layers: Vec<Blob> =
        (0..LAYERS).map(|number| pass.shelf.blob(format!("again/{number}"), 4096)).collect();
    if pass.round == 0 {
        registry::push_bytes(&mut server.client(), AGAIN, &digest, &config)?;
        layers.iter().try_for_each(|layer| seed::ensure_blob(server, AGAIN, layer))?;
    }
    rustix::fs::sync();
    let address = server.address();
    let digests = layers.iter().map(|layer| &layer.digest).chain([&digest]);
    let heads: Vec<Request> = digests
        .map(|digest| Request::new("HEAD", address, &format!("/v2/{AGAIN}/blobs/{digest}"), &[]))
        .collect();
    let manifest = |note: &str| registry::manifest((&digest, config.len()), &layers, note);
    let tag = |connection: usize, number: u64| format!("t{}-{connection}-{number}", pass.round);
    let sample = load::run(server, pass.scale.timed(16), |connection| {
        let mut client = server.client();
        let (heads, manifest) = (&heads, &manifest);
        Ok(move |number| {
            for head in heads {
                client.send(head, Sink::Discard)?.expect(200, "HEAD of a layer")?;
            }
            let tag = tag(connection, number);
            let put = registry::manifest_put(address, AGAIN, &tag, &manifest(&tag));
            Ok(client.send(&put, Sink::Discard)?.expect(201, "PUT of a manifest")?.received)
        })
    })?;
    if pass.round == 0 {
        let tag = tag(0, 0);
        let found = get(&mut server.client(), &format!("/v2/{AGAIN}/manifests/{tag}"))?;
        ensure!(found == manifest(&tag), "tag {tag} has another manifest");
    }
    Ok(sample)
}

/// The first page, one in the middle and the last in turn.
fn referrers(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let subject = pass.seed.manifest_to_push(SUBJECT);
    let statements: Vec<String> = {
        let mut digests: Vec<String> =
            (0..REFERRERS).map(|number| digest_of(&statement(pass, &subject, number))).collect();
        digests.sort_unstable();
        digests
    };
    if pass.round == 0 {
        fill_referrers(server, pass, &subject)?;
    }
    let target = format!("/v2/{STATEMENTS}/referrers/{}?n=100", digest_of(&subject));
    let after = |number: usize| statements.get(number).context("no statement");
    let targets = [
        target.clone(),
        format!("{target}&last={}", after(statements.len() / 2)?),
        format!("{target}&last={}", after(statements.len() - 101)?),
    ];
    if pass.round == 0 {
        for (target, first) in targets.iter().zip([0, statements.len() / 2 + 1, 9_900]) {
            let page: Value = serde_json::from_slice(&get(&mut server.client(), target)?)?;
            let page = page.get("manifests").and_then(Value::as_array).context("no list")?;
            let found = page.first().and_then(|entry| entry.get("digest")?.as_str());
            ensure!(
                page.len() == 100 && found == statements.get(first).map(String::as_str),
                "{target}: found {} entries from {found:?}",
                page.len()
            );
        }
    }
    let requests = targets.map(|target| Request::new("GET", server.address(), &target, &[]));
    let arrivals = Arrivals::during(500.0, pass.scale.sample);
    load::run(server, Load { connections: 4, bound: Bound::Due(arrivals) }, |_| {
        let mut client = server.client();
        let mut requests = requests.iter().cycle();
        Ok(move |_| {
            let request = requests.next().context("no request")?;
            Ok(client.send(request, Sink::Discard)?.expect(200, "referrers")?.received)
        })
    })
}

fn fill_referrers(server: &Server, pass: &Pass<'_>, subject: &[u8]) -> anyhow::Result<()> {
    pass.seed.fill_image(server, STATEMENTS)?;
    let put = registry::manifest_put(server.address(), STATEMENTS, SUBJECT, subject);
    server.client().send(&put, Sink::Discard)?.expect(201, "PUT of the subject")?;
    seed::in_parallel(server, REFERRERS, |client, number| {
        let statement = statement(pass, subject, number);
        let digest = digest_of(&statement);
        let put = registry::manifest_put(client.address(), STATEMENTS, &digest, &statement);
        client.send(&put, Sink::Discard)?.expect(201, "PUT of a statement")?;
        Ok(())
    })
}

/// A manifest that says something about the subject.
fn statement(pass: &Pass<'_>, subject: &[u8], number: u64) -> Vec<u8> {
    let (config, digest) = registry::config();
    let layer = &pass.seed.small;
    json!({
        "schemaVersion": 2,
        "mediaType": registry::MANIFEST_TYPE,
        "artifactType": "application/spdx+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest,
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/spdx+json",
            "digest": layer.digest,
            "size": layer.content.length(),
        }],
        "subject": {
            "mediaType": registry::MANIFEST_TYPE,
            "digest": digest_of(subject),
            "size": subject.len(),
        },
        "annotations": { "number": number.to_string() },
    })
    .to_string()
    .into_bytes()
}

fn get(client: &mut Client, target: &str) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let request = Request::new("GET", client.address(), target, &[("Accept", registry::ACCEPT)]);
    client.send(&request, Sink::Keep(&mut body))?.expect(200, target)?;
    Ok(body)
}
