//! The servers that are compared: how each is started, found ready and stopped.

mod config;
mod kind;
mod setup;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::cores::Cores;
use crate::daemon::{Daemon, free_addresses};
use crate::engines::Behind;
use crate::http::{Client, Request, Sink};

pub(crate) use self::kind::Kind;
pub(crate) use self::setup::{Keys, Setup};

/// A server that is not ready by then has failed.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How often a starting server is asked.
const POLL: Duration = Duration::from_micros(200);

/// A server with a data folder of its own, or several that stand for each other. They stop when
/// dropped.
pub(crate) struct Server {
    kind: Kind,
    program: PathBuf,
    folder: PathBuf,
    data: PathBuf,
    address: SocketAddr,
    cores: Cores,
    setup: Setup,
    behind: Behind,
    keys: Arc<Keys>,
    daemon: Option<Daemon>,
    /// Those that stand for this one.
    others: Vec<Server>,
    /// Whose turn it is to get a connection.
    turn: AtomicUsize,
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
            data: folder.join("data"),
            address: free_address()?,
            cores,
            setup: Setup::Open,
            behind: Behind::default(),
            keys: Arc::clone(keys),
            daemon: None,
            others: Vec::new(),
            turn: AtomicUsize::new(0),
        };
        fs::create_dir(&server.folder)
            .and_then(|()| fs::create_dir(&server.data))
            .with_context(|| format!("cannot create {}", server.folder.display()))?;
        Ok(server)
    }

    /// Puts a server that has not been started yet in front of other engines, with as many
    /// replicas as `setup` has.
    pub(crate) fn put_before(&mut self, behind: Behind, setup: Setup) -> anyhow::Result<()> {
        for number in 2..=setup.replicas() {
            let folder = self.folder.join(format!("replica-{number}"));
            let mut other = self.fresh(&folder)?;
            other.data.clone_from(&self.data);
            (other.setup, other.behind) = (setup, behind.clone());
            self.others.push(other);
        }
        (self.setup, self.behind) = (setup, behind);
        Ok(())
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

    /// A connection, by TLS if the server wants that; of replicas each gets one in turn.
    pub(crate) fn client(&self) -> Client {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        let other = turn.checked_sub(1).and_then(|other| self.others.get(other));
        other.unwrap_or(self).client_of_this()
    }

    fn client_of_this(&self) -> Client {
        if self.setup == Setup::Tls {
            Client::with_tls(self.address, Arc::clone(&self.keys.client))
        } else {
            Client::new(self.address)
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
        self.data.clone()
    }

    /// What it needs beside its own process.
    pub(crate) fn behind(&self) -> &Behind {
        &self.behind
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
        let daemon = self.daemon.as_ref();
        daemon.map(Daemon::id).with_context(|| format!("{} is not running", self.kind.name()))
    }

    /// Of this server and its replicas.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<u32>> {
        std::iter::once(self).chain(&self.others).map(Self::process).collect()
    }

    /// Starts the server, then its replicas, and waits until `GET /v2/` is answered with 200. The
    /// time until then begins before the program is executed.
    pub(crate) fn start(&mut self) -> anyhow::Result<Duration> {
        let time = self.start_alone()?;
        self.others.iter_mut().try_for_each(|other| other.start_alone().map(|_| ()))?;
        Ok(time)
    }

    fn start_alone(&mut self) -> anyhow::Result<Duration> {
        let command = self.command()?;
        let begin = Instant::now();
        self.daemon = Some(self.cores.on_server_core(|| Daemon::start(command))??);
        let ready = self.request("GET", "/v2/", &[]);
        loop {
            if let Ok(response) = self.client_of_this().send(&ready, Sink::Discard)
                && response.status == 200
            {
                return Ok(begin.elapsed());
            }
            let ended = self.daemon.as_mut().map(Daemon::ended).transpose()?.flatten();
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

    /// Asks the server and its replicas to stop and waits for them.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.others.iter_mut().try_for_each(Self::stop)?;
        self.daemon.take().map_or(Ok(()), |mut daemon| daemon.stop())
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

fn free_address() -> anyhow::Result<SocketAddr> {
    free_addresses::<1>().map(|[address]| address)
}
