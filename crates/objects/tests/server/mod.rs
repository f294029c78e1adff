//! Servers of tests: processes on free ports of this machine, for as long as a test needs them.

#![expect(clippy::unwrap_used, reason = "tests fail so")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(2);

/// A server, which ends with this.
pub(crate) struct Server {
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a program with a folder to work in. What it says goes into a file there.
    pub(crate) fn start(
        program: &str,
        folder: &Path,
        prepare: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let log = folder.join(format!("{program}.log"));
        let output = fs::File::create(&log).unwrap();
        let mut command = Command::new(program);
        command
            .env("PATH", search_path())
            .env("TMPDIR", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let process = prepare(&mut command).spawn();
        let process = process
            .unwrap_or_else(|error| panic!("{program}: {error} (e2e/install.sh installs it)"));
        Self { process, log }
    }

    /// Waits until it does what it is for.
    pub(crate) fn wait_until(&mut self, mut is_ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + START_LIMIT;
        while !is_ready() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            assert!(self.process.try_wait().unwrap().is_none(), "it ended: {log}");
            assert!(Instant::now() < deadline, "it does not start: {log}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where `e2e/install.sh` puts programs, and where the system has them.
fn search_path() -> String {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../../e2e/.tools");
    let system = std::env::var("PATH").unwrap_or_default();
    format!("{tools}/bin:{tools}/npm/node_modules/.bin:{system}")
}

/// Ports that are free. Each has a neighbour 10,000 above it that is free, too: `SeaweedFS` talks
/// to itself there. All are below those that the kernel gives to clients, which could take one
/// before the server has it.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Tests run side by side in several processes, so each begins somewhere else.
    let first = u16::try_from(u64::from(std::process::id()) * 7_919 % 10_000).unwrap();
    std::array::from_fn(|_| {
        loop {
            let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
            if is_free(port) && is_free(port + 10_000) {
                return port;
            }
        }
    })
}
