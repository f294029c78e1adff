//! oras: artifacts of any kind, and artifacts that refer to others.

use anyhow::{Context as _, Result, ensure};

use crate::http::{array, text};
use crate::image;
use crate::process::Client;
use crate::registry::Registry;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("oras: push and pull an artifact", 60, push_and_pull),
    Scenario::new("oras: attach, discover and copy with referrers", 90, attach),
    Scenario::new("oras: tags, repositories, blobs and manifests", 90, parts),
];

fn push_and_pull(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        stage.file("notes.txt", "some notes")?;
        stage.file("data.bin", image::pseudo_random("oras", 300_000))?;
        oras(stage, &["push"])
            .args(["--artifact-type", "application/vnd.example.notes"])
            .arg(registry.name("artifacts/notes:v1,latest"))
            .args(["notes.txt:text/plain", "data.bin"])
            .succeed()?;
        registry.http.read_whole("artifacts/notes", "latest")?;
        let manifest = registry.http.get_manifest("artifacts/notes", "v1")?.json()?;
        ensure!(text(&manifest, "artifactType")? == "application/vnd.example.notes", "{manifest}");

        let folder = stage.folder("pulled")?;
        oras(stage, &["pull"])
            .arg("--output")
            .arg(&folder)
            .arg(registry.name("artifacts/notes:v1"))
            .succeed()?;
        for file in ["notes.txt", "data.bin"] {
            let (sent, got) = (
                std::fs::read(stage.path(file))?,
                std::fs::read(folder.join(file)).with_context(|| format!("no {file}"))?,
            );
            ensure!(sent == got, "{file} came back altered");
        }
        Ok(())
    })
}

fn attach(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let subject = push_image(stage, registry, "artifacts/app")?;
        let name = registry.name("artifacts/app:v1");
        stage.file("sbom.json", "{}")?;
        stage.file("signature.txt", "signed")?;
        for (kind, file) in [
            ("application/vnd.example.sbom", "sbom.json"),
            ("application/vnd.example.signature", "signature.txt"),
        ] {
            oras(stage, &["attach"])
                .args(["--distribution-spec", "v1.1-referrers-api"])
                .args(["--artifact-type", kind, "--annotation", "by=e2e"])
                .args([&name, &format!("{file}:text/plain")])
                .succeed()?;
        }
        let all = discover(stage, &name, &[])?;
        let all = array(&all, "referrers");
        ensure!(all.len() == 2, "expected two referrers, found {all:?}");
        // A referrer of a referrer.
        let sbom = registry.name(&format!("artifacts/app@{}", text_of(all, "sbom")?));
        oras(stage, &["attach"])
            .args(["--distribution-spec", "v1.1-referrers-api"])
            .args(["--artifact-type", "application/vnd.example.signature"])
            .args([&sbom, "signature.txt:text/plain"])
            .succeed()?;
        let kind = ["--artifact-type", "application/vnd.example.signature"];
        let some = discover(stage, &sbom, &kind)?;
        ensure!(array(&some, "referrers").len() == 1, "{some}");
        let tags = registry.http.tags("artifacts/app")?;
        ensure!(tags == ["v1"], "the referrers tag schema was used: {tags:?}");

        // The image and all that refers to it, to another repository.
        let copy = registry.name("artifacts/copy:v1");
        oras(stage, &["cp"])
            .args(["--recursive", "--from-plain-http", "--to-plain-http"])
            .args([&name, &copy])
            .succeed()?;
        ensure!(registry.http.digest_of("artifacts/copy", "v1")? == subject);
        let copied = discover(stage, &copy, &[])?;
        ensure!(array(&copied, "referrers").len() == 2, "{copied}");
        Ok(())
    })
}

fn parts(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let digest = push_image(stage, registry, "artifacts/parts")?;
        let name = registry.name("artifacts/parts:v1");
        oras(stage, &["tag"]).args([&name, "v2", "v3"]).succeed()?;
        let listed = oras(stage, &["repo", "tags"]).arg(registry.name("artifacts/parts")).text()?;
        ensure!(listed == "v1\nv2\nv3", "listed {listed:?}");
        let listed = oras(stage, &["repo", "ls"]).arg(&registry.host).text()?;
        ensure!(listed == "artifacts/parts", "listed {listed:?}");
        let resolved = oras(stage, &["resolve"]).arg(&name).text()?;
        ensure!(resolved == digest, "pushed {digest}, resolved {resolved}");

        let blob = oras(stage, &["blob", "push"])
            .arg("--descriptor")
            .arg(registry.name("artifacts/parts"))
            .arg(stage.file("blob", "bytes of a blob")?)
            .json()?;
        let blob = registry.name(&format!("artifacts/parts@{}", text(&blob, "digest")?));
        let fetched = oras(stage, &["blob", "fetch"]).args(["--output", "-", &blob]).text()?;
        ensure!(fetched == "bytes of a blob", "fetched {fetched:?}");
        oras(stage, &["blob", "delete"]).args(["--force", &blob]).succeed()?;
        oras(stage, &["blob", "fetch"]).args(["--output", "-", &blob]).fail()?;

        let by_digest = registry.name(&format!("artifacts/parts@{digest}"));
        oras(stage, &["manifest", "delete"]).args(["--force", &by_digest]).succeed()?;
        oras(stage, &["resolve"]).arg(&name).fail()?;
        Ok(())
    })
}

/// Pushes a runnable image as `v1`; its digest.
fn push_image(stage: &Stage, registry: &Registry, repository: &str) -> Result<String> {
    let (layout, digest) = image::runnable(stage, "oras-subject")?;
    stage
        .client("oras")
        .args(["cp", "--from-oci-layout", "--to-plain-http", "--no-tty"])
        .arg(layout.name("v1"))
        .arg(registry.name(&format!("{repository}:v1")))
        .succeed()?;
    let found = registry.http.digest_of(repository, "v1")?;
    ensure!(found == digest, "pushed {digest}, found {found}");
    Ok(digest)
}

fn discover(stage: &Stage, name: &str, arguments: &[&str]) -> Result<serde_json::Value> {
    oras(stage, &["discover"])
        .args(["--distribution-spec", "v1.1-referrers-api"])
        .args(["--format", "json", "--depth", "1"])
        .args(arguments)
        .arg(name)
        .json()
}

/// The digest of the descriptor whose artifact type ends like that.
fn text_of<'a>(descriptors: &'a [serde_json::Value], kind: &str) -> Result<&'a str> {
    let found = descriptors
        .iter()
        .find(|descriptor| text(descriptor, "artifactType").is_ok_and(|t| t.ends_with(kind)))
        .with_context(|| format!("no {kind} among {descriptors:?}"))?;
    text(found, "digest")
}

/// oras over plain HTTP; `cp` has a flag for each of its two sides instead.
fn oras<'a>(stage: &'a Stage, verb: &[&str]) -> Client<'a> {
    let client = stage.client("oras").args(verb);
    match verb {
        ["cp"] => client,
        _ => client.arg("--plain-http"),
    }
}
