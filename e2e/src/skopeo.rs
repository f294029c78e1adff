//! skopeo: copies between registries, layouts and formats.

use anyhow::{Context as _, Result, ensure};

use crate::http::{array, text};
use crate::image::{self, media_type};
use crate::process::Client;
use crate::registry::Registry;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("skopeo: copy in, across and out", 90, copy),
    Scenario::new("skopeo: copy --all of a multi-arch index", 90, copy_all),
    Scenario::new("skopeo: OCI and Docker formats", 90, formats),
    Scenario::new("skopeo: zstd layers", 90, zstd),
    Scenario::new("skopeo: inspect, list-tags and delete", 90, inspect_and_delete),
];

fn copy(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest) = image::runnable(stage, "skopeo")?;
        let source = format!("oci:{}", layout.name("v1"));
        let first = registry.docker_url("team/first:v1");
        // The second time everything is there already.
        for _ in 0..2 {
            skopeo_copy(stage, &source, &first).succeed()?;
        }
        // Blobs are mounted, not sent.
        let second = registry.docker_url("team/second/nested:v1");
        skopeo_copy(stage, &first, &second).succeed()?;
        for repository in ["team/first", "team/second/nested"] {
            let found = registry.http.digest_of(repository, "v1")?;
            ensure!(found == digest, "{repository}: pushed {digest}, found {found}");
            ensure!(registry.http.read_whole(repository, "v1")? == 4);
        }

        let back = stage.path("back");
        skopeo_copy(stage, &second, &format!("oci:{}:v1", back.display())).succeed()?;
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(back.join("index.json"))?)?;
        let pulled = array(&index, "manifests").first().context("no image")?;
        let pulled = text(pulled, "digest")?;
        ensure!(pulled == digest, "pushed {digest}, pulled {pulled}");
        Ok(())
    })
}

fn copy_all(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest, children) = image::multi_arch(stage, "skopeo-multi")?;
        let first = registry.docker_url("multi/first:v1");
        let second = registry.docker_url("multi/second:v1");
        skopeo_copy(stage, &format!("oci:{}", layout.name("v1")), &first).arg("--all").succeed()?;
        skopeo_copy(stage, &first, &second).arg("--all").succeed()?;
        for repository in ["multi/first", "multi/second"] {
            let found = registry.http.digest_of(repository, "v1")?;
            ensure!(found == digest, "{repository}: pushed {digest}, found {found}");
            for child in &children {
                registry.http.digest_of(repository, child)?;
            }
            // Two configs; of six layers the program's is the same in both.
            ensure!(registry.http.read_whole(repository, "v1")? == 7);
        }
        // Without --all a client picks the image for its own machine.
        let back = stage.path("back");
        skopeo_copy(stage, &second, &format!("oci:{}:v1", back.display()))
            .args(["--override-os", "linux", "--override-arch", "arm64"])
            .succeed()?;
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(back.join("index.json"))?)?;
        let pulled = array(&index, "manifests").first().context("no image")?;
        let pulled = text(pulled, "digest")?;
        ensure!(
            Some(pulled) == children.last().map(String::as_str),
            "asked for arm64, got {pulled} of {children:?}"
        );
        Ok(())
    })
}

fn formats(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, _) = image::runnable(stage, "skopeo-formats")?;
        let source = format!("oci:{}", layout.name("v1"));
        for (format, expected) in
            [("v2s2", media_type::DOCKER_MANIFEST), ("oci", media_type::OCI_MANIFEST)]
        {
            let name = registry.docker_url(&format!("formats/{format}:v1"));
            skopeo_copy(stage, &source, &name).args(["--format", format]).succeed()?;
            let repository = format!("formats/{format}");
            let manifest = registry.http.get_manifest(&repository, "v1")?;
            let found = manifest.required_header("content-type")?;
            ensure!(found == expected, "pushed {expected}, found {found}");
            registry.http.read_whole(&repository, "v1")?;
        }
        // From one format to the other, registry to registry.
        skopeo_copy(
            stage,
            &registry.docker_url("formats/v2s2:v1"),
            &registry.docker_url("formats/converted:v1"),
        )
        .args(["--format", "oci"])
        .succeed()?;
        registry.http.read_whole("formats/converted", "v1")?;
        Ok(())
    })
}

fn zstd(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, _) = image::runnable(stage, "skopeo-zstd")?;
        let name = registry.docker_url("zstd/image:v1");
        skopeo_copy(stage, &format!("oci:{}", layout.name("v1")), &name)
            .args(["--dest-compress-format", "zstd", "--dest-compress-level", "3"])
            .arg("--dest-compress")
            .args(["--format", "oci"])
            .succeed()?;
        let manifest = registry.http.get_manifest("zstd/image", "v1")?.json()?;
        for layer in array(&manifest, "layers") {
            let found = text(layer, "mediaType")?;
            ensure!(found.ends_with("tar+zstd"), "a layer is {found}");
        }
        registry.http.read_whole("zstd/image", "v1")?;
        let back = format!("oci:{}:v1", stage.path("back").display());
        skopeo_copy(stage, &name, &back).succeed()?;
        Ok(())
    })
}

fn inspect_and_delete(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, digest) = image::runnable(stage, "skopeo-inspect")?;
        let source = format!("oci:{}", layout.name("v1"));
        for tag in ["v2", "v10", "latest"] {
            let name = registry.docker_url(&format!("inspect/image:{tag}"));
            skopeo_copy(stage, &source, &name).succeed()?;
        }
        let inspected = skopeo(stage, "inspect")
            .arg("--tls-verify=false")
            .arg(registry.docker_url("inspect/image:v2"))
            .json()?;
        ensure!(text(&inspected, "Digest")? == digest, "{inspected}");
        ensure!(array(&inspected, "Layers").len() == 3, "{inspected}");
        ensure!(array(&inspected, "RepoTags").len() == 3, "{inspected}");

        let listed = skopeo(stage, "list-tags")
            .arg("--tls-verify=false")
            .arg(registry.docker_url("inspect/image"))
            .json()?;
        ensure!(
            *array(&listed, "Tags") == ["latest", "v10", "v2"],
            "expected the tags in order, found {listed}"
        );

        // skopeo deletes the manifest, and so every tag of it.
        skopeo(stage, "delete")
            .arg("--tls-verify=false")
            .arg(registry.docker_url("inspect/image:v2"))
            .succeed()?;
        for tag in ["v2", "latest"] {
            let path = format!("/v2/inspect/image/manifests/{tag}");
            registry.http.head(&path)?.expect(404)?;
        }
        let said = skopeo(stage, "inspect")
            .arg("--tls-verify=false")
            .arg(registry.docker_url("inspect/image:v10"))
            .fail()?;
        ensure!(said.contains("manifest unknown"), "{said}");
        Ok(())
    })
}

fn skopeo<'a>(stage: &'a Stage, verb: &str) -> Client<'a> {
    stage.client("skopeo").arg(verb)
}

fn skopeo_copy<'a>(stage: &'a Stage, source: &str, destination: &str) -> Client<'a> {
    skopeo(stage, "copy")
        .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([source, destination])
}

impl Registry {
    /// `docker://HOST/IMAGE`, as skopeo, podman and buildah name it.
    pub(crate) fn docker_url(&self, image: &str) -> String {
        format!("docker://{}", self.name(image))
    }
}
