//! Processor time between two moments.

use crate::process;
use crate::server::Server;

/// In seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// By the server, all of its replicas, and their children.
    pub(crate) server: f64,
    /// By PostgreSQL.
    pub(crate) database: f64,
    /// By the object store.
    pub(crate) store: f64,
    /// By the load generator.
    pub(crate) load: f64,
    /// By any process of this machine.
    pub(crate) machine: f64,
}

pub(crate) struct Meter<'a> {
    server: &'a Server,
    begin: Used,
}

impl<'a> Meter<'a> {
    /// Also lets the server's highest resident set begin again.
    pub(crate) fn start(server: &'a Server) -> anyhow::Result<Self> {
        server.processes()?.into_iter().try_for_each(process::reset_peak)?;
        Ok(Self { server, begin: Used::now(server)? })
    }

    pub(crate) fn stop(self) -> anyhow::Result<Used> {
        let (begin, now) = (self.begin, Used::now(self.server)?);
        Ok(Used {
            server: now.server - begin.server,
            database: now.database - begin.database,
            store: now.store - begin.store,
            load: now.load - begin.load,
            machine: now.machine - begin.machine,
        })
    }
}

impl Used {
    fn now(server: &Server) -> anyhow::Result<Self> {
        let of = |process: Option<u32>| process.map_or(Ok(0.0), process::cpu_seconds);
        let behind = server.behind();
        Ok(Self {
            server: server
                .processes()?
                .into_iter()
                .map(process::cpu_seconds)
                .sum::<Result<_, _>>()?,
            database: of(behind.database.as_ref().map(|database| database.process))?,
            store: of(behind.bucket.as_ref().map(|bucket| bucket.process))?,
            load: process::own_cpu_seconds()?,
            machine: process::machine_cpu_seconds()?,
        })
    }

    /// By others.
    pub(crate) fn foreign(&self) -> f64 {
        (self.machine - self.server - self.database - self.store - self.load).max(0.0)
    }
}
