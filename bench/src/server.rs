//! The servers that are compared: how each is configured, started, found ready and stopped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cores::Cores;
use crate::http::{Client, Request, Sink};

/// A server that is not ready by then has failed.
const START_LIMIT: Duration = Duration::from_mins(1);
/// After that, a server that was asked to stop is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often a starting server is asked.
const POLL: Duration = Duration::from_micros(200);

/// Which program a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Orlop,
    /// Debian's package of `registry:2`.
    DockerRegistry,
    /// The same bytes as static files at the same paths.
    Nginx,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orlop => "orlop",
            Self::DockerRegistry => "docker-registry",
            Self::Nginx => "nginx",
        }
    }

    /// Whether content can be pushed to it.
    pub(crate) fn is_registry(self) -> bool {
        self != Self::Nginx
    }
}

/// A server with a data folder of its own. It is stopped when dropped.
pub(crate) struct Server {
    kind: Kind,
    program: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    cores: Cores,
    child: Option<Child>,
}

impl Server {
    /// Prepares a server that keeps everything in `folder`, which must not exist yet.
    pub(crate) fn new(
        kind: Kind,
        program: &Path,
        folder: &Path,
        cores: Cores,
    ) -> anyhow::Result<Self> {
        let server = Self {
            kind,
            program: program.to_owned(),
            folder: folder.to_owned(),
            address: free_address()?,
            cores,
            child: None,
        };
        fs::create_dir(&server.folder)
            .and_then(|()| fs::create_dir(server.data()))
            .with_context(|| format!("cannot create {}", server.folder.display()))?;
        match kind {
            Kind::Orlop => {}
            Kind::DockerRegistry => fs::write(server.config(), server.docker_registry_config())?,
            Kind::Nginx => fs::write(server.config(), server.nginx_config())?,
        }
        Ok(server)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// The folder with the content: a registry's root directory, nginx's document root.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Everything that belongs to this server.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A second server of the same kind in a folder of its own.
    pub(crate) fn fresh(&self, folder: &Path) -> anyhow::Result<Self> {
        Self::new(self.kind, &self.program, folder, self.cores)
    }

    pub(crate) fn process(&self) -> anyhow::Result<u32> {
        let child = self.child.as_ref();
        child.map(Child::id).with_context(|| format!("{} is not running", self.kind.name()))
    }

    /// Starts the server and waits until `GET /v2/` is answered with 200. The time until then
    /// begins before the program is executed.
    pub(crate) fn start(&mut self) -> anyhow::Result<Duration> {
        let mut command = self.command()?;
        let begin = Instant::now();
        let child = self
            .cores
            .on_server_core(|| command.spawn())?
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let child = self.child.insert(child);
        let ready = Request::new("GET", self.address, "/v2/", &[]);
        loop {
            if let Ok(response) = Client::new(self.address).send(&ready, Sink::Discard)
                && response.status == 200
            {
                return Ok(begin.elapsed());
            }
            let ended = child.try_wait()?;
            if ended.is_some() || begin.elapsed() > START_LIMIT {
                bail!(
                    "{} did not get ready ({}). Its last words:\n{}",
                    self.kind.name(),
                    ended.map_or_else(|| "still starting".to_owned(), |status| status.to_string()),
                    self.last_words()
                );
            }
            sleep(POLL);
        }
    }

    /// Asks the server to stop and waits for it; kills it if that takes too long.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        if let Some(process) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself; the wait below tells.
            let _ = kill_process(process, Signal::TERM);
        }
        let asked = Instant::now();
        while child.try_wait()?.is_none() {
            if asked.elapsed() > STOP_LIMIT {
                child.kill()?;
                child.wait()?;
                break;
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The end of what the server wrote to its log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let start = text.len().saturating_sub(2000);
        String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned()
    }

    fn command(&self) -> anyhow::Result<Command> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        match self.kind {
            Kind::Orlop => {
                command
                    .arg("serve")
                    .env("REGISTRY_HTTP_ADDR", self.address.to_string())
                    .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", self.data())
                    .env("REGISTRY_STORAGE_DELETE_ENABLED", "true")
                    .env("REGISTRY_LOG_LEVEL", "error")
                    .env("REGISTRY_LOG_ACCESSLOG_DISABLED", "true");
            }
            Kind::DockerRegistry => {
                command.arg("serve").arg(self.config());
            }
            Kind::Nginx => {
                command.arg("-p").arg(&self.folder).arg("-c").arg(self.config());
                command.arg("-e").arg(self.log());
            }
        }
        Ok(command)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("config")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn docker_registry_config(&self) -> String {
        format!(
            "version: 0.1\n\
             log:\n  level: error\n  accesslog:\n    disabled: true\n\
             storage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n  \
             cache:\n    blobdescriptor: inmemory\n  \
             maintenance:\n    uploadpurging:\n      enabled: false\n\
             http:\n  addr: {}\n",
            self.data().display(),
            self.address
        )
    }

    fn nginx_config(&self) -> String {
        let folder = self.folder.display();
        // Otherwise the worker gives root away and cannot read the temporary folder.
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
            .concat();
        format!(
            "{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\n\
             events {{ worker_connections 2048; }}\n\
             http {{\n    access_log off;\n    sendfile on;\n    tcp_nopush on;\n    \
             keepalive_requests 1000000000;\n    keepalive_timeout 300s;\n    \
             open_file_cache max=20000 inactive=300s;\n    open_file_cache_valid 300s;\n    \
             default_type application/octet-stream;\n{paths}    \
             server {{\n        listen {};\n        root {};\n        \
             location = /v2/ {{ return 200 '{{}}'; }}\n    }}\n}}\n",
            self.address,
            self.data().display()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing more can be done about a server that does not stop.
        let _ = self.stop();
    }
}

/// An address on loopback that nobody listens on.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr()?)
}
