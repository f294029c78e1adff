//! The container image, started with the commands of the public guides for
//! registry:2 and registry:3. Its dockerd has a network of its own, so that
//! ports can be published.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::certificates::Authority;
use crate::docker::Docker;
use crate::image::greeting;
use crate::process::Client;
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("deploy: docker run, as registry:2 is run", 180, run),
    Scenario::new("deploy: a configuration at any of the usual places", 180, configurations),
    Scenario::new("deploy: docker run with TLS and passwords", 180, tls_and_passwords),
    Scenario::new("deploy: a swarm service with secrets", 180, swarm),
];

const IMAGE: &str = "orlop";

fn run(stage: &Stage) -> Result<()> {
    let machine = Machine::start(stage)?;
    let data = stage.folder("data")?;
    machine
        .docker(&["run", "-d", "-p", "5000:5000", "--restart=always", "--name", "registry", "-v"])
        .arg(format!("{}:/var/lib/registry", data.display()))
        .arg(IMAGE)
        .succeed()?;
    machine.answers("http://127.0.0.1:5000/v2/", 200)?;
    machine.push_and_pull("localhost:5000/team/app")?;
    ensure!(data.join("docker/registry/v2/blobs").is_dir(), "the data is elsewhere");

    let version = machine.docker(&["exec", "registry", "registry", "--version"]).text()?;
    ensure!(version.starts_with("orlop "), "{version}");
    let refused = machine
        .docker(&["exec", "registry", "bin/registry", "garbage-collect"])
        .arg("/etc/docker/registry/config.yml")
        .fail()?;
    ensure!(refused.contains("another server is using the data folder"), "{refused}");

    machine.docker(&["stop", "registry"]).succeed()?;
    let state = ["inspect", "--format", "{{.State.ExitCode}}", "registry"];
    ensure!(machine.docker(&state).text()?.trim() == "0", "not a clean stop");
    let collected = machine
        .docker(&["run", "--rm", "--volumes-from", "registry", IMAGE, "garbage-collect"])
        .arg("/etc/docker/registry/config.yml")
        .text()?;
    ensure!(collected.contains("0 blobs and 0 manifests eligible"), "{collected}");
    machine.docker(&["start", "registry"]).succeed()?;
    machine.answers("http://127.0.0.1:5000/v2/team/app/tags/list", 200)?;
    let size = machine.docker(&["image", "inspect", "--format", "{{.Size}}", IMAGE]).text()?;
    let megabytes = size.trim().parse::<u64>().context("no size")? / 1_000_000;
    crate::say(&format!("deploy: the image has {megabytes} MB"));
    ensure!(megabytes < 40, "the image has {megabytes} MB");
    Ok(())
}

/// The file may be mounted where registry:2 or registry:3 has it, alone or
/// with its folder.
fn configurations(stage: &Stage) -> Result<()> {
    let machine = Machine::start(stage)?;
    let folder = stage.folder("configuration")?;
    let text = "version: 0.1\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\n\
                http: {addr: ':5000', prefix: /mounted/}\n";
    std::fs::write(folder.join("config.yml"), text)?;
    let folder = folder.display();
    for (number, mount) in [
        format!("{folder}/config.yml:/etc/docker/registry/config.yml"),
        format!("{folder}/config.yml:/etc/distribution/config.yml"),
        format!("{folder}:/etc/docker/registry"),
        format!("{folder}:/etc/distribution"),
    ]
    .iter()
    .enumerate()
    {
        let port = 5001 + number;
        let publish = format!("{port}:5000");
        machine.docker(&["run", "-d", "-p", &publish, "-v", mount, IMAGE]).succeed()?;
        machine
            .answers(&format!("http://127.0.0.1:{port}/mounted/v2/"), 200)
            .context(mount.clone())?;
    }
    machine
        .docker(&["run", "-d", "-p", "5010:5010", "-e", "REGISTRY_HTTP_ADDR=0.0.0.0:5010", IMAGE])
        .succeed()?;
    machine.answers("http://127.0.0.1:5010/v2/", 200)
}

