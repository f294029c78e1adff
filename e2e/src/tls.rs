//! TLS at the registry itself, with certificates from files.

mod clientauth;
mod tunnel;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::certificates::{Authority, Certificate, NAME};
use crate::docker::Docker;
use crate::http::text;
use crate::image;
use crate::podman::podman;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage, wait_until};
use tunnel::Tunnel;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("tls: docker with certificates of both sides", 120, docker),
    Scenario::new("tls: skopeo, podman and crane", 120, others),
    Scenario::new("tls: the four ways to ask for a client's certificate", 120, clientauth::modes),
    Scenario::new("tls: what is spoken", 60, spoken),
    Scenario::new("tls: a renewed certificate while an upload runs", 60, renewed),
];

/// Within how long a renewed certificate must be in use.
const RENEWAL_LIMIT: Duration = Duration::from_secs(20);

fn configuration(server: &Certificate, more: &str) -> String {
    format!(
        "version: 0.1\nhttp:\n  tls:\n    certificate: {}\n    key: {}\n{more}",
        server.certificate.display(),
        server.key.display()
    )
}

fn with_tls(
    stage: &Stage,
    configuration: &str,
    play: impl FnOnce(&mut Registry) -> Result<()>,
) -> Result<()> {
    let setup = Setup { is_not_plain: true, ..Setup::configuration(configuration) };
    stage.with_registry_set_up(&setup, play)
}

/// A folder with what a client needs, in the names of Docker's `certs.d`.
fn certificates_folder(
    folder: &Path,
    authority: &Authority<'_>,
    client: Option<&Certificate>,
) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::copy(authority.file(), folder.join("ca.crt"))?;
    if let Some(client) = client {
        std::fs::copy(&client.certificate, folder.join("client.cert"))?;
        std::fs::copy(&client.key, folder.join("client.key"))?;
    }
    Ok(())
}

/// Docker knows neither side's certificate, then the registry's, then both.
fn docker(stage: &Stage) -> Result<()> {
    let authority = Authority::new(stage, "authority")?;
    let server = authority.server("server")?;
    let client = authority.client("client")?;
    let clients = format!("    clientcas: [{}]\n", authority.file().display());
    with_tls(stage, &configuration(&server, &clients), |registry| {
        // By address Docker would not verify anything.
        let (_, port) = registry.host.split_once(':').context("no port")?;
        let host = format!("{NAME}:{port}");
        let tunnel = Tunnel::start(&registry.host)?;
        let etc = stage.folder("etc-docker")?;
        let docker = Docker::start_as(stage, "unshare", |command| {
            let line =
                "mkdir -p /etc/docker && mount --bind \"$0\" /etc/docker && exec dockerd \"$@\"";
            command.args(["--mount", "sh", "-c", line]).arg(&etc);
            command.env("HTTPS_PROXY", tunnel.url());
        })?;
        let name = format!("{host}/team/app:v1");
        docker.build(&name, 1)?;
        let said = docker.client(&["push", &name]).fail()?;
        ensure!(said.contains("certificate signed by unknown authority"), "{said}");

        let folder = etc.join("certs.d").join(&host);
        certificates_folder(&folder, &authority, None)?;
        let said = docker.client(&["push", &name]).fail()?;
        ensure!(said.contains("certificate required"), "{said}");

        certificates_folder(&folder, &authority, Some(&client))?;
        let pushed = docker.push(&name)?;
        docker.remove(&name)?;
        let pulled = docker.pull(&name)?;
        ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");
        Ok(())
    })
}

