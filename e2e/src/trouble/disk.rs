//! A disk that is full or read-only, and files that others have damaged.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::refused;
use crate::http::{Answer, sha256, with_query};
use crate::image::{media_type, pseudo_random};
use crate::registry::Registry;
use crate::scenario::{Stage, wait_until};

const REPOSITORY: &str = "trouble/disk";
const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");
/// Where scenarios have their store.
const STORE: &str = "store";
/// The size of the small disk, and a blob that does not fit on it.
const SIZE: &str = "size=24m";
const TOO_LARGE: usize = 40_000_000;

/// Mounts a small disk where the registry will have its store.
fn small_disk(stage: &Stage) -> Result<PathBuf> {
    let store = stage.folder(STORE)?;
    stage.client("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&store).succeed()?;
    Ok(store)
}

pub(super) fn full(stage: &Stage) -> Result<()> {
    let store = small_disk(stage)?;
    stage.with_registry(|registry| {
        let pushed = push_image(registry, "before")?;
        refused(push_at_once(registry, &pseudo_random("large", TOO_LARGE))?, 507, "UNAVAILABLE")
            .context("a blob larger than the disk")?;
        push_image(registry, "after-large").context("after a blob larger than the disk")?;

        let ballast = store.join("ballast");
        fill(&ballast)?;
        refused(push_at_once(registry, &pseudo_random("small", 50_000))?, 507, "UNAVAILABLE")
            .context("a small blob on a full disk")?;
        refused(push_manifest(registry, "full", &[])?, 507, "UNAVAILABLE")
            .context("a manifest on a full disk")?;
        registry.http.read_whole(REPOSITORY, "before").context("a pull from a full disk")?;

        std::fs::remove_file(&ballast)?;
        push_image(registry, "with-space").context("with space again")?;
        for tag in ["before", "after-large", "with-space"] {
            registry.http.read_whole(REPOSITORY, tag)?;
        }
        ensure!(registry.http.digest_of(REPOSITORY, "before")? == pushed, "a tag has moved");
        registry.http.get(&format!("/v2/{REPOSITORY}/manifests/full"))?.expect(404)?;
        Ok(())
    })
}

/// An upload that stops for want of space must not keep others from theirs.
pub(super) fn filled_by_upload(stage: &Stage) -> Result<()> {
    small_disk(stage)?;
    stage.with_registry(|registry| {
        push_image(registry, "before")?;
        let http = &registry.http;
        let location = http.open_upload(REPOSITORY)?;
        let bytes = pseudo_random("large", TOO_LARGE);
        let answer = http.send("PATCH", &location, &[OCTETS], bytes.as_slice())?;
        refused(answer, 507, "UNAVAILABLE").context("a chunk larger than the disk")?;
        registry.http.read_whole(REPOSITORY, "before").context("a pull from a full disk")?;
        http.get(&location)?.expect(204).context("the upload that did not fit")?;
        push_image(registry, "beside").context("beside the upload that did not fit")?;
        http.send("DELETE", &location, &[], ())?
            .expect(204)
            .context("cancelling the upload that did not fit")?;
        push_image(registry, "after").context("after the upload that did not fit")?;
        Ok(())
    })
}

/// While it runs, everything below the data folder becomes read-only.
pub(super) fn read_only(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        push_image(registry, "before")?;
        let store = stage.path(STORE);
        // A mount on top of itself: files that are open already stay
        // writable, every name that is looked up from now on is not.
        stage.client("mount").arg("--bind").arg(&store).arg(&store).succeed()?;
        stage.client("mount").args(["-o", "remount,bind,ro"]).arg(&store).succeed()?;
        let refusals = refuse_writes(registry);
        // The registry has files open that it found there.
        stage.client("umount").arg("--lazy").arg(&store).succeed()?;
        refusals?;
        push_image(registry, "after").context("writable again")?;
        Ok(())
    })
}

