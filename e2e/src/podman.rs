//! podman, with a store of its own.

use anyhow::{Result, ensure};

use crate::http::{array, text};
use crate::image::{self, Layout, greeting};
use crate::process::Client;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("podman: pull, run, push and pull again", 180, round_trip),
    Scenario::new("podman: push with zstd and zstd:chunked layers", 180, zstd),
    Scenario::new("podman: manifest create and push", 180, manifest_list),
    Scenario::new("podman: search --list-tags", 120, list_tags),
];

fn round_trip(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, _) = image::runnable(stage, "podman")?;
        let name = registry.name("team/podman:v1");
        load(stage, &layout, &name)?;
        push(stage, &name).succeed()?;
        let first = registry.http.digest_of("team/podman", "v1")?;
        registry.http.read_whole("team/podman", "v1")?;

        let other = registry.name("other/podman:v2");
        podman(stage).args(["tag", &name, &other]).succeed()?;
        push(stage, &other).succeed()?;
        registry.http.read_whole("other/podman", "v2")?;

        podman(stage).args(["rmi", "--all", "--force"]).succeed()?;
        podman(stage).args(["pull", "--tls-verify=false", &name]).succeed()?;
        let digest =
            podman(stage).args(["image", "inspect", "--format={{.Digest}}", &name]).text()?;
        ensure!(digest == first, "pushed {first}, pulled {digest}");
        let printed = run(stage, &name)?;
        ensure!(printed == greeting("podman"), "the container printed {printed:?}");
        Ok(())
    })
}

fn zstd(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        for (repository, compression) in [("plain", "zstd"), ("chunked", "zstd:chunked")] {
            let image = format!("zstd-{repository}");
            let (layout, _) = image::runnable(stage, &image)?;
            let name = registry.name(&format!("team/{image}:v1"));
            load(stage, &layout, &name)?;
            push(stage, &name)
                .args(["--compression-format", compression, "--format=oci"])
                .succeed()?;
            let manifest = registry.http.get_manifest(&format!("team/{image}"), "v1")?.json()?;
            for layer in array(&manifest, "layers") {
                let found = text(layer, "mediaType")?;
                ensure!(found.ends_with("tar+zstd"), "a layer is {found}");
            }
            podman(stage).args(["rmi", "--all", "--force"]).succeed()?;
            podman(stage).args(["pull", "--tls-verify=false", &name]).succeed()?;
            let printed = run(stage, &name)?;
            ensure!(printed == greeting(&image), "the container printed {printed:?}");
        }
        Ok(())
    })
}

fn manifest_list(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, _) = image::runnable(stage, "podman-list")?;
        let part = registry.name("team/list:amd64");
        load(stage, &layout, &part)?;
        podman(stage).args(["manifest", "create", "local-list"]).succeed()?;
        podman(stage)
            .args(["manifest", "add", "local-list"])
            .arg(format!("containers-storage:{part}"))
            .succeed()?;
        podman(stage)
            .args(["manifest", "push", "--all", "--tls-verify=false"])
            .arg("local-list")
            .arg(registry.docker_url("team/list:v1"))
            .succeed()?;
        let manifest = registry.http.get_manifest("team/list", "v1")?.json()?;
        ensure!(array(&manifest, "manifests").len() == 1, "{manifest}");
        registry.http.read_whole("team/list", "v1")?;
        Ok(())
    })
}

fn list_tags(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, _) = image::runnable(stage, "podman-tags")?;
        for tag in ["a", "b"] {
            let name = registry.name(&format!("team/tags:{tag}"));
            load(stage, &layout, &name)?;
            push(stage, &name).succeed()?;
        }
        let listed = podman(stage)
            .args(["search", "--list-tags", "--tls-verify=false"])
            .arg(registry.name("team/tags"))
            .text()?;
        let tags: Vec<&str> = listed
            .lines()
            .skip(1) // the heading
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        ensure!(tags == ["a", "b"], "listed {tags:?}");
        Ok(())
    })
}

/// podman with its images, containers and state on the stage. `vfs` works on
/// every file system.
pub(crate) fn podman(stage: &Stage) -> Client<'_> {
    let store = stage.path("containers");
    stage
        .client("podman")
        .arg("--root")
        .arg(store.join("root"))
        .arg("--runroot")
        .arg(store.join("run"))
        .arg("--tmpdir")
        .arg(store.join("tmp"))
        .args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs"])
        .args(["--runtime=runc", "--events-backend=file"])
}

fn push<'a>(stage: &'a Stage, name: &str) -> Client<'a> {
    podman(stage).args(["push", "--tls-verify=false", name])
}

fn run(stage: &Stage, name: &str) -> Result<String> {
    podman(stage)
        .args(["run", "--rm", "--network=none", "--pull=never"])
        .args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"])
        .arg(name)
        .text()
}

/// Loads the image `v1` of a layout under the name that it is to be pushed to.
fn load(stage: &Stage, layout: &Layout, name: &str) -> Result<()> {
    podman(stage).args(["load", "--input"]).arg(layout.archive(stage)?).succeed()?;
    podman(stage).args(["tag", "v1", name]).succeed()?;
    Ok(())
}
