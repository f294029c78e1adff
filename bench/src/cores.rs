//! Which processor core runs what: the server on core 0, the load on core 1, so that the one does
//! not take time from the other.

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of a run; `None` leaves the choice to the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    all: CpuSet,
    server: Option<usize>,
    load: Option<usize>,
}

impl Cores {
    /// Server and load apart, or (one core only, or `free`) wherever the kernel puts them.
    pub(crate) fn choose(free: bool) -> anyhow::Result<Self> {
        let all = sched_getaffinity(None).context("cannot ask for the cores")?;
        let cores = Self { all, server: Some(0), load: Some(1) };
        Ok(if free || all.count() < 2 { cores.free() } else { cores })
    }

    /// The same, with the choice left to the kernel.
    pub(crate) fn free(self) -> Self {
        Self { server: None, load: None, ..self }
    }

    /// Keeps this thread, and the threads and processes it starts from now on, on the load's core.
    pub(crate) fn pin_load(self) -> anyhow::Result<()> {
        self.pin(self.load)
    }

    /// Runs `start` on the server's core: a process started in it stays there.
    pub(crate) fn on_server_core<T>(self, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        self.pin(self.server)?;
        let result = start();
        self.pin(self.load)?;
        Ok(result)
    }

    fn pin(self, core: Option<usize>) -> anyhow::Result<()> {
        let mut set = self.all;
        if let Some(core) = core {
            set.clear();
            set.set(core);
        }
        sched_setaffinity(None, &set)
            .with_context(|| format!("cannot move to core {core:?}; try --unpinned"))
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.server, self.load) {
            (Some(server), Some(load)) => write!(text, "server on core {server}, load on {load}"),
            _ => write!(text, "server and load not pinned"),
        }
    }
}
