//! A network of this machine's own: network namespaces with an address each, on one bridge.
//!
//! Each namespace is held by a process of the scenario, and is gone when that and what ran in it
//! have ended: nothing is left behind, however the run ends, and nothing is seen of it outside.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Client, Daemon};
use crate::scenario::{Stage, wait_until};

/// The first three numbers of every address.
const NET: &str = "10.77.0";
const BRIDGE: &str = "bridge";
/// Where what this thread starts is: the clients.
const OWN: u8 = 1;
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The namespace with the bridge, in which the clients are.
pub(super) struct Network {
    holder: Daemon,
}

impl Network {
    /// Makes a network, and moves this thread into it, for good: threads and processes that it
    /// starts are in it as well.
    pub(super) fn enter(stage: &Stage) -> Result<Self> {
        let (holder, namespace) = hold(stage)?;
        let file = std::fs::File::open(&namespace)
            .with_context(|| format!("cannot open {}", namespace.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter a network namespace: the cluster's scenarios need root")?;
        ip(stage, &["link", "set", "lo", "up"])?;
        ip(stage, &["link", "add", BRIDGE, "type", "bridge"])?;
        ip(stage, &["address", "add", &format!("{}/24", address(OWN)), "dev", BRIDGE])?;
        ip(stage, &["link", "set", BRIDGE, "up"])?;
        Ok(Self { holder })
    }

    /// Every address of the network, as dockerd wants to know it.
    pub(super) fn range() -> String {
        format!("{NET}.0/24")
    }

    /// Another machine, plugged in.
    pub(super) fn machine(&self, stage: &Stage, name: &'static str, last: u8) -> Result<Machine> {
        let own = format!("/proc/{}/ns/net", self.holder.pid());
        ensure!(identity(OWN_NAMESPACE)? == identity(own)?, "another thread entered the network");
        let (holder, namespace) = hold(stage)?;
        let peer = holder.pid().to_string();
        ip(
            stage,
            &["link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", &peer],
        )?;
        ip(stage, &["link", "set", "dev", name, "master", BRIDGE, "up"])?;
        let machine = Machine { name, address: address(last), namespace, _holder: holder };
        let there = |arguments: &[&str]| machine.client(stage, "ip").args(arguments).succeed();
        there(&["link", "set", "lo", "up"])?;
        there(&["address", "add", &format!("{}/24", machine.address), "dev", "eth0"])?;
        there(&["link", "set", "eth0", "up"])?;
        Ok(machine)
    }
}

/// A namespace with one address.
pub(super) struct Machine {
    pub(super) name: &'static str,
    pub(super) address: String,
    namespace: PathBuf,
    _holder: Daemon,
}

impl Machine {
    /// The option of nsenter for a program that is to run here.
    pub(super) fn place(&self) -> String {
        format!("--net={}", self.namespace.display())
    }

    /// A command that runs here.
    pub(super) fn client<'a>(&self, stage: &'a Stage, program: &str) -> Client<'a> {
        stage.client("nsenter").args([&self.place(), "--", program])
    }

    /// Pulls the plug. Connections stay, and nothing comes through.
    pub(super) fn cut_off(&self, stage: &Stage) -> Result<()> {
        ip(stage, &["link", "set", "dev", self.name, "down"])
    }

    pub(super) fn plug_in(&self, stage: &Stage) -> Result<()> {
        ip(stage, &["link", "set", "dev", self.name, "up"])
    }

    /// Every connection to and from here is reset as soon as something arrives on it.
    pub(super) fn reset_connections(&self, stage: &Stage, begin: bool) -> Result<()> {
        let verb = if begin { "--append" } else { "--delete" };
        self.client(stage, "iptables")
            .args(["--wait", verb, "INPUT", "--in-interface", "eth0", "--protocol", "tcp"])
            .args(["--jump", "REJECT", "--reject-with", "tcp-reset"])
            .succeed()?;
        Ok(())
    }
}

fn address(last: u8) -> String {
    format!("{NET}.{last}")
}

/// A new namespace, the process that holds it, and its file.
fn hold(stage: &Stage) -> Result<(Daemon, PathBuf)> {
    let holder = stage.daemon("network", "unshare", |command| {
        command.args(["--net", "sleep", "infinity"]);
    })?;
    let namespace = PathBuf::from(format!("/proc/{}/ns/net", holder.pid()));
    let own = identity(OWN_NAMESPACE)?;
    wait_until(Duration::from_secs(10), || {
        ensure!(identity(&namespace)? != own, "no namespace: {}", holder.log_tail());
        Ok(())
    })?;
    Ok((holder, namespace))
}

/// Which namespace it is.
fn identity(namespace: impl AsRef<Path>) -> Result<PathBuf> {
    let path = namespace.as_ref();
    std::fs::read_link(path).with_context(|| format!("cannot read {}", path.display()))
}

fn ip(stage: &Stage, arguments: &[&str]) -> Result<()> {
    stage.client("ip").args(arguments).succeed()?;
    Ok(())
}
