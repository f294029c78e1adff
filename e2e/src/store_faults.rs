//! An object store that is slow, fails, breaks off and lies. What was acknowledged is whole, and
//! nobody is given wrong bytes for good ones.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::fault_proxy::{BROKEN, FaultProxy, LIES, Outage};
use crate::http::{Answer, Http, sha256};
use crate::image::{self, pseudo_random};
use crate::pusher::Pusher;
use crate::random::Random;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage};

/// Only with an object store.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("store faults: clients push and pull while requests fail", 300, fail),
    Scenario::new("store faults: crane pushes and pulls while requests fail", 120, crane),
    Scenario::new("store faults: the store is away, and hangs", 120, outages),
    Scenario::new("store faults: answers lie about objects", 180, lie),
];

const REPOSITORY: &str = "store/faults";
const CLIENTS: usize = 4;
/// What each client pushes.
const THINGS: usize = 60;
/// The longest blob: several parts.
const LONGEST: usize = 24_000_000;
/// How many uploads are given up.
const CANCELLED: usize = 8;
/// One of so many requests fails.
const ONE_IN: usize = 5;
/// How far the registry may grow: three parts of each client, and what it takes otherwise.
const GROWTH_LIMIT: u64 = (CLIENTS as u64 * 3 * 5 + 64) << 20;

/// No client notices more than time: what fails is asked again.
fn fail(stage: &Stage) -> Result<()> {
    through_faults(stage, |registry, proxy, random| {
        let idle = registry.peak_memory()?;
        let mut clients = (0..CLIENTS)
            .map(|number| Pusher::new(&registry.host, number, LONGEST, random.fork()))
            .collect::<Vec<_>>();
        proxy.rage(BROKEN, ONE_IN);
        Pusher::each(&mut clients, |client| {
            client.push(THINGS)?;
            client.check_all().context("while requests fail")
        })?;
        (0..CANCELLED).try_for_each(|_| cancel(&registry.http))?;
        proxy.calm();
        Pusher::each(&mut clients, Pusher::check_all)?;
        crate::say(&format!("store faults: {}", proxy.expect_all(BROKEN)?));
        let growth = registry.peak_memory()?.saturating_sub(idle);
        ensure!(
            growth <= GROWTH_LIMIT,
            "the registry grew by {} MiB; {} MiB are allowed",
            growth >> 20,
            GROWTH_LIMIT >> 20
        );
        counted(registry)
    })
}

/// An upload of several parts that a client gives up.
fn cancel(http: &Http) -> Result<()> {
    let location = http.open_upload(REPOSITORY)?;
    let bytes = pseudo_random("cancelled", 12_000_000);
    let location = http.send("PATCH", &location, &[], bytes.as_slice())?.expect(202)?;
    http.send("DELETE", &location.required_header("location")?, &[], ())?.expect(204)?;
    Ok(())
}

fn crane(stage: &Stage) -> Result<()> {
    let (layout, digest) = image::runnable(stage, "store-faults")?;
    through_faults(stage, |registry, proxy, _| {
        proxy.rage(BROKEN, ONE_IN);
        for round in 0..8 {
            let crane = |verb: &str| stage.client("crane").args(["--insecure", verb]);
            let name = registry.name(&format!("team/app-{round}:v1"));
            crane("push").arg(&layout.folder).arg(&name).succeed()?;
            crane("validate").args(["--remote", &name]).succeed()?;
            ensure!(crane("digest").arg(&name).text()? == digest);
        }
        proxy.calm();
        (0..8).try_for_each(|round| {
            registry.http.read_whole(&format!("team/app-{round}"), "v1").map(drop)
        })
    })
}

/// How long the store is away while clients wait: less than all tries of a request take together.
const RESTART: Duration = Duration::from_secs(2);

