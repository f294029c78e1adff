//! A process that this program has started, and that ends with it.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// After that, one that was asked to stop is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// It is stopped when dropped.
pub(crate) struct Daemon {
    child: Child,
    /// What asks it to stop.
    signal: Signal,
}

impl Daemon {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, signal: Signal::TERM })
    }

    /// The same, which wants another signal.
    pub(crate) fn stopped_by(mut self, signal: Signal) -> Self {
        self.signal = signal;
        self
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to stop and waits for it; kills it if that takes too long.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        if let Some(process) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // It may have ended just now; the wait below tells.
            let _ = kill_process(process, self.signal);
        }
        let asked = Instant::now();
        while self.ended()?.is_none() {
            if asked.elapsed() > STOP_LIMIT {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing more can be done about one that does not stop.
        let _ = self.stop();
    }
}

/// Addresses on loopback that nobody listens on, all different.
pub(crate) fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let listen = |_| TcpListener::bind("127.0.0.1:0").context("cannot find a free port");
    let listeners = (0..N).map(listen).collect::<anyhow::Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    addresses.try_into().ok().context("no free ports")
}
