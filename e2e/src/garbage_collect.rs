//! `garbage-collect`, as users of distribution run it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::http::{Http, sha256};
use crate::image::pseudo_random;
use crate::process::Client;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("garbage-collect: what nothing needs", 60, collect)];

const REPOSITORY: &str = "team/app";

fn collect(stage: &Stage) -> Result<()> {
    let mut registry = stage.start_registry("store", &Setup::default())?;
    let old = push(&registry.http, "old layer", "moved")?;
    let kept = push(&registry.http, "kept layer", "kept")?;
    // The tag goes elsewhere: the old image is left without one.
    let moved = push(&registry.http, "new layer", "moved")?;
    let loose = registry.http.push_blob(REPOSITORY, b"a blob of no image")?;

    let refused = run(stage, &registry, &["--dry-run"]).fail()?;
    ensure!(refused.contains("another server is using the data folder"), "{refused}");
    registry.stop()?;

    let said = run(stage, &registry, &["--dry-run"]).text()?;
    ensure!(said.contains(&format!("blob eligible for deletion: {loose}")), "{said}");
    ensure!(said.contains("1 blobs and 0 manifests eligible for deletion"), "{said}");
    ensure!(file(stage, &loose)?.exists(), "a dry run has removed something");

    let said = run(stage, &registry, &["-m", "--dry-run"]).text()?;
    ensure!(
        said.contains(&format!("manifest eligible for deletion: {REPOSITORY}@{old}")),
        "{said}"
    );
    run(stage, &registry, &["--delete-untagged", "--quiet"]).text()?;
    for gone in [&loose, &old, &sha256(&pseudo_random("old layer", 20_000))] {
        ensure!(!file(stage, gone)?.exists(), "{gone} is still there");
    }
    let again = run(stage, &registry, &[]).text()?;
    ensure!(again.contains("0 blobs and 0 manifests eligible"), "{again}");

    registry.check(stage)?;
    registry.restart(stage)?;
    for tag in ["kept", "moved"] {
        registry.http.read_whole(REPOSITORY, tag)?;
    }
    ensure!(registry.http.digest_of(REPOSITORY, "kept")? == kept, "another image");
    ensure!(registry.http.digest_of(REPOSITORY, "moved")? == moved, "another image");
    registry.http.get(&format!("/v2/{REPOSITORY}/manifests/{old}"))?.expect(404)?;
    registry.stop()
}

fn push(http: &Http, layer: &str, tag: &str) -> Result<String> {
    http.push_image(REPOSITORY, tag, &pseudo_random(layer, 20_000))
}

fn run<'a>(stage: &'a Stage, registry: &Registry, arguments: &[&str]) -> Client<'a> {
    registry.command(stage, "garbage-collect").args(arguments)
}

/// Where the bytes of a blob are.
fn file(stage: &Stage, digest: &str) -> Result<PathBuf> {
    let hex = digest.strip_prefix("sha256:").context("not a sha256 digest")?;
    let shard = hex.get(..2).context("too short")?;
    let store = stage.path("store").join("docker/registry/v2/blobs/sha256");
    Ok(store.join(shard).join(hex).join("data"))
}
