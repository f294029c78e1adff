//! Password files, as `htpasswd` makes them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{basic, crane, docker_login, logged, password_file};
use crate::docker::Docker;
use crate::http::text;
use crate::image;
use crate::podman::podman;
use crate::registry::{Registry, Setup};
use crate::scenario::{Stage, wait_until};

/// Within how long a changed file must count.
const REREAD_LIMIT: Duration = Duration::from_secs(10);

fn configuration(file: &Path) -> String {
    format!(
        "version: 0.1\nauth:\n  htpasswd:\n    realm: Registry Realm\n    path: {}\n",
        file.display()
    )
}

pub(super) fn docker(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    let file = password_file(stage, &[("jo", "open sesame"), ("ann", "another")])?;
    stage.with_registry_set_up(&Setup::configuration(&configuration(&file)), |registry| {
        let name = registry.name("team/app:v1");
        docker.build(&name, 1)?;
        let said = docker.client(&["push", &name]).fail()?;
        ensure!(said.contains("no basic auth credentials"), "{said}");
        let said = docker.client(&["pull", &name]).fail()?;
        ensure!(said.contains("no basic auth credentials"), "{said}");

        let said = docker_login(&docker, &registry.host, "jo", "wrong").fail()?;
        ensure!(said.contains("401 Unauthorized"), "{said}");
        let said = docker_login(&docker, &registry.host, "nobody", "open sesame").fail()?;
        ensure!(said.contains("401 Unauthorized"), "{said}");

        let said = docker_login(&docker, &registry.host, "jo", "open sesame").text()?;
        ensure!(said.contains("Login Succeeded"), "{said}");
        let pushed = docker.push(&name)?;
        docker.remove(&name)?;
        let pulled = docker.pull(&name)?;
        ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");

        docker.client(&["logout", &registry.host]).succeed()?;
        docker.remove(&name)?;
        let said = docker.client(&["pull", &name]).fail()?;
        ensure!(said.contains("no basic auth credentials"), "{said}");

        let log = registry.log();
        ensure!(log.contains("jo"), "the access log does not name the user:\n{log}");
        ensure!(!log.contains("sesame"), "a password is in the log:\n{log}");
        Ok(())
    })
}

pub(super) fn others(stage: &Stage) -> Result<()> {
    let file = password_file(stage, &[("jo", "open sesame")])?;
    let (layout, digest) = image::runnable(stage, "locked")?;
    let source = format!("oci:{}", layout.name("v1"));
    stage.with_registry_set_up(&Setup::configuration(&configuration(&file)), |registry| {
        let host = registry.host.as_str();

        let name = registry.docker_url("team/skopeo:v1");
        let skopeo = |arguments: &[&str]| stage.client("skopeo").args(arguments);
        let copy = || skopeo(&["copy", "--dest-tls-verify=false", &source, &name]);
        let login = |password: &str| {
            skopeo(&["login", "--tls-verify=false", "--username=jo", "--password-stdin", host])
                .input(password)
        };
        let said = copy().fail()?;
        ensure!(
            said.contains("unauthorized") || said.contains("authentication required"),
            "{said}"
        );
        let said = login("wrong").fail()?;
        ensure!(said.contains("invalid username/password"), "{said}");
        login("open sesame").succeed()?;
        copy().succeed()?;
        let inspected = skopeo(&["inspect", "--tls-verify=false", &name]).json()?;
        ensure!(text(&inspected, "Digest")? == digest, "{inspected}");
        skopeo(&["logout", host]).succeed()?;
        skopeo(&["inspect", "--tls-verify=false", &name]).fail()?;

        let name = registry.name("team/skopeo:v1");
        let pull = || podman(stage).args(["pull", "--tls-verify=false", &name]);
        let login = |password: &str| {
            podman(stage)
                .args(["login", "--tls-verify=false", "--username=jo", "--password-stdin", host])
                .input(password)
        };
        pull().fail()?;
        let said = login("wrong").fail()?;
        ensure!(said.contains("invalid username/password"), "{said}");
        login("open sesame").succeed()?;
        pull().succeed()?;
        let other = registry.name("team/podman:v1");
        podman(stage).args(["tag", &name, &other]).succeed()?;
        podman(stage).args(["push", "--tls-verify=false", &other]).succeed()?;
        podman(stage).args(["logout", host]).succeed()?;
        pull().fail()?;

        let name = registry.name("team/crane:v1");
        let push = || crane(stage, &["push"]).arg(&layout.folder).arg(&name);
        let login = |password: &str| {
            crane(stage, &["auth", "login", "--username=jo", "--password-stdin", host])
                .input(password)
        };
        let said = push().fail()?;
        ensure!(said.contains("401 Unauthorized"), "{said}");
        // crane asks nothing at login, and is refused afterwards.
        login("wrong").succeed()?;
        let said = push().fail()?;
        ensure!(said.contains("401 Unauthorized"), "{said}");
        login("open sesame").succeed()?;
        push().succeed()?;
        ensure!(crane(stage, &["digest", &name]).text()? == digest);
        let listed = crane(stage, &["catalog", host]).text()?;
        ensure!(listed == "team/crane\nteam/podman\nteam/skopeo", "listed {listed:?}");
        crane(stage, &["auth", "logout", host]).succeed()?;
        crane(stage, &["digest", &name]).fail()?;
        Ok(())
    })
}

