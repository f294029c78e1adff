//! The container image, started with the commands of `deploy/README.md`, which
//! are those of the public guides for registry:2 and registry:3. Its dockerd has
//! a network of its own, so that ports can be published.

mod replicated;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::certificates::Authority;
use crate::docker::Docker;
use crate::guide::{DEPLOY, replace};
use crate::image::greeting;
use crate::process::Client;
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("deploy: docker run, as registry:2 is run", 180, run),
    Scenario::new("deploy: a configuration at any of the usual places", 180, configurations),
    Scenario::new("deploy: docker run with TLS and passwords", 180, tls_and_passwords),
    Scenario::new("deploy: a compose file", 180, compose),
    Scenario::new("deploy: a compose file of three replicas", 300, replicated::play),
    Scenario::new("deploy: a swarm service with secrets", 180, swarm),
];

const IMAGE: &str = "orlop";

fn run(stage: &Stage) -> Result<()> {
    let machine = Machine::start(stage)?;
    machine.follow("-p 5000:5000")?;
    machine.answers("http://127.0.0.1:5000/v2/", 200)?;
    machine.push_and_pull("localhost:5000/team/app")?;
    ensure!(stage.path("data/docker/registry/v2/blobs").is_dir(), "the data is elsewhere");
    machine.comes_back("registry")?;
    machine.answers("http://127.0.0.1:5000/v2/team/app/manifests/v1", 200)?;

    let version = machine.docker(&["exec", "registry", "registry", "--version"]).text()?;
    ensure!(version.starts_with("orlop "), "{version}");
    let refused = machine
        .docker(&["exec", "registry", "bin/registry", "garbage-collect"])
        .arg("/etc/docker/registry/config.yml")
        .fail()?;
    ensure!(refused.contains("another server is using the data folder"), "{refused}");

    let collected = machine.follow("garbage-collect")?;
    ensure!(collected.contains("0 blobs and 0 manifests eligible"), "{collected}");
    machine.answers("http://127.0.0.1:5000/v2/team/app/tags/list", 200)?;
    machine.docker(&["stop", "registry"]).succeed()?;
    let state = ["inspect", "--format", "{{.State.ExitCode}}", "registry"];
    ensure!(machine.docker(&state).text()?.trim() == "0", "not a clean stop");
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
    certificates(stage)?;
    machine.follow("htpasswd -Bbn")?;
    machine.follow("-e REGISTRY_AUTH=htpasswd")?;
    machine.answers("https://127.0.0.1/v2/", 401)?;
    machine.log_in("127.0.0.1:443")?;
    machine.push_and_pull("127.0.0.1:443/team/app")
}

fn compose(stage: &Stage) -> Result<()> {
    let machine = Machine::start(stage)?;
    certificates(stage)?;
    machine.follow("htpasswd -Bbn")?;
    machine.follow("docker-compose up -d")?;
    machine.answers("https://127.0.0.1:5000/v2/", 401)?;
    machine.log_in("127.0.0.1:5000")?;
    machine.push_and_pull("127.0.0.1:5000/team/app")?;
    ensure!(stage.path("data/docker/registry/v2/blobs").is_dir(), "the data is elsewhere");

    let compose = |arguments: &[&str]| machine.docker.program("docker-compose").args(arguments);
    machine.comes_back(compose(&["ps", "--quiet", "registry"]).text()?.trim())?;
    machine.answers("https://127.0.0.1:5000/v2/", 401)?;
    // What a new version of the image leads to.
    compose(&["up", "-d", "--force-recreate"]).succeed()?;
    machine.answers("https://127.0.0.1:5000/v2/", 401)?;
    machine.docker(&["pull", "127.0.0.1:5000/team/app:v1"]).succeed()?;
    compose(&["down"]).succeed()?;
    Ok(())
}

fn swarm(stage: &Stage) -> Result<()> {
    let machine = Machine::start(stage)?;
    certificates(stage)?;
    stage.folder("data")?;
    machine.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]).succeed()?;
    machine.follow("docker secret create")?;
    machine.follow("docker service create")?;
    machine.answers("https://127.0.0.1/v2/", 200)?;
    machine.push_and_pull("127.0.0.1:443/team/app")?;
    ensure!(stage.path("data/docker/registry/v2/blobs").is_dir(), "the data is elsewhere");
    Ok(())
}

/// `domain.crt` and `domain.key`, in the folder `certs`.
fn certificates(stage: &Stage) -> Result<()> {
    let issued = Authority::new(stage, "authority")?.server("domain")?;
    let folder = stage.folder("certs")?;
    std::fs::copy(&issued.certificate, folder.join("domain.crt"))?;
    std::fs::copy(&issued.key, folder.join("domain.key"))?;
    Ok(())
}

/// A dockerd in a network of its own that has the image. Commands run in the
/// stage's folder, where `deploy` is that of the sources.
struct Machine<'a> {
    stage: &'a Stage,
    docker: Docker<'a>,
}

impl<'a> Machine<'a> {
    fn start(stage: &'a Stage) -> Result<Self> {
        let docker = Docker::start_in_own_network(stage)?;
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
        std::os::unix::fs::symlink(sources, stage.path("deploy"))?;
        let machine = Self { stage, docker };
        let build = DEPLOY.block("sh", "build.sh")?;
        let program = stage.binary().to_string_lossy();
        machine
            .run(&replace(&build, &[("build.sh orlop", &format!("build.sh orlop {program}"))])?)?;
        Ok(machine)
    }

    /// Runs the commands of the guide that have this text among them; what
    /// they printed.
    fn follow(&self, text: &str) -> Result<String> {
        self.run(&DEPLOY.block("sh", text)?)
    }

    fn run(&self, commands: &str) -> Result<String> {
        self.docker.program("sh").args(["-euc", commands]).text()
    }

    fn docker(&self, arguments: &[&str]) -> Client<'a> {
        self.docker.client(arguments)
    }

    /// Kills what runs in a container: docker must start it again.
    fn comes_back(&self, container: &str) -> Result<()> {
        let state = |what: &str| {
            self.docker(&["inspect", "--format", &format!("{{{{.{what}}}}}"), container]).text()
        };
        let before = state("RestartCount")?;
        self.stage.client("kill").args(["-KILL", state("State.Pid")?.trim()]).succeed()?;
        wait_until(Duration::from_secs(30), || {
            let (count, status) = (state("RestartCount")?, state("State.Status")?);
            ensure!(count != before && status.trim() == "running", "{count} {status}");
            Ok(())
        })
    }

    /// With the password of the guide, and not with another one.
    fn log_in(&self, host: &str) -> Result<()> {
        let login = ["login", host, "--username", "testuser", "--password-stdin"];
        let refused = self.docker(&login).input("wrong").fail()?;
        ensure!(refused.to_lowercase().contains("unauthorized"), "{refused}");
        self.docker(&login).input("testpassword").succeed()?;
        Ok(())
    }

    /// Waits until a URL of this machine's network gives this status.
    fn answers(&self, url: &str, status: u16) -> Result<()> {
        wait_until(Duration::from_secs(30), || {
            let found = self.status(url)?;
            ensure!(found == status.to_string(), "{url}: expected {status}, found {found}");
            Ok(())
        })
    }

    /// What a URL of this machine's network gives.
    fn status(&self, url: &str) -> Result<String> {
        self.stage
            .client("nsenter")
            .args(["--net", "--target", &self.docker.pid().to_string()])
            .args(["curl", "--silent", "--insecure", "--max-time", "5"])
            .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
            .arg(url)
            .text()
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
