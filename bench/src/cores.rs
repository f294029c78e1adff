//! Which processor core runs what: the server on core 0, the load on core 1, so that the one does
//! not take time from the other.

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The cores of a run; `None` leaves the choice to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    server: Option<usize>,
    load: Option<usize>,
}

impl Cores {
    /// Server and load apart, or (one core only, or `free`) wherever the kernel puts them.
    pub(crate) fn choose(free: bool) -> Self {
        let several = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
        if free || !several {
            return Self { server: None, load: None };
        }
        Self { server: Some(0), load: Some(1) }
    }

    /// Keeps this thread, and the threads and processes it starts from now on, on the load's core.
    pub(crate) fn pin_load(self) -> anyhow::Result<()> {
        pin(self.load)
    }

    /// Runs `start` on the server's core: a process started in it stays there.
    pub(crate) fn on_server_core<T>(self, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        pin(self.server)?;
        let result = start();
        pin(self.load)?;
        Ok(result)
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

fn pin(core: Option<usize>) -> anyhow::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
        .with_context(|| format!("cannot move to core {core}; try --unpinned"))
}
