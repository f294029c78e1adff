//! The registry under test: started on a free loopback port, stopped, checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::http::{Answer, Http};
use crate::ports::free_port;
use crate::process::{Client, Daemon};
use crate::scenario::{Stage, wait_until};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Debian's registry:2.
const PEER: &str = "/usr/bin/docker-registry";

/// The configuration that Debian's docker-registry cannot do without.
const PEER_CONFIGURATION: &str = "
version: 0.1
storage: {filesystem: {rootdirectory: unset}}
http: {addr: unset}
log: {level: warn}
validation: {manifests: {urls: {allow: ['.*']}}}
";

/// How a registry is set up, beyond what every scenario has: a port, a store,
/// and deletes allowed.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// The text of a `config.yml`.
    pub(crate) configuration: Option<&'a str>,
    /// Variables beside those that every registry gets.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Where it listens; else a port that is free.
    pub(crate) port: Option<u16>,
    /// Its port does not speak plain HTTP: the debug address is asked whether
    /// it is ready, and [`Registry::http`] is of no use.
    pub(crate) is_not_plain: bool,
}

impl<'a> Setup<'a> {
    pub(crate) fn configuration(text: &'a str) -> Self {
        Self { configuration: Some(text), ..Self::default() }
    }
}

pub(crate) struct Registry {
    process: Daemon,
    /// `127.0.0.1:PORT`, as it stands in an image's name.
    pub(crate) host: String,
    pub(crate) http: Http,
    /// The operators' address.
    debug: Http,
    command: RegistryCommand,
}

/// What the registry is started with, again after a stop.
struct RegistryCommand {
    binary: PathBuf,
    arguments: Vec<PathBuf>,
    environment: Vec<(&'static str, String)>,
    /// What answers 200 when the registry is ready.
    ready: Http,
    ready_path: &'static str,
}

impl Stage {
    /// Plays a scenario against a registry with an empty store. Afterwards the
    /// registry must stop cleanly and `orlop check` must find nothing wrong.
    pub(crate) fn with_registry(
        &self,
        play: impl FnOnce(&mut Registry) -> Result<()>,
    ) -> Result<()> {
        self.with_registry_set_up(&Setup::default(), play)
    }

    /// The same with a configuration.
    pub(crate) fn with_registry_set_up(
        &self,
        setup: &Setup<'_>,
        play: impl FnOnce(&mut Registry) -> Result<()>,
    ) -> Result<()> {
        let mut registry = self.start_registry("store", setup)?;
        if let Err(error) = play(&mut registry) {
            bail!("{error:#}{}", registry.process.log_tail());
        }
        registry.stop()?;
        registry.check(self)
    }

    /// Starts a registry whose store is the folder of that name on this stage,
    /// new or from an earlier start, and waits until it answers.
    pub(crate) fn start_registry(&self, store: &str, setup: &Setup<'_>) -> Result<Registry> {
        self.start_program(self.binary(), store, setup)
    }

    /// The same with Debian's docker-registry, whichever registry is under test.
    pub(crate) fn start_peer(&self, store: &str) -> Result<Registry> {
        self.start_program(Path::new(PEER), store, &Setup::default())
    }

