//! The servers of a run: each program once for every way in which rows reach it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::cores::Cores;
use crate::engines::Engines;
use crate::peers::Peer;
use crate::rows::Row;
use crate::seed::{self, Seed};
use crate::server::{Keys, Kind, Server};

pub(crate) struct Fleet<'a> {
    peers: &'a [Peer],
    folder: &'a Path,
    cores: Cores,
    keys: Arc<Keys>,
    seed: &'a Seed,
    servers: Vec<Server>,
    /// Behind the servers, so they go after them.
    engines: Engines<'a>,
    /// Which have the many tags and repositories.
    listed: Vec<Kind>,
}

impl<'a> Fleet<'a> {
    /// No server yet; each keeps its data in a folder of its own in `folder`.
    pub(crate) fn new(
        peers: &'a [Peer],
        folder: &'a Path,
        cores: Cores,
        seed: &'a Seed,
        engines: Engines<'a>,
    ) -> anyhow::Result<Self> {
        let keys = Arc::new(Keys::make(folder).context("cannot make keys")?);
        let (servers, listed) = (Vec::new(), Vec::new());
        Ok(Self { peers, folder, cores, keys, seed, servers, engines, listed })
    }

    /// Starts and fills what these rows need and is not there yet.
    pub(crate) fn gather(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        for row in rows {
            for peer in self.peers.iter().filter(|peer| row.suits(peer.kind)) {
                self.add(peer, row)
                    .with_context(|| format!("filling {} ({:?})", peer.kind.name(), row.setup))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, peer: &Peer, row: &Row) -> anyhow::Result<()> {
        let is_it = |server: &Server| server.kind() == peer.kind && server.setup() == row.setup;
        if !self.servers.iter().any(is_it) {
            eprintln!("        starting and filling {} ({:?})", peer.kind.name(), row.setup);
            let folder = self.folder.join(format!("{}-{:?}", peer.kind.name(), row.setup));
            let mut server =
                Server::new(peer.kind, &peer.program, &folder, self.cores, &self.keys)?;
            if row.setup.has_database() || row.setup.has_bucket() {
                server.put_before(self.engines.behind(peer.kind, row.setup)?, row.setup)?;
            }
            server.start()?;
            self.seed.fill(&server)?;
            server.turn_to(row.setup)?;
            self.servers.push(server);
        }
        let server = self.servers.iter().find(|server| is_it(server));
        if let Some(server) =
            server.filter(|_| row.needs_lists && !self.listed.contains(&peer.kind))
        {
            eprintln!("        filling {}'s lists", peer.kind.name());
            seed::fill_lists(server)?;
            self.listed.push(peer.kind);
        }
        Ok(())
    }

    /// Stops what none of these rows needs, and removes its data.
    pub(crate) fn release(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        let all = std::mem::take(&mut self.servers).into_iter();
        let (needed, others): (_, Vec<_>) =
            all.partition(|server| rows.iter().any(|row| is_on(row, server)));
        self.servers = needed;
        others.into_iter().try_for_each(Server::remove)
    }

    /// The servers that a row is measured on.
    pub(crate) fn of<'s>(&'s mut self, row: &'s Row) -> impl Iterator<Item = &'s mut Server> {
        self.servers.iter_mut().filter(|server| is_on(row, server))
    }
}

/// Whether a row is measured on a server.
fn is_on(row: &Row, server: &Server) -> bool {
    row.setup == server.setup() && row.suits(server.kind())
}
