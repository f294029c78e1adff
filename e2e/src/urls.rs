//! What `http.*` keys make of answers, with the clients that follow them.

use anyhow::{Result, ensure};

use crate::docker::Docker;
use crate::http::text;
use crate::image;
use crate::ports::free_port;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("urls: without a host, and headers of one's own", 120, relative),
    Scenario::new("urls: with another host than clients ask", 120, fixed_host),
];

const RELATIVE: &str = "
version: 0.1
http:
  relativeurls: true
  headers:
    X-Content-Type-Options: [nosniff]
    Access-Control-Allow-Origin: ['https://ui.example']
    Access-Control-Allow-Methods: [HEAD, GET, OPTIONS, DELETE]
";

/// Also what a web page on another site needs before it may ask.
fn relative(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    stage.with_registry_set_up(&Setup::configuration(RELATIVE), |registry| {
        ensure!(location(stage, registry)?.starts_with("/v2/team/app/blobs/uploads/"));
        round_trips(stage, &docker, registry)?;

        let url = format!("http://{}/v2/team/docker/tags/list", registry.host);
        let preflight = ["-X", "OPTIONS", "-H", "Origin: https://ui.example"];
        let asked = ["-H", "Access-Control-Request-Method: GET"];
        let answers = [
            stage.curl().arg(&url).reply(200)?,
            stage.curl().args(preflight).args(asked).arg(&url).reply(200)?,
            stage.curl().arg(format!("{url}/nothing")).reply(404)?,
        ];
        for answer in answers {
            ensure!(answer.header("x-content-type-options")? == "nosniff", "{answer:?}");
            let origin = answer.header("access-control-allow-origin")?;
            ensure!(origin == "https://ui.example", "{answer:?}");
            let methods = answer.all("access-control-allow-methods").join(", ");
            ensure!(methods == "HEAD, GET, OPTIONS, DELETE", "{answer:?}");
        }
        Ok(())
    })
}

fn fixed_host(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    let port = free_port()?;
    let configuration = format!("version: 0.1\nhttp: {{host: 'http://localhost:{port}'}}\n");
    let setup = Setup { port: Some(port), ..Setup::configuration(&configuration) };
    stage.with_registry_set_up(&setup, |registry| {
        let start = format!("http://localhost:{port}/v2/team/app/blobs/uploads/");
        ensure!(location(stage, registry)?.starts_with(&start));
        round_trips(stage, &docker, registry)
    })
}

/// Where a client is sent that begins an upload.
fn location(stage: &Stage, registry: &Registry) -> Result<String> {
    let url = format!("http://{}/v2/team/app/blobs/uploads/", registry.host);
    let opened = stage.curl().args(["-X", "POST", &url]).reply(202)?;
    Ok(opened.header("location")?.to_owned())
}

fn round_trips(stage: &Stage, docker: &Docker<'_>, registry: &Registry) -> Result<()> {
    let name = registry.name("team/docker:v1");
    docker.build(&name, 2)?;
    let pushed = docker.push(&name)?;
    docker.remove(&name)?;
    let pulled = docker.pull(&name)?;
    ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");

    let (layout, digest) = image::runnable(stage, "urls")?;
    let url = registry.docker_url("team/skopeo:v1");
    let source = format!("oci:{}", layout.name("v1"));
    let skopeo = |arguments: &[&str]| stage.client("skopeo").args(arguments);
    skopeo(&["copy", "--dest-tls-verify=false", &source, &url]).succeed()?;
    let inspected = skopeo(&["inspect", "--tls-verify=false", &url]).json()?;
    ensure!(text(&inspected, "Digest")? == digest, "{inspected}");

    let name = registry.name("team/crane:v1");
    let crane = |arguments: &[&str]| stage.client("crane").arg("--insecure").args(arguments);
    crane(&["push"]).arg(&layout.folder).arg(&name).succeed()?;
    crane(&["validate", "--remote", &name]).succeed()?;
    Ok(())
}