fn tls_and_passwords(stage: &Stage) -> Result<()> {
    let machine = Machine::start(stage)?;
    let (certs, auth) = (certificates(stage)?, stage.folder("auth")?);
    let password = stage.client("htpasswd").args(["-Bbn", "testuser", "testpassword"]).text()?;
    std::fs::write(auth.join("htpasswd"), password)?;
    machine
        .docker(&["run", "-d", "--restart=always", "--name", "registry", "-p", "443:443", "-v"])
        .arg(format!("{}:/certs", certs.display()))
        .arg("-v")
        .arg(format!("{}:/auth", auth.display()))
        .args(["-e", "REGISTRY_HTTP_ADDR=0.0.0.0:443"])
        .args(["-e", "REGISTRY_HTTP_TLS_CERTIFICATE=/certs/domain.crt"])
        .args(["-e", "REGISTRY_HTTP_TLS_KEY=/certs/domain.key"])
        .args(["-e", "REGISTRY_AUTH=htpasswd"])
        .args(["-e", "REGISTRY_AUTH_HTPASSWD_REALM=Registry Realm"])
        .args(["-e", "REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd"])
        .arg(IMAGE)
        .succeed()?;
    machine.answers("https://127.0.0.1/v2/", 401)?;
    let login = ["login", "127.0.0.1:443", "--username", "testuser", "--password-stdin"];
    let refused = machine.docker(&login).input("wrong").fail()?;
    ensure!(refused.to_lowercase().contains("unauthorized"), "{refused}");
    machine.docker(&login).input("testpassword").succeed()?;
    machine.push_and_pull("127.0.0.1:443/team/app")
}

fn swarm(stage: &Stage) -> Result<()> {
    let machine = Machine::start(stage)?;
    let certs = certificates(stage)?;
    machine.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]).succeed()?;
    for file in ["domain.crt", "domain.key"] {
        machine.docker(&["secret", "create", file]).arg(certs.join(file)).succeed()?;
    }
    let node = machine.docker(&["node", "ls", "--quiet"]).text()?;
    machine.docker(&["node", "update", "--label-add", "registry=true", node.trim()]).succeed()?;
    let data = stage.folder("data")?;
    machine
        .docker(&["service", "create", "--name", "registry"])
        .args(["--secret", "domain.crt", "--secret", "domain.key"])
        .args(["--constraint", "node.labels.registry==true", "--mount"])
        .arg(format!("type=bind,src={},dst=/var/lib/registry", data.display()))
        .args(["-e", "REGISTRY_HTTP_ADDR=0.0.0.0:443"])
        .args(["-e", "REGISTRY_HTTP_TLS_CERTIFICATE=/run/secrets/domain.crt"])
        .args(["-e", "REGISTRY_HTTP_TLS_KEY=/run/secrets/domain.key"])
        .args(["--publish", "mode=host,published=443,target=443", "--replicas", "1", IMAGE])
        .succeed()?;
    machine.answers("https://127.0.0.1/v2/", 200)?;
    machine.push_and_pull("127.0.0.1:443/team/app")
}

/// `domain.crt` and `domain.key`, in a folder.
fn certificates(stage: &Stage) -> Result<PathBuf> {
    let issued = Authority::new(stage, "authority")?.server("domain")?;
    let folder = stage.folder("certs")?;
    std::fs::copy(&issued.certificate, folder.join("domain.crt"))?;
    std::fs::copy(&issued.key, folder.join("domain.key"))?;
    Ok(folder)
}

/// A dockerd in a network of its own that has the image.
struct Machine<'a> {
    stage: &'a Stage,
    docker: Docker<'a>,
}

impl<'a> Machine<'a> {
    fn start(stage: &'a Stage) -> Result<Self> {
        let docker = Docker::start_in_own_network(stage)?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/image/build.sh");
        docker.program(script).arg(IMAGE).arg(stage.binary()).succeed()?;
        Ok(Self { stage, docker })
    }

    fn docker(&self, arguments: &[&str]) -> Client<'a> {
        self.docker.client(arguments)
    }

    /// Waits until a URL of this machine's network gives this status.
    fn answers(&self, url: &str, status: u16) -> Result<()> {
        wait_until(Duration::from_secs(30), || {
            let found = self
                .stage
                .client("nsenter")
                .args(["--net", "--target", &self.docker.pid().to_string()])
                .args(["curl", "--silent", "--insecure", "--max-time", "5"])
                .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
                .arg(url)
                .text()?;
            ensure!(found.trim() == status.to_string(), "{url}: expected {status}, found {found}");
            Ok(())
        })
    }

    fn push_and_pull(&self, repository: &str) -> Result<()> {
        let name = format!("{repository}:v1");
        self.docker.build(&name, 1)?;
        let pushed = self.docker.push(&name)?;
        self.docker(&["image", "rm", "--force", &name]).succeed()?;
        let pulled = self.docker.pull(&name)?;
        ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");
        let printed = self.docker.run(&name)?;
        ensure!(printed == greeting("layer 0"), "the container printed {printed:?}");
        Ok(())
    }
}
