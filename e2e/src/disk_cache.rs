//! A server that keeps on its own disk what it reads of an object store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::http::{Http, array, text};
use crate::image::pseudo_random;
use crate::ports::free_port;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage, wait_until};

/// Only with an object store.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("disk cache: pulls without the store", 120, without_the_store),
    Scenario::new("disk cache: its disk is full", 60, full),
];

const REPOSITORY: &str = "team/app";
/// Room for two layers, and not for three.
const MAX_SIZE: u64 = 8_000_000;
const LAYER: usize = 3_000_000;

const LIMIT: Duration = Duration::from_secs(10);

fn set_up(folder: &Path, max_size: u64) -> Setup<'static> {
    Setup {
        environment: vec![
            ("REGISTRY_STORAGE_CACHE_DISK_PATH", folder.to_string_lossy().into_owned()),
            ("REGISTRY_STORAGE_CACHE_DISK_MAXSIZE", max_size.to_string()),
        ],
        ..Setup::default()
    }
}

fn without_the_store(stage: &Stage) -> Result<()> {
    let folder = stage.path("cache");
    let mut registry = stage.start_registry("store", &set_up(&folder, MAX_SIZE))?;
    push(&registry.http, "v0")?;
    registry.http.read_whole(REPOSITORY, "v0")?;
    wait_for_files(&registry, 2)?;
    from_the_cache(stage, &registry, "v0").context("after the first pull")?;

    // What is pulled once goes, what is pulled again stays.
    for number in 1..6 {
        let tag = format!("v{number}");
        push(&registry.http, &tag)?;
        registry.http.read_whole(REPOSITORY, &tag)?;
        let taken = size_of(&folder)?;
        ensure!(taken <= MAX_SIZE, "{taken} bytes are in a cache for {MAX_SIZE}");
    }
    let evictions = number(&registry, "evictions_total")?;
    ensure!(evictions > 0, "{evictions} files have gone");
    from_the_cache(stage, &registry, "v0").context("after other images")?;

    let other = registry.command(stage, "serve");
    let other = other
        .env("REGISTRY_HTTP_ADDR", format!("127.0.0.1:{}", free_port()?))
        .env("REGISTRY_HTTP_DEBUG_ADDR", format!("127.0.0.1:{}", free_port()?))
        .env("REGISTRY_DATABASE_URL", format!("sqlite://{}", stage.path("other").display()));
    let refusal = other.fail()?;
    ensure!(refusal.contains("another server uses it"), "the second server says {refusal}");

    registry.stop()?;
    registry.restart(stage)?;
    wait_for_files(&registry, 2)?;
    from_the_cache(stage, &registry, "v0").context("after a restart")?;

    registry.stop()?;
    for file in files_below(&folder.join("blobs"))? {
        let mut bytes = std::fs::read(&file)?;
        *bytes.last_mut().context("an empty file")? ^= 1;
        std::fs::write(&file, bytes)?;
    }
    registry.restart(stage)?;
    for _ in 0..2 {
        registry.http.read_whole(REPOSITORY, "v0").context("with damaged files in the cache")?;
    }
    wait_for_files(&registry, 2)?;
    from_the_cache(stage, &registry, "v0").context("after damage")?;
    registry.stop()?;
    registry.check(stage)
}

fn full(stage: &Stage) -> Result<()> {
    let folder = stage.folder("cache")?;
    stage.client("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&folder).succeed()?;
    let mut registry = stage.start_registry("store", &set_up(&folder, 1 << 30))?;
    for tag in ["v1", "v2", "v3"] {
        push(&registry.http, tag)?;
        for _ in 0..2 {
            registry.http.read_whole(REPOSITORY, tag)?;
        }
    }
    let errors = number(&registry, "errors_total")?;
    ensure!(errors > 0, "a disk of 4 MB has taken three layers of {LAYER} bytes");
    let told = registry.log().matches("the disk cache takes nothing in").count();
    ensure!(told == 1, "the log tells {told} times of the full disk{}", registry.log());
    registry.stop()?;
    registry.check(stage)
}

/// An image of one layer.
fn push(http: &Http, tag: &str) -> Result<()> {
    http.push_image(REPOSITORY, tag, &pseudo_random(tag, LAYER))?;
    Ok(())
}

/// Pulls an image's layer while the store does not answer. (What is small comes from memory, so that
/// it may have gone from the disk meanwhile.)
fn from_the_cache(stage: &Stage, registry: &Registry, tag: &str) -> Result<()> {
    let misses = number(registry, "reads_total{result=\"miss\"}")?;
    // A server that has just started does not have the manifest in memory.
    let manifest = registry.http.get_manifest(REPOSITORY, tag)?.json()?;
    let layer = array(&manifest, "layers").first().context("no layer")?;
    let layer = text(layer, "digest")?;
    let path = format!("/v2/{REPOSITORY}/blobs/{layer}");
    let (size, found) = stage.s3()?.while_paused(|| registry.http.digest_of_body(&path))?;
    ensure!(size == LAYER as u64 && found == layer, "{size} bytes, {found}, and not {layer}");
    let more = number(registry, "reads_total{result=\"miss\"}")?;
    ensure!(more <= misses + 1, "{misses} reads of the store became {more}");
    Ok(())
}

/// Waits until so many files, or more, are in the cache.
fn wait_for_files(registry: &Registry, count: u64) -> Result<()> {
    wait_until(LIMIT, || {
        let files = number(registry, "files")?;
        ensure!(files >= count, "{files} files are in the cache");
        Ok(())
    })
}

/// What the metrics say; zero if they say nothing.
fn number(registry: &Registry, name: &str) -> Result<u64> {
    let name = format!("orlop_disk_cache_{name} ");
    let metrics = registry.metrics()?;
    let found = metrics.lines().find_map(|line| line.strip_prefix(&name));
    found.map_or(Ok(0), |number| Ok(number.parse()?))
}

fn size_of(folder: &Path) -> Result<u64> {
    // What goes meanwhile takes nothing.
    let sizes = files_below(folder)?.into_iter().filter_map(|file| std::fs::metadata(file).ok());
    Ok(sizes.map(|found| found.len()).sum())
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