fn refuse_writes(registry: &Registry) -> Result<()> {
    let blob = pseudo_random("read-only", 50_000);
    refused(push_at_once(registry, &blob)?, 503, "UNAVAILABLE").context("a blob")?;
    refused(push_manifest(registry, "new", &[])?, 503, "UNAVAILABLE").context("a manifest")?;
    registry.http.read_whole(REPOSITORY, "before").context("a pull from a read-only folder")?;
    Ok(())
}

/// For a while the disk reports an error for everything that should be synced.
/// What was not synced is not acknowledged, then or later.
pub(super) fn failing(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        push_image(registry, "before")?;
        // Large enough to be synced by itself; small ones are synced with the database.
        let blob = pseudo_random("failing", 100_000);
        let small = pseudo_random("failing", 50_000);
        let session = registry.http.open_upload(REPOSITORY)?;
        registry.http.send("PATCH", &session, &[OCTETS], blob.as_slice())?.expect(202)?;

        let mut fault = stage.daemon("strace", "strace", |command| {
            command
                .args(["-f", "-qq", "-e", "trace=fsync,fdatasync"])
                .args(["-e", "inject=fsync,fdatasync:error=EIO", "-p"])
                .arg(registry.pid().to_string());
        })?;
        wait_until(Duration::from_secs(20), || is_traced(registry.pid()))?;
        let put = with_query(&session, "digest", &sha256(&blob));
        let refusals = || -> Result<()> {
            let http = &registry.http;
            refused(http.send("PUT", &put, &[OCTETS], &[] as &[u8])?, 500, "UNKNOWN")
                .context("the end of an upload")?;
            for _ in 0..3 {
                refused(push_at_once(registry, &blob)?, 500, "UNKNOWN").context("a blob")?;
                refused(push_at_once(registry, &small)?, 503, "UNAVAILABLE")
                    .context("a small blob")?;
                refused(push_manifest(registry, "failing", &[])?, 503, "UNAVAILABLE")
                    .context("a manifest")?;
            }
            for blob in [&blob, &small] {
                let path = format!("/v2/{REPOSITORY}/blobs/{}", sha256(blob));
                http.get(&path)?.expect(404).context("a blob that was not acknowledged")?;
            }
            http.get(&format!("/v2/{REPOSITORY}/manifests/failing"))?.expect(404)?;
            http.read_whole(REPOSITORY, "before").map(drop).context("a pull meanwhile")
        };
        let refusals = refusals();
        fault.stop(Duration::from_secs(20))?;
        refusals?;

        // Its bytes may be gone from the disk, whatever a second sync says.
        registry
            .http
            .send("PUT", &put, &[OCTETS], &[] as &[u8])?
            .expect(404)
            .context("an upload whose end failed")?;
        push_image(registry, "after").context("with a disk that syncs again")?;
        registry.kill()?;
        registry.restart(stage)?;
        for tag in ["before", "after"] {
            registry.http.read_whole(REPOSITORY, tag)?;
        }
        Ok(())
    })
}

/// Whether every thread of a process is in the hands of a tracer.
fn is_traced(process: u32) -> Result<()> {
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        ensure!(!status.contains("TracerPid:\t0\n"), "a thread is not traced yet");
    }
    Ok(())
}

pub(super) fn vanished(stage: &Stage) -> Result<()> {
    damaged_blob(stage, |file| Ok(std::fs::remove_file(file)?))
}

pub(super) fn truncated(stage: &Stage) -> Result<()> {
    damaged_blob(stage, |file| Ok(OpenOptions::new().write(true).open(file)?.set_len(1000)?))
}

