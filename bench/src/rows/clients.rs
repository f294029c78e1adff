//! Wall clock of real clients with an image of 60 layers, for those that are installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{Extra, Pass, Row};
use crate::content::digest_of;
use crate::http::{Client, Request, Sink};
use crate::load::Sample;
use crate::process;
use crate::registry::{self, Blob};
use crate::seed;
use crate::server::Server;
use crate::unit::Unit;

const REPOSITORY: &str = "bench/sixty";
const TAG: &str = "all";
const LAYERS: u64 = 60;
const SIZE: u64 = 512 * 1024;

/// Where the tests with real clients keep theirs.
const TOOLS: &str = "e2e/.tools/bin";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(skopeo) = find("skopeo") {
        for (name, way) in [
            ("skopeo copy --all, to a folder", Way::ToFolder),
            ("skopeo copy --all, from a folder", Way::FromFolder),
            ("skopeo copy --all, to another repository", Way::ToRepository),
        ] {
            let skopeo = skopeo.clone();
            rows.push(row(name, move |server, pass| copy(&skopeo, server, pass, way)));
        }
    }
    if let Some(crane) = find("crane") {
        rows.push(row("crane copy, to another repository", move |server, pass| {
            let to = format!("bench/crane{}", pass.round);
            let mut command = Command::new(&crane);
            command.args(["copy", "--insecure"]);
            command.arg(format!("{}/{REPOSITORY}:{TAG}", server.address()));
            command.arg(format!("{}/{to}:{TAG}", server.address()));
            let sample = time(server, command)?;
            check(server, &to)?;
            Ok(sample)
        }));
    }
    rows
}

fn row(name: &str, work: impl Fn(&Server, &Pass<'_>) -> anyhow::Result<Sample> + 'static) -> Row {
    Row::new(format!("{name} (60 layers)"), Unit::Start, move |server, pass| {
        if pass.round == 0 {
            push_image(server, pass)?;
        }
        work(server, pass)
    })
    .only(Extra::Clients)
}

#[derive(Clone, Copy)]
enum Way {
    ToFolder,
    FromFolder,
    ToRepository,
}

fn copy(skopeo: &Path, server: &Server, pass: &Pass<'_>, way: Way) -> anyhow::Result<Sample> {
    let at = |repository: &str| format!("docker://{}/{repository}:{TAG}", server.address());
    let folder = tempfile::tempdir_in(server.folder())?;
    let folder = format!("dir:{}", folder.path().join("image").display());
    let run = |from: &str, to: &str| {
        let mut command = Command::new(skopeo);
        command.args(["--insecure-policy", "copy", "--all", "--quiet"]);
        // It would compress layers that it cannot mount, and so make another image.
        command.arg("--preserve-digests");
        command.args(["--src-tls-verify=false", "--dest-tls-verify=false", from, to]);
        time(server, command)
    };
    let to = match way {
        Way::ToFolder => return run(&at(REPOSITORY), &folder),
        Way::FromFolder => format!("bench/skopeo-push{}", pass.round),
        Way::ToRepository => format!("bench/skopeo-copy{}", pass.round),
    };
    let from = if matches!(way, Way::FromFolder) {
        run(&at(REPOSITORY), &folder)?;
        folder
    } else {
        at(REPOSITORY)
    };
    let sample = run(&from, &at(&to))?;
    check(server, &to)?;
    Ok(sample)
}

/// The client's time, and what the server used meanwhile.
fn time(server: &Server, mut command: Command) -> anyhow::Result<Sample> {
    rustix::fs::sync();
    let process = server.process()?;
    process::reset_peak(process)?;
    let before = process::cpu_seconds(process)?;
    let begin = Instant::now();
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let memory = process::memory(process)?;
    Ok(Sample {
        operations: 1,
        seconds,
        median: seconds * 1000.0,
        server_cpu: process::cpu_seconds(process)? - before,
        peak: memory.peak,
        anonymous: memory.anonymous,
        ..Sample::default()
    })
}

/// An index of two images that have the layers in common.
fn push_image(server: &Server, pass: &Pass<'_>) -> anyhow::Result<()> {
    let mut client = server.client();
    let layers: Vec<Blob> =
        (0..LAYERS).map(|number| pass.shelf.blob(format!("sixty/{number}"), SIZE)).collect();
    layers.iter().try_for_each(|layer| seed::ensure_blob(server, REPOSITORY, layer))?;
    let (config, digest) = registry::config();
    registry::push_bytes(&mut client, REPOSITORY, &digest, &config)?;
    let mut images = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let manifest = registry::manifest((&digest, config.len()), &layers, architecture);
        let digest = digest_of(&manifest);
        let put = registry::manifest_put(server.address(), REPOSITORY, &digest, &manifest);
        client.send(&put, Sink::Discard)?.expect(201, "PUT of a manifest")?;
        images.push(json!({
            "mediaType": registry::MANIFEST_TYPE,
            "digest": digest,
            "size": manifest.len(),
            "platform": { "architecture": architecture, "os": "linux" },
        }));
    }
    let index =
        json!({ "schemaVersion": 2, "mediaType": registry::INDEX_TYPE, "manifests": images });
    let index = index.to_string().into_bytes();
    let put = registry::index_put(server.address(), REPOSITORY, TAG, &index);
    client.send(&put, Sink::Discard)?.expect(201, "PUT of an index")?;
    Ok(())
}

/// The copy is the same to the byte.
fn check(server: &Server, repository: &str) -> anyhow::Result<()> {
    let mut client = server.client();
    let [original, copy] = [index(&mut client, REPOSITORY)?, index(&mut client, repository)?];
    ensure!(original == copy, "{repository} has another index than {REPOSITORY}");
    Ok(())
}

fn index(client: &mut Client, repository: &str) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let target = format!("/v2/{repository}/manifests/{TAG}");
    let headers = [("Accept", registry::INDEX_TYPE)];
    let get = Request::new("GET", client.address(), &target, &headers);
    client.send(&get, Sink::Keep(&mut body))?.expect(200, &target)?;
    Ok(body)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from(TOOLS)]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