    fn start_program(&self, binary: &Path, store: &str, setup: &Setup<'_>) -> Result<Registry> {
        let host = format!("127.0.0.1:{}", setup.port.map_or_else(free_port, Ok)?);
        let debug_host = format!("127.0.0.1:{}", free_port()?);
        let store = self.store_environment(store)?;
        let configuration = match setup.configuration {
            None if !is_peer(binary) => None,
            None if store.iter().any(|(name, _)| name.contains("_S3_")) => Some(
                PEER_CONFIGURATION
                    .replace("filesystem: {rootdirectory: unset}", "s3: {v4auth: true}"),
            ),
            None => Some(PEER_CONFIGURATION.to_owned()),
            Some(given) => Some(given.to_owned()),
        };
        let mut arguments = Vec::new();
        if let Some(text) = configuration {
            arguments.push(self.file("config.yml", text)?);
        }
        let mut environment = vec![
            ("REGISTRY_HTTP_ADDR", host.clone()),
            ("REGISTRY_HTTP_DEBUG_ADDR", debug_host.clone()),
            ("REGISTRY_STORAGE_DELETE_ENABLED", "true".to_owned()),
        ];
        environment.extend(store);
        if is_peer(binary) {
            environment.push(("REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED", "true".to_owned()));
        }
        environment.extend(setup.environment.iter().cloned());
        let (ready_host, ready_path) =
            if setup.is_not_plain { (&debug_host, "/readyz") } else { (&host, "/") };
        let command = RegistryCommand {
            binary: binary.to_owned(),
            arguments,
            environment,
            ready: Http::new(ready_host, self.remaining()?),
            ready_path,
        };
        let http = Http::new(&host, self.remaining()?);
        let debug = Http::new(&debug_host, self.remaining()?);
        Ok(Registry { process: command.start(self)?, http, debug, host, command })
    }
}

impl RegistryCommand {
    fn start(&self, stage: &Stage) -> Result<Daemon> {
        let mut process = stage.daemon("registry", &self.binary, |command| {
            command
                .arg("serve")
                .args(&self.arguments)
                .envs(self.environment.iter().map(|(name, value)| (name, value)));
        })?;
        let ready = wait_until(START_LIMIT, || {
            if let Err(ended) = process.is_running() {
                return Ok(Err(ended)); // and will not come back
            }
            self.ready.get(self.ready_path)?.expect(200).map(Ok)
        });
        match ready.flatten() {
            Ok(_) => Ok(process),
            Err(error) => bail!("the registry does not answer: {error:#}{}", process.log_tail()),
        }
    }
}

impl Registry {
    /// `HOST/REPOSITORY`, as clients name it.
    pub(crate) fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.host)
    }

    /// Whether it is this process that listens under its address, not another
    /// one that was faster.
    pub(crate) fn listens_itself(&self) -> Result<bool> {
        let (_, port) = self.host.rsplit_once(':').context("an address without a port")?;
        let place = format!(":{:04X}", port.parse::<u16>()?);
        let sockets = std::fs::read_to_string("/proc/net/tcp")?;
        let listening = sockets.lines().filter_map(|line| {
            let columns = line.split_whitespace().collect::<Vec<_>>();
            let [_, address, _, "0A", _, _, _, _, _, inode, ..] = columns[..] else { return None };
            address.ends_with(&place).then(|| format!("socket:[{inode}]"))
        });
        let listening = listening.collect::<Vec<_>>();
        // A process that has ended has none, and files may be closed meanwhile.
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).into_iter().flatten();
        let mut open = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        Ok(open.any(|file| listening.iter().any(|socket| file.as_os_str() == socket.as_str())))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Asks the operators' address.
    pub(crate) fn operators(&self, path: &str) -> Result<Answer> {
        self.debug.get(path)
    }

    /// The most memory that the process ever had resident, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .context("no VmHWM in the status of the process")?;
        Ok(kibibytes.trim().parse::<u64>()? << 10)
    }

    /// What it has counted so far, as Prometheus reads it.
    pub(crate) fn metrics(&self) -> Result<String> {
        let answer = self.operators("/metrics")?.expect(200)?;
        Ok(String::from_utf8(answer.body)?)
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// SIGTERM must end it, and with success.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let status = self.process.stop(STOP_LIMIT)?;
        // The peer has no handler for the signal.
        ensure!(
            status.success() || is_peer(&self.command.binary),
            "the registry ended with {status} after SIGTERM{}",
            self.process.log_tail()
        );
        Ok(())
    }

    /// SIGHUP makes it read its configuration again.
    pub(crate) fn hang_up(&self) -> Result<()> {
        self.process.signal(Signal::HUP)
    }

    /// SIGKILL: it gets no chance to put anything in order.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again after a stop, on the same address and store.
    pub(crate) fn restart(&mut self, stage: &Stage) -> Result<()> {
        self.process = self.command.start(stage)?;
        Ok(())
    }

    /// `orlop check` compares the database with the files, and every file with
    /// its digest. The registry must have been stopped.
    pub(crate) fn check(&self, stage: &Stage) -> Result<()> {
        if is_peer(&self.command.binary) {
            return Ok(());
        }
        self.command(stage, "check").succeed()?;
        Ok(())
    }

    /// Another command of the program, with the registry's own configuration.
    pub(crate) fn command<'a>(&self, stage: &'a Stage, verb: &str) -> Client<'a> {
        let program = self.command.binary.to_string_lossy();
        let mut client = stage.client(&program).arg(verb).args(&self.command.arguments);
        for (name, value) in &self.command.environment {
            client = client.env(name, value);
        }
        client
    }
}

/// Whether this is Debian's registry, which the scenarios are tried out with.
fn is_peer(binary: &Path) -> bool {
    binary.ends_with("docker-registry")
}
