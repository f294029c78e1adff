//! containerd's ctr, with a containerd of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::image::{self, Layout, greeting};
use crate::process::{Client, Daemon};
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("containerd: push, pull and run", 180, push_pull_run),
    Scenario::new("containerd: a multi-arch index, all platforms", 180, multi_arch),
];

fn push_pull_run(stage: &Stage) -> Result<()> {
    let containerd = Containerd::start(stage)?;
    stage.with_registry(|registry| {
        let (layout, digest) = image::runnable(stage, "ctr")?;
        let name = registry.name("team/ctr:v1");
        containerd.import(&layout, &registry.name("team/ctr"))?;
        // The second time it has only to ask.
        for _ in 0..2 {
            containerd.images(&["push", "--plain-http", &name]).succeed()?;
        }
        ensure!(registry.http.digest_of("team/ctr", "v1")? == digest);
        registry.http.read_whole("team/ctr", "v1")?;

        // To another repository: the layers are mounted.
        let other = registry.name("other/ctr:v2");
        containerd.images(&["tag", &name, &other]).succeed()?;
        containerd.images(&["push", "--plain-http", &other]).succeed()?;
        registry.http.read_whole("other/ctr", "v2")?;

        containerd.forget(&[&name, &other])?;
        containerd.pull(&[&name])?;
        let listed = containerd.images(&["ls", &format!("name=={name}")]).text()?;
        ensure!(listed.contains(&digest), "pushed {digest}, pulled\n{listed}");
        let printed = containerd
            .client(&["run", "--rm", "--snapshotter=native", &name, "container"])
            .text()?;
        ensure!(printed == greeting("ctr"), "the container printed {printed:?}");
        Ok(())
    })
}

fn multi_arch(stage: &Stage) -> Result<()> {
    let containerd = Containerd::start(stage)?;
    stage.with_registry(|registry| {
        let (layout, digest, children) = image::multi_arch(stage, "ctr-multi")?;
        let name = registry.name("team/multi:v1");
        containerd.import(&layout, &registry.name("team/multi"))?;
        containerd.images(&["push", "--plain-http", &name]).succeed()?;
        ensure!(registry.http.digest_of("team/multi", "v1")? == digest);
        for child in &children {
            registry.http.digest_of("team/multi", child)?;
        }
        registry.http.read_whole("team/multi", "v1")?;

        containerd.forget(&[&name])?;
        containerd.pull(&["--all-platforms", &name])?;
        let checked = containerd.images(&["check", "--snapshotter=native"]).text()?;
        ensure!(checked.contains("complete"), "{checked}");
        Ok(())
    })
}

/// A containerd without its Kubernetes part, and ctr.
struct Containerd<'a> {
    stage: &'a Stage,
    socket: PathBuf,
    daemon: Daemon,
}

impl<'a> Containerd<'a> {
    fn start(stage: &'a Stage) -> Result<Self> {
        let socket = stage.path("containerd.sock");
        let configuration = stage.file(
            "containerd.toml",
            format!(
                "version = 2\n\
                 root = '{root}/root'\n\
                 state = '{root}/state'\n\
                 disabled_plugins = ['io.containerd.grpc.v1.cri']\n\
                 [grpc]\n\
                 address = '{socket}'\n\
                 [plugins.'io.containerd.internal.v1.opt']\n\
                 path = '{root}/opt'\n",
                root = stage.path("containerd").display(),
                socket = socket.display(),
            ),
        )?;
        let daemon = stage.daemon("containerd", "containerd", |command| {
            command.arg("--config").arg(configuration);
        })?;
        let mut containerd = Self { stage, socket, daemon };
        wait_until(Duration::from_mins(1), || {
            containerd.daemon.is_running()?;
            containerd.client(&["version"]).succeed()
        })
        .with_context(|| format!("containerd does not answer{}", containerd.daemon.log_tail()))?;
        Ok(containerd)
    }

    fn client(&self, arguments: &[&str]) -> Client<'a> {
        self.stage
            .client("ctr")
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", "e2e"])
            .args(arguments)
    }

    fn images(&self, arguments: &[&str]) -> Client<'a> {
        self.client(&["images"]).args(arguments)
    }

    /// Loads a layout; `v1` in it becomes `NAME:v1`.
    fn import(&self, layout: &Layout, name: &str) -> Result<()> {
        self.images(&["import", "--all-platforms", "--snapshotter=native"])
            .args(["--base-name", name])
            .arg(layout.archive(self.stage)?)
            .succeed()?;
        Ok(())
    }

    fn pull(&self, arguments: &[&str]) -> Result<()> {
        self.images(&["pull", "--plain-http", "--snapshotter=native"]).args(arguments).succeed()?;
        Ok(())
    }

    /// Removes images with their content, so that a pull fetches it.
    fn forget(&self, names: &[&str]) -> Result<()> {
        self.images(&["rm", "--sync"]).args(names).succeed()?;
        Ok(())
    }
}