/// A store that is started again costs time. One that stays away costs an answer that says so, and a
/// load balancer is told soon.
fn outages(stage: &Stage) -> Result<()> {
    through_faults(stage, |registry, proxy, _| {
        let small = pseudo_random("outage, small", 200_000);
        let large = pseudo_random("outage, large", 12_000_000);
        registry.http.push_blob(REPOSITORY, &small)?;

        proxy.cut_off(Some(Outage::Away));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(RESTART);
                proxy.cut_off(None);
            });
            registry.http.push_blob(REPOSITORY, &large)?;
            pull(&registry.http, &small)
        })?;

        proxy.cut_off(Some(Outage::Away));
        let path = format!("/v2/{REPOSITORY}/blobs/{}", sha256(&large));
        let refused = registry.http.get(&path)?.expect(503)?;
        refused.required_header("retry-after")?;
        says(&refused, "UNAVAILABLE")?;

        proxy.cut_off(Some(Outage::Hanging));
        let refused = registry.operators("/readyz")?.expect(503)?;
        says(&refused, "no answer within")?;

        proxy.cut_off(None);
        registry.operators("/readyz")?.expect(200)?;
        pull(&registry.http, &large)
    })
}

fn says(answer: &Answer, words: &str) -> Result<()> {
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(text.contains(words), "{text}");
    Ok(())
}

/// Small blobs, which are looked at before the first byte leaves, and large ones.
const LENGTHS: [usize; 6] = [1, 1000, 60_000, 200_000, 3_000_000, 12_000_000];

fn lie(stage: &Stage) -> Result<()> {
    through_faults(stage, |registry, proxy, _| {
        let blobs = LENGTHS.map(|length| pseudo_random(&format!("lie {length}"), length));
        for blob in &blobs {
            registry.http.push_blob(REPOSITORY, blob)?;
        }
        let (layout, digest) = image::runnable(stage, "lies")?;
        let name = registry.name(&format!("{REPOSITORY}:v1"));
        let push = stage.client("crane").args(["--insecure", "push"]).arg(&layout.folder);
        push.arg(&name).succeed()?;
        for fault in LIES {
            // Nothing is in memory of what was read before.
            proxy.calm();
            registry.stop()?;
            registry.restart(stage)?;
            proxy.rage(std::slice::from_ref(fault), 2);
            for _ in 0..6 {
                for blob in &blobs {
                    pull(&registry.http, blob).with_context(|| format!("{fault:?}"))?;
                }
            }
            let found = registry.http.digest_of(REPOSITORY, "v1");
            ensure!(found.context("a manifest")? == digest, "another manifest");
        }
        proxy.calm();
        crate::say(&format!("store faults: {}", proxy.expect_all(LIES)?));
        for blob in &blobs {
            let path = format!("/v2/{REPOSITORY}/blobs/{}", sha256(blob));
            ensure!(registry.http.get(&path)?.expect(200)?.body == *blob, "other bytes");
        }
        registry.http.read_whole(REPOSITORY, "v1").map(drop)
    })
}

/// A client gets the right bytes, or sees that they are not all. What is small it gets.
fn pull(http: &Http, blob: &[u8]) -> Result<()> {
    let path = format!("/v2/{REPOSITORY}/blobs/{}", sha256(blob));
    match http.get(&path) {
        Ok(answer) => {
            let answer = answer.expect(200)?;
            ensure!(answer.body == blob, "{path}: {} other bytes", answer.body.len());
        }
        Err(error) => ensure!(blob.len() > 256 << 10, "{path}: {error:#}"),
    }
    Ok(())
}

/// A play with a registry whose store is behind a proxy.
fn through_faults(
    stage: &Stage,
    play: impl FnOnce(&mut Registry, &FaultProxy, &mut Random) -> Result<()>,
) -> Result<()> {
    let mut random = Random::printed("store faults");
    let proxy = FaultProxy::new(stage.s3()?.host(), random.fork())?;
    let setup = Setup {
        environment: vec![
            ("REGISTRY_STORAGE_S3_REGIONENDPOINT", proxy.url()?),
            ("REGISTRY_STORAGE_S3_CHUNKSIZE", (5 << 20).to_string()),
            ("REGISTRY_STORAGE_REDIRECT_DISABLE", "true".to_owned()),
        ],
        ..Setup::default()
    };
    proxy.serve(|| {
        stage.with_registry_set_up(&setup, |registry| play(registry, &proxy, &mut random))
    })
}

/// An operator can see that the store is in trouble.
fn counted(registry: &Registry) -> Result<()> {
    let metrics = registry.metrics()?;
    for outcome in ["2xx", "5xx", "broken", "failed"] {
        let labels = format!("outcome=\"{outcome}\"");
        let is_counted = metrics.lines().any(|line| {
            line.starts_with("orlop_storage_requests_total{") && line.contains(&labels)
        });
        ensure!(is_counted, "no requests with {labels} in\n{metrics}");
    }
    Ok(())
}