/// A blob whose file is no longer what it was is unknown, until it is pushed
/// again.
fn damaged_blob(stage: &Stage, damage: fn(&Path) -> Result<()>) -> Result<()> {
    stage.with_registry(|registry| {
        push_image(registry, "whole")?;
        // A small one is in the database, too, for a few seconds.
        let bytes = pseudo_random("damaged", 100_000);
        let digest = registry.http.push_blob(REPOSITORY, &bytes)?;
        push_manifest(registry, "damaged", &[&bytes])?.expect(201)?;
        damage(&file_of(stage, &digest)?)?;

        let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
        refused(registry.http.get(&path)?, 404, "BLOB_UNKNOWN")?;
        registry.http.head(&path)?.expect(404)?;
        let mount = format!("/v2/trouble/mount/blobs/uploads/?mount={digest}&from={REPOSITORY}");
        registry
            .http
            .send("POST", &mount, &[], &[] as &[u8])?
            .expect(202)
            .context("mounting a blob that is not there")?;
        registry.http.read_whole(REPOSITORY, "whole")?;
        let found = registry.check(stage).err().context("`orlop check` saw nothing")?;
        ensure!(format!("{found:#}").contains(&digest), "{digest} is not in {found:#}");

        registry.http.push_blob(REPOSITORY, &bytes).context("pushing it again")?;
        registry.http.read_whole(REPOSITORY, "damaged")?;
        Ok(())
    })
}

/// What is served under a digest has that digest, or is not served.
pub(super) fn truncated_manifest(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        push_image(registry, "whole")?;
        let digest = push_image(registry, "damaged")?;
        let file = file_of(stage, &digest)?;
        let bytes = std::fs::read(&file)?;
        OpenOptions::new().write(true).open(&file)?.set_len(100)?;
        // What it remembers is whole.
        registry.stop()?;
        registry.restart(stage)?;

        let path = format!("/v2/{REPOSITORY}/manifests/damaged");
        refused(registry.http.get(&path)?, 404, "MANIFEST_UNKNOWN")?;
        registry.http.read_whole(REPOSITORY, "whole")?;
        registry
            .http
            .put_manifest(REPOSITORY, "damaged", media_type::OCI_MANIFEST, &bytes)?
            .expect(201)
            .context("pushing it again")?;
        registry.http.read_whole(REPOSITORY, "damaged")?;
        Ok(())
    })
}

/// An image of one small layer. Its manifest's digest.
fn push_image(registry: &Registry, tag: &str) -> Result<String> {
    let layer = pseudo_random(tag, 20_000);
    registry.http.push_blob(REPOSITORY, &layer)?;
    push_manifest(registry, tag, &[&layer])?.expect(201)?.required_header("docker-content-digest")
}

/// A manifest whose config is the first of its layers, or the empty one.
fn push_manifest(registry: &Registry, tag: &str, layers: &[&[u8]]) -> Result<Answer> {
    let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()});
    // Without layers: what `before` has, so that nothing is missing.
    let before = pseudo_random("before", 20_000);
    let config = layers.first().copied().unwrap_or(&before);
    let layers: Vec<_> =
        layers.iter().map(|layer| descriptor(media_type::OCI_LAYER_GZIP, layer)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, config),
        "layers": layers,
        "annotations": {"tag": tag},
    });
    registry.http.put_manifest(
        REPOSITORY,
        tag,
        media_type::OCI_MANIFEST,
        manifest.to_string().as_bytes(),
    )
}

fn push_at_once(registry: &Registry, bytes: &[u8]) -> Result<Answer> {
    let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", sha256(bytes));
    registry.http.send("POST", &path, &[OCTETS], bytes)
}

/// Writes until nothing more fits.
fn fill(ballast: &Path) -> Result<()> {
    let mut file = File::create(ballast)?;
    while file.write_all(&[0; 4096]).is_ok() {}
    Ok(())
}

/// The file of a blob in the store of `Stage::with_registry`.
fn file_of(stage: &Stage, digest: &str) -> Result<PathBuf> {
    let hex = digest.strip_prefix("sha256:").context("not a sha256 digest")?;
    let shard = hex.get(..2).context("too short")?;
    let blobs = stage.path(STORE).join("docker/registry/v2/blobs/sha256");
    Ok(blobs.join(shard).join(hex).join("data"))
}