/// A new user, a new password and a user who is gone, without a restart.
pub(super) fn changed(stage: &Stage) -> Result<()> {
    let file = password_file(stage, &[("jo", "first"), ("leaver", "first")])?;
    stage.with_registry_set_up(&Setup::configuration(&configuration(&file)), |registry| {
        let ask = |user: &str, password: &str, status: u16| {
            let header = basic(user, password);
            registry.http.send("GET", "/v2/", &[("authorization", &header)], ())?.expect(status)
        };
        let refused = registry.http.get("/v2/")?.expect(401)?;
        let challenge = refused.required_header("www-authenticate")?;
        ensure!(challenge == r#"Basic realm="Registry Realm""#, "challenged with {challenge}");
        for user in ["jo", "leaver"] {
            ask(user, "first", 200)?;
        }
        ask("joiner", "first", 401)?;

        password_file(stage, &[("jo", "second"), ("joiner", "first")])?;
        wait_until(REREAD_LIMIT, || ask("joiner", "first", 200))?;
        // A password that was right a moment ago is not remembered.
        ask("jo", "first", 401)?;
        ask("jo", "second", 200)?;
        ask("leaver", "first", 401)?;
        Ok(())
    })
}

/// As the public guide for registry:2 sets it up, without a configuration file.
pub(super) fn variables(stage: &Stage) -> Result<()> {
    let file = password_file(stage, &[("testuser", "testpassword")])?;
    let setup = Setup {
        environment: vec![
            ("REGISTRY_AUTH", "htpasswd".to_owned()),
            ("REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm".to_owned()),
            ("REGISTRY_AUTH_HTPASSWD_PATH", file.to_string_lossy().into_owned()),
        ],
        ..Setup::default()
    };
    let (layout, digest) = image::runnable(stage, "guide")?;
    stage.with_registry_set_up(&setup, |registry| {
        let name = registry.name("team/guide:v1");
        let push = || crane(stage, &["push"]).arg(&layout.folder).arg(&name);
        push().fail()?;
        crane(stage, &["auth", "login", "-u", "testuser", "-p", "testpassword"])
            .arg(&registry.host)
            .succeed()?;
        push().succeed()?;
        ensure!(crane(stage, &["digest", &name]).text()? == digest);
        Ok(())
    })
}

pub(super) fn missing(stage: &Stage) -> Result<()> {
    let file = stage.path("auth/htpasswd");
    stage.with_registry_set_up(&Setup::configuration(&configuration(&file)), |registry| {
        let password = logged(&registry.log(), "password")?;
        let ask = |registry: &Registry, password: &str, status: u16| {
            let header = basic("docker", password);
            registry.http.send("GET", "/v2/", &[("authorization", &header)], ())?.expect(status)
        };
        ask(registry, "docker", 401)?;
        ask(registry, &password, 200)?;
        registry.stop()?;
        registry.restart(stage)?;
        ask(registry, &password, 200)?;
        let shown = registry.log().matches(&password).count();
        ensure!(shown == 1, "the log shows the password {shown} times");
        Ok(())
    })
}
