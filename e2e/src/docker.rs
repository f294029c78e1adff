//! docker, with a dockerd of its own for every scenario.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::http::array;
use crate::image::{self, greeting, media_type};
use crate::process::{Client, Daemon};
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("docker: push, pull and run", 180, push_pull_run),
    Scenario::new("docker: push again, and to another repository", 180, push_again),
    Scenario::new("docker: an image of 60 layers", 300, many_layers),
    Scenario::new("docker: manifest create and push", 180, manifest_list),
    Scenario::new("docker: pull an OCI image and a multi-arch index", 180, pull_oci),
    Scenario::new("docker: search", 180, search),
];

fn push_pull_run(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    stage.with_registry(|registry| {
        let name = registry.name("team/app:v1");
        docker.build(&name, 1)?;
        let pushed = docker.push(&name)?;
        ensure!(registry.http.digest_of("team/app", "v1")? == pushed);
        registry.http.read_whole("team/app", "v1")?;

        docker.remove(&name)?;
        let pulled = docker.pull(&name)?;
        ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");
        let printed = docker.run(&name)?;
        ensure!(printed == greeting("layer 0"), "the container printed {printed:?}");

        docker.remove(&name)?;
        let by_digest = registry.name(&format!("team/app@{pushed}"));
        docker.pull(&by_digest)?;
        let printed = docker.run(&by_digest)?;
        ensure!(printed == greeting("layer 0"), "the container printed {printed:?}");

        let said = docker.client(&["pull", &registry.name("team/app:absent")]).fail()?;
        ensure!(said.contains("manifest unknown"), "{said}");
        // Docker tries TLS first, as it has to: that is nothing to report.
        let log = registry.log();
        ensure!(!log.contains("not HTTP"), "{log}");
        Ok(())
    })
}

fn push_again(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    stage.with_registry(|registry| {
        let name = registry.name("team/app:v1");
        docker.build(&name, 3)?;
        let first = docker.push(&name)?;
        let again = docker.push(&name)?;
        ensure!(again == first, "first {first}, then {again}");

        let other = registry.name("elsewhere/app:v2");
        docker.client(&["tag", &name, &other]).succeed()?;
        let output = docker.client(&["push", &other]).text()?;
        ensure!(output.contains("Mounted from team/app"), "the layers were not mounted:\n{output}");
        ensure!(digest_line(&output)? == first);
        registry.http.read_whole("elsewhere/app", "v2")?;
        Ok(())
    })
}

fn many_layers(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    stage.with_registry(|registry| {
        let name = registry.name("team/layered:v1");
        docker.build(&name, 60)?;
        let pushed = docker.push(&name)?;
        let manifest = registry.http.get_manifest("team/layered", "v1")?.json()?;
        let layers = array(&manifest, "layers").len();
        ensure!(layers == 61, "expected 61 layers, found {layers}");

        docker.remove(&name)?;
        let pulled = docker.pull(&name)?;
        ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");
        let expected: Vec<String> = (0..60).map(|n| greeting(&format!("layer {n}"))).collect();
        let printed = docker.run(&name)?;
        ensure!(printed == expected.join(""), "the container printed {printed:?}");
        Ok(())
    })
}

fn search(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    stage.with_registry(|registry| {
        for (name, layers) in [("team/app_one:v1", 1), ("team/app-two:v1", 2), ("other/tool:v1", 3)]
        {
            let name = registry.name(name);
            docker.build(&name, layers)?;
            docker.push(&name)?;
        }
        let search = |term: &str| {
            let term = registry.name(term);
            docker.client(&["search", "--format", "{{.Name}}", &term]).text()
        };
        let found = search("app")?;
        let names: Vec<_> = found.lines().map(|line| line.rsplit_once("team/")).collect();
        ensure!(names.len() == 2 && names.iter().all(Option::is_some), "app: {found}");
        let found = search("app_")?;
        ensure!(found.trim().ends_with("team/app_one") && found.lines().count() == 1, "{found}");
        let found = search("nothing-like-it")?;
        ensure!(found.trim().is_empty(), "{found}");
        Ok(())
    })
}

fn manifest_list(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    stage.with_registry(|registry| {
        let list = registry.name("team/list:v1");
        let mut parts = Vec::new();
        for (architecture, layers) in [("amd64", 1), ("arm64", 2)] {
            let name = registry.name(&format!("team/list:v1-{architecture}"));
            docker.build(&name, layers)?;
            docker.push(&name)?;
            parts.push(name);
        }
        docker.client(&["manifest", "create", "--insecure", &list]).args(&parts).succeed()?;
        docker
            .client(&["manifest", "annotate", &list])
            .args(parts.last())
            .args(["--os", "linux", "--arch", "arm64"])
            .succeed()?;
        let pushed = docker.client(&["manifest", "push", "--insecure", &list]).text()?;
        let found = registry.http.digest_of("team/list", "v1")?;
        ensure!(pushed.contains(&found), "pushed {pushed}, found {found}");
        let manifest = registry.http.get_manifest("team/list", "v1")?;
        ensure!(manifest.header("content-type") == Some(media_type::DOCKER_LIST));

        for name in &parts {
            docker.remove(name)?;
        }
        docker.pull(&list)?;
        let printed = docker.run(&list)?;
        ensure!(printed == greeting("layer 0"), "the container printed {printed:?}");
        let inspected = docker.client(&["manifest", "inspect", "--insecure", &list]).json()?;
        ensure!(array(&inspected, "manifests").len() == 2, "{inspected}");
        Ok(())
    })
}

