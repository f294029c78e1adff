//! buildah: images built on the spot and pushed in both formats.

use anyhow::{Result, ensure};

use crate::http::array;
use crate::image::{self, greeting, media_type};
use crate::process::Client;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("buildah: build, push and pull", 180, build_push_pull),
    Scenario::new("buildah: manifest push --all of two platforms", 180, multi_arch),
];

fn build_push_pull(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        build(stage, "built", "amd64")?;
        for (format, expected) in
            [("oci", media_type::OCI_MANIFEST), ("v2s2", media_type::DOCKER_MANIFEST)]
        {
            let repository = format!("built/{format}");
            buildah(stage)
                .args(["push", "--tls-verify=false", "--format", format])
                .arg("built")
                .arg(registry.docker_url(&format!("{repository}:v1")))
                .succeed()?;
            let manifest = registry.http.get_manifest(&repository, "v1")?;
            let found = manifest.required_header("content-type")?;
            ensure!(found == expected, "pushed {expected}, found {found}");
            registry.http.read_whole(&repository, "v1")?;
        }

        buildah(stage).args(["rmi", "--all", "--force"]).succeed()?;
        let name = registry.name("built/oci:v1");
        buildah(stage).args(["pull", "--tls-verify=false", &name]).succeed()?;
        let container = buildah(stage).args(["from", "--pull-never", &name]).text()?;
        let folder = buildah(stage).args(["mount", &container]).text()?;
        let read = std::fs::read_to_string(format!("{folder}/greeting"))?;
        ensure!(read == greeting("built"), "the image holds {read:?}");
        buildah(stage).args(["umount", &container]).succeed()?;
        Ok(())
    })
}

fn multi_arch(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        buildah(stage).args(["manifest", "create", "both"]).succeed()?;
        for architecture in ["amd64", "arm64"] {
            let image = format!("image-{architecture}");
            build(stage, &image, architecture)?;
            buildah(stage)
                .args(["manifest", "add", "both"])
                .arg(format!("containers-storage:localhost/{image}"))
                .succeed()?;
        }
        buildah(stage)
            .args(["manifest", "push", "--all", "--tls-verify=false"])
            .arg("both")
            .arg(registry.docker_url("built/both:v1"))
            .succeed()?;
        let index = registry.http.get_manifest("built/both", "v1")?.json()?;
        ensure!(array(&index, "manifests").len() == 2, "{index}");
        registry.http.read_whole("built/both", "v1")?;
        Ok(())
    })
}

/// Builds an image from nothing but the program and a greeting.
fn build(stage: &Stage, name: &str, architecture: &str) -> Result<()> {
    let folder = stage.folder(&format!("root-of-{name}"))?;
    image::write_program(&folder)?;
    std::fs::write(folder.join("greeting"), greeting(name))?;
    let container = buildah(stage).args(["from", "--arch", architecture, "scratch"]).text()?;
    buildah(stage).args(["copy", &container]).arg(&folder).arg("/").succeed()?;
    buildah(stage)
        .args(["config", "--os=linux", "--arch", architecture])
        .args(["--cmd", "/bin/cat /greeting", &container])
        .succeed()?;
    buildah(stage).args(["commit", "--rm", &container, name]).succeed()?;
    Ok(())
}

/// buildah with its images and containers on the stage.
fn buildah(stage: &Stage) -> Client<'_> {
    let store = stage.path("buildah");
    stage
        .client("buildah")
        .arg("--root")
        .arg(store.join("root"))
        .arg("--runroot")
        .arg(store.join("run"))
        .arg("--storage-driver=vfs")
}