fn others(stage: &Stage) -> Result<()> {
    let authority = Authority::new(stage, "authority")?;
    let server = authority.server("server")?;
    let certificates = stage.path("certificates");
    certificates_folder(&certificates, &authority, None)?;
    let certificates = certificates.to_string_lossy();
    let (layout, digest) = image::runnable(stage, "encrypted")?;
    let source = format!("oci:{}", layout.name("v1"));
    with_tls(stage, &configuration(&server, ""), |registry| {
        let url = registry.docker_url("team/app:v1");
        let skopeo = |arguments: &[&str]| stage.client("skopeo").args(arguments);
        let said = skopeo(&["copy", &source, &url]).fail()?;
        ensure!(said.contains("x509"), "{said}");
        skopeo(&["copy", "--dest-cert-dir", &certificates, &source, &url]).succeed()?;
        let inspected = skopeo(&["inspect", "--cert-dir", &certificates, &url]).json()?;
        ensure!(text(&inspected, "Digest")? == digest, "{inspected}");

        let name = registry.name("team/app:v1");
        podman(stage).args(["pull", &name]).fail()?;
        podman(stage).args(["pull", "--cert-dir", &certificates, &name]).succeed()?;
        let other = registry.name("team/podman:v1");
        podman(stage).args(["tag", &name, &other]).succeed()?;
        podman(stage).args(["push", "--cert-dir", &certificates, &other]).succeed()?;

        let crane = |arguments: &[&str]| {
            stage.client("crane").env("SSL_CERT_FILE", authority.file()).args(arguments)
        };
        stage.client("crane").args(["digest", &name]).fail()?;
        ensure!(crane(&["digest", &name]).text()? == digest);
        let copy = registry.name("team/crane:v1");
        crane(&["copy", &name, &copy]).succeed()?;
        crane(&["validate", "--remote", &copy]).succeed()?;
        Ok(())
    })
}

/// HTTP/2 and HTTP/1.1, the versions that are allowed, and plain HTTP.
fn spoken(stage: &Stage) -> Result<()> {
    let authority = Authority::new(stage, "authority")?;
    let server = authority.server("server")?;
    with_tls(stage, &configuration(&server, "    minimumtls: tls1.3\n"), |registry| {
        let url = format!("https://{}/v2/", registry.host);
        let curl =
            |arguments: &[&str]| stage.curl().arg("--cacert").arg(authority.file()).args(arguments);
        for (version, expected) in [("--http2", "2"), ("--http1.1", "1.1")] {
            let reply = curl(&[version, &url]).reply(200)?;
            ensure!(reply.version == expected, "{version}: {reply:?}");
        }
        curl(&["--tls-max", "1.2", &url]).fail()?;
        let (_, port) = registry.host.split_once(':').context("no port")?;
        let named = format!("{NAME}:{port}:127.0.0.1");
        let uploads = format!("https://{NAME}:{port}/v2/team/app/blobs/uploads/");
        for version in ["--http2", "--http1.1"] {
            let reply = curl(&[version, "--resolve", &named, "-X", "POST", &uploads]).reply(202)?;
            ensure!(reply.header("location")?.starts_with(&uploads), "{reply:?}");
        }
        let reply = stage.curl().arg(format!("http://{}/v2/", registry.host)).reply(400)?;
        ensure!(
            reply.body.contains("Client sent an HTTP request to an HTTPS server."),
            "{reply:?}"
        );
        Ok(())
    })
}

/// The files are replaced while bytes trickle in.
fn renewed(stage: &Stage) -> Result<()> {
    let first = Authority::new(stage, "first")?;
    let second = Authority::new(stage, "second")?;
    let server = first.server("server")?;
    let bytes = image::pseudo_random("renewed", 400_000);
    let file: PathBuf = stage.file("layer", &bytes)?;
    with_tls(stage, &configuration(&server, ""), |registry| {
        let base = format!("https://{}/v2/team/app", registry.host);
        let get = |authority: &Authority<'_>| {
            stage.curl().arg("--cacert").arg(authority.file()).arg(format!("{base}/tags/list"))
        };
        let opened = stage
            .curl()
            .arg("--cacert")
            .arg(first.file())
            .args(["-X", "POST"])
            .arg(format!("{base}/blobs/uploads/"))
            .reply(202)?;
        let location = opened.header("location")?.to_owned();
        get(&first).reply(404)?;
        get(&second).fail()?;
        std::thread::scope(|scope| {
            let upload = scope.spawn(|| {
                stage
                    .curl()
                    .arg("--cacert")
                    .arg(first.file())
                    .args(["--limit-rate", "50k", "-X", "PATCH"])
                    .args(["-H", "Content-Type: application/octet-stream", "-T"])
                    .arg(&file)
                    .arg(&location)
                    .reply(202)
            });
            second.server("server")?;
            wait_until(RENEWAL_LIMIT, || get(&second).reply(404))?;
            ensure!(!upload.is_finished(), "the upload was over before the certificate changed");
            get(&first).fail()?;
            let uploaded = upload.join().map_err(|_| anyhow!("the upload panicked"))??;
            let expected = format!("0-{}", bytes.len() - 1);
            ensure!(uploaded.header("range")? == expected, "{uploaded:?}");
            Ok(())
        })
    })
}
