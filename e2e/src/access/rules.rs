//! Rules in the configuration, without a token server.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{basic, crane, docker_login, password_file};
use crate::docker::Docker;
use crate::http::{array, text};
use crate::image;
use crate::podman::podman;
use crate::registry::Setup;
use crate::scenario::Stage;

fn configuration(file: &Path, rules: &str) -> String {
    format!(
        "version: 0.1\nauth:\n  htpasswd: {{realm: registry, path: {}}}\n  rules:\n{rules}",
        file.display()
    )
}

const EVERYONE_PULLS: &str = "
    - repositories: ['**']
      users: [anonymous]
      actions: [pull]
    - repositories: ['**']
      users: [ci]
      actions: [push]
";

pub(super) fn docker(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    let file = password_file(stage, &[("ci", "robot"), ("jo", "human")])?;
    let configuration = configuration(&file, EVERYONE_PULLS);
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let name = registry.name("team/app:v1");
        docker.build(&name, 1)?;
        docker.client(&["push", &name]).fail()?;

        let said = docker_login(&docker, &registry.host, "ci", "wrong").fail()?;
        ensure!(said.contains("unauthorized"), "{said}");
        docker_login(&docker, &registry.host, "ci", "robot").succeed()?;
        let pushed = docker.push(&name)?;
        let other = registry.name("other/app:v1");
        docker.client(&["tag", &name, &other]).succeed()?;
        let output = docker.client(&["push", &other]).text()?;
        ensure!(output.contains("Mounted from team/app"), "the layers were not mounted:\n{output}");
        docker.client(&["logout", &registry.host]).succeed()?;

        for name in [&name, &other] {
            docker.remove(name)?;
            let pulled = docker.pull(name)?;
            ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");
        }
        let more = registry.name("team/app:v2");
        docker.client(&["tag", &other, &more]).succeed()?;
        docker.client(&["push", &more]).fail()?;
        docker_login(&docker, &registry.host, "jo", "human").succeed()?;
        let said = docker.client(&["push", &more]).fail()?;
        ensure!(said.contains("denied"), "{said}");
        registry.http.head("/v2/team/app/manifests/v2")?.expect(404)?;
        Ok(())
    })
}

pub(super) fn others(stage: &Stage) -> Result<()> {
    let file = password_file(stage, &[("ci", "robot")])?;
    let configuration = configuration(&file, EVERYONE_PULLS);
    let (layout, digest) = image::runnable(stage, "everyone")?;
    let source = format!("oci:{}", layout.name("v1"));
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let host = registry.host.as_str();
        let (url, name) = (registry.docker_url("team/app:v1"), registry.name("team/app:v1"));
        let skopeo = |arguments: &[&str]| stage.client("skopeo").args(arguments);
        let copy = ["copy", "--dest-tls-verify=false", &source, &url];
        skopeo(&copy).fail()?;
        skopeo(&["login", "--tls-verify=false", "-u", "ci", "-p", "robot", host]).succeed()?;
        skopeo(&copy).succeed()?;
        skopeo(&["logout", host]).succeed()?;
        let inspected = skopeo(&["inspect", "--tls-verify=false", &url]).json()?;
        ensure!(text(&inspected, "Digest")? == digest, "{inspected}");
        podman(stage).args(["pull", "--tls-verify=false", &name]).succeed()?;

        ensure!(crane(stage, &["digest", &name]).text()? == digest);
        let other = registry.name("other/app:v1");
        crane(stage, &["copy", &name, &other]).fail()?;
        crane(stage, &["auth", "login", "-u", "ci", "-p", "robot", host]).succeed()?;
        crane(stage, &["copy", &name, &other]).succeed()?;
        crane(stage, &["delete", &other]).fail()?;
        ensure!(crane(stage, &["catalog", host]).text()? == "other/app\nteam/app");
        Ok(())
    })
}

const TEAMS: &str = "
    - repositories: ['library/**']
      users: ['*']
      actions: [pull]
    - repositories: ['team-a/**', 'library/**']
      users: [ann]
      actions: [push, delete]
    - repositories: ['team-b/*']
      users: [bob]
      actions: [push]
";

/// What a user may not pull is in no list, and cannot be mounted.
pub(super) fn hidden(stage: &Stage) -> Result<()> {
    let file = password_file(stage, &[("ann", "first"), ("bob", "second")])?;
    let configuration = configuration(&file, TEAMS);
    let (layout, _) = image::runnable(stage, "teams")?;
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let login = |user: &str, password: &str| {
            crane(stage, &["auth", "login", "-u", user, "-p", password])
                .arg(&registry.host)
                .succeed()
        };
        let push = |repository: &str| {
            let name = registry.name(&format!("{repository}:v1"));
            crane(stage, &["push"]).arg(&layout.folder).arg(name)
        };
        let catalogue = || crane(stage, &["catalog", &registry.host]).text();
        let digest = |repository: &str| {
            crane(stage, &["digest"]).arg(registry.name(&format!("{repository}:v1")))
        };
        login("ann", "first")?;
        push("library/base").succeed()?;
        push("team-a/app/cache").succeed()?;
        ensure!(push("team-b/app").fail()?.contains("403 Forbidden"));
        login("bob", "second")?;
        push("team-b/app").succeed()?;
        ensure!(push("team-b/app/cache").fail()?.contains("403 Forbidden"));
        let tag = crane(stage, &["tag"]).arg(registry.name("library/base:v1")).arg("mine");
        ensure!(tag.fail()?.contains("DENIED"));
        ensure!(digest("team-a/app/cache").fail()?.contains("403 Forbidden"));
        digest("library/base").succeed()?;
        let listed = catalogue()?;
        ensure!(listed == "library/base\nteam-b/app", "bob sees {listed:?}");
        crane(stage, &["delete"]).arg(registry.name("team-b/app:v1")).fail()?;

        let manifest = crane(stage, &["manifest"]).arg(registry.name("library/base:v1")).json()?;
        let layer = array(&manifest, "layers").last().map(image::digest).transpose()?;
        let layer = layer.unwrap_or_default();
        for (source, status) in [("library/base", 201), ("team-a/app/cache", 202)] {
            let path = format!("/v2/team-b/new/blobs/uploads/?mount={layer}&from={source}");
            let header = basic("bob", "second");
            registry
                .http
                .send("POST", &path, &[("authorization", &header)], &[] as &[u8])?
                .expect(status)?;
        }

        login("ann", "first")?;
        let listed = catalogue()?;
        ensure!(listed == "library/base\nteam-a/app/cache", "ann sees {listed:?}");
        crane(stage, &["delete"]).arg(registry.name("library/base:v1")).succeed()?;
        registry.http.get("/v2/_catalog")?.expect(401)?;
        Ok(())
    })
}