fn pull_oci(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    stage.with_registry(|registry| {
        let (single, digest) = image::runnable(stage, "one")?;
        let (multi, index_digest, _) = image::multi_arch(stage, "two")?;
        for (layout, image, digest, expected) in [
            (&single, "oci/one:v1", digest, greeting("one")),
            (&multi, "oci/two:v1", index_digest, greeting("two on amd64")),
        ] {
            stage
                .client("skopeo")
                .args(["copy", "--all", "--dest-tls-verify=false"])
                .arg(format!("oci:{}", layout.name("v1")))
                .arg(registry.docker_url(image))
                .succeed()?;
            let name = registry.name(image);
            let pulled = docker.pull(&name)?;
            ensure!(pulled == digest, "pushed {digest}, pulled {pulled}");
            let printed = docker.run(&name)?;
            ensure!(printed == expected, "the container printed {printed:?}");
        }
        Ok(())
    })
}

/// A dockerd that touches nothing of this machine's network, and its client.
pub(crate) struct Docker<'a> {
    stage: &'a Stage,
    socket: PathBuf,
    /// Stopped, and so with it every container, when this is dropped.
    daemon: Daemon,
}

impl<'a> Docker<'a> {
    pub(crate) fn start(stage: &'a Stage) -> Result<Self> {
        Self::start_as(stage, "dockerd", |_| {})
    }

    /// The same with a program that becomes dockerd, or another environment.
    pub(crate) fn start_as(
        stage: &'a Stage,
        program: &str,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        const NO_NETWORK: &[&str] = &["--bridge=none", "--userland-proxy=false"];
        Self::launch(stage, program, NO_NETWORK, prepare)
    }

    /// One with a network of its own, in which ports can be published.
    pub(crate) fn start_in_own_network(stage: &'a Stage) -> Result<Self> {
        Self::launch(stage, "unshare", &[], |command| {
            let script = "ip link set lo up && exec dockerd \"$@\"";
            command.args(["--net", "sh", "-c", script, "dockerd"]);
        })
    }

    fn launch(
        stage: &'a Stage,
        program: &str,
        network: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let socket = stage.path("docker.sock");
        let daemon = stage.daemon("dockerd", program, |command| {
            prepare(command);
            command
                .arg(format!("--host=unix://{}", socket.display()))
                .arg("--data-root")
                .arg(stage.path("docker"))
                .arg("--exec-root")
                .arg(stage.path("exec"))
                .arg("--pidfile")
                .arg(stage.path("docker.pid"))
                .args(["--iptables=false", "--ip6tables=false"])
                .args(["--ip-forward=false", "--ip-masq=false"])
                .args(network);
        })?;
        let mut docker = Self { stage, socket, daemon };
        wait_until(Duration::from_mins(1), || {
            docker.daemon.is_running()?;
            docker.client(&["version"]).succeed()
        })
        .with_context(|| format!("dockerd does not answer{}", docker.daemon.log_tail()))?;
        Ok(docker)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Client<'a> {
        self.program("docker").args(arguments)
    }

    /// A program that calls docker itself.
    pub(crate) fn program(&self, name: &str) -> Client<'a> {
        self.stage
            .client(name)
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_BUILDKIT", "0")
    }

    /// Builds an image from nothing: the program, then a layer for each of so
    /// many texts, which its containers print one after another.
    pub(crate) fn build(&self, name: &str, texts: usize) -> Result<()> {
        let folder = self.stage.folder(&format!("build-{texts}"))?;
        image::write_program(&folder.join("program"))?;
        let mut dockerfile = "FROM scratch\nCOPY program /\n".to_owned();
        for number in 0..texts {
            let text = greeting(&format!("layer {number}"));
            std::fs::write(folder.join(format!("text-{number:02}")), text)?;
            writeln!(dockerfile, "COPY text-{number:02} /texts/")?;
        }
        dockerfile.push_str("CMD [\"/bin/sh\", \"-c\", \"cat /texts/*\"]\n");
        std::fs::write(folder.join("Dockerfile"), dockerfile)?;
        self.client(&["build", "--quiet", "--tag", name]).arg(&folder).succeed()?;
        Ok(())
    }

    /// The digest that docker says it pushed.
    pub(crate) fn push(&self, name: &str) -> Result<String> {
        digest_line(&self.client(&["push", name]).text()?)
    }

    /// The digest that docker says it pulled.
    pub(crate) fn pull(&self, name: &str) -> Result<String> {
        digest_line(&self.client(&["pull", name]).text()?)
    }

    /// Forgets an image with its layers, so that a pull fetches them.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.client(&["image", "rm", "--force", name]).succeed()?;
        self.client(&["image", "prune", "--all", "--force"]).succeed()?;
        Ok(())
    }

    pub(crate) fn run(&self, name: &str) -> Result<String> {
        self.client(&["run", "--rm", "--network=none", "--pull=never", name]).text()
    }
}

/// The digest in `v1: digest: sha256:… size: 1` or `Digest: sha256:…`.
fn digest_line(output: &str) -> Result<String> {
    let digest = output
        .split_whitespace()
        .find(|word| word.starts_with("sha256:") && word.len() == "sha256:".len() + 64);
    digest.map(str::to_owned).with_context(|| format!("docker names no digest:\n{output}"))
}
