//! The servers that are compared: how each is started, found ready and stopped.

mod config;
mod kind;
mod setup;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cores::Cores;
use crate::http::{Client, Request, Sink};

pub(crate) use self::kind::Kind;
pub(crate) use self::setup::{Keys, Setup};

/// A server that is not ready by then has failed.
const START_LIMIT: Duration = Duration::from_mins(1);
/// After that, a server that was asked to stop is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How often a starting server is asked.
const POLL: Duration = Duration::from_micros(200);

/// A server with a data folder of its own. It is stopped when dropped.
pub(crate) struct Server {
    kind: Kind,
    program: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    cores: Cores,
    setup: Setup,
    keys: Arc<Keys>,
    child: Option<Child>,
}

impl Server {
    /// Prepares an open server that keeps everything in `folder`, which must not exist yet.
    pub(crate) fn new(
        kind: Kind,
        program: &Path,
        folder: &Path,
        cores: Cores,
        keys: &Arc<Keys>,
    ) -> anyhow::Result<Self> {
        let server = Self {
            kind,
            program: program.to_owned(),
            folder: folder.to_owned(),
            address: free_address()?,
            cores,
            setup: Setup::Open,
            keys: Arc::clone(keys),
            child: None,
        };
        fs::create_dir(&server.folder)
            .and_then(|()| fs::create_dir(server.data()))
            .with_context(|| format!("cannot create {}", server.folder.display()))?;
        Ok(server)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn setup(&self) -> Setup {
        self.setup
    }

    /// A connection, by TLS if the server wants that.
    pub(crate) fn client(&self) -> Client {
        match self.setup {
            Setup::Tls => Client::with_tls(self.address, Arc::clone(&self.keys.client)),
            Setup::Open | Setup::Password | Setup::Token => Client::new(self.address),
        }
    }

    /// A request with what the server wants to know of who asks.
    pub(crate) fn request(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Request {
        let known = self.keys.authorization(self.setup).map(|value| ("Authorization", value));
        let headers: Vec<_> = headers.iter().copied().chain(known).collect();
        Request::new(method, self.address, target, &headers)
    }

    /// The folder with the content: a registry's root directory, nginx's document root.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Everything that belongs to this server.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A second server of the same kind, open, in a folder of its own.
    pub(crate) fn fresh(&self, folder: &Path) -> anyhow::Result<Self> {
        Self::new(self.kind, &self.program, folder, self.cores, &self.keys)
    }

    pub(crate) fn cores(&self) -> Cores {
        self.cores
    }

    /// The same server, which will run on these cores.
    pub(crate) fn on(mut self, cores: Cores) -> Self {
        self.cores = cores;
        self
    }

    /// Stops the server if it must be reached differently, and starts it again.
    pub(crate) fn turn_to(&mut self, setup: Setup) -> anyhow::Result<()> {
        if self.setup != setup {
            self.stop()?;
            self.setup = setup;
            self.start()?;
        }
        Ok(())
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
        self.child = Some(child);
        let ready = self.request("GET", "/v2/", &[]);
        loop {
            if let Ok(response) = self.client().send(&ready, Sink::Discard)
                && response.status == 200
            {
                return Ok(begin.elapsed());
            }
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
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

    /// Stops the server and removes all it has.
    pub(crate) fn remove(mut self) -> anyhow::Result<()> {
        self.stop()?;
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }

    /// The end of what the server wrote to its log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let start = text.len().saturating_sub(2000);
        String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned()
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
