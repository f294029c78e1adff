//! `fake-gcs-server`, on a free port of this machine, for as long as a test needs it.

#![expect(clippy::unwrap_used, reason = "tests fail so")]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const BUCKET: &str = "registry";

/// A server, which ends with this.
pub(crate) struct FakeGcs {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl FakeGcs {
    /// Starts a server with an empty bucket.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let port = free_port();
        let place = format!("127.0.0.1:{port}");
        let process = Command::new(program())
            .args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()])
            .args(["-backend", "memory", "-public-host", &place])
            .args(["-external-url", &format!("http://{place}")])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program().display()));
        let mut server = Self { process, port, folder };
        server.wait_for_bucket();
        server
    }

    /// Where it listens: host and port.
    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn wait_for_bucket(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.make_bucket() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(self.process.try_wait().unwrap().is_none(), "it ended: {log}");
            assert!(Instant::now() < deadline, "it does not start: {log}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn make_bucket(&self) -> bool {
        let made = Command::new("curl")
            .args(["--silent", "--fail", "--header", "Content-Type: application/json"])
            .args(["--data", &format!(r#"{{"name":"{BUCKET}"}}"#), "--output"])
            .arg(self.folder.path().join("answer"))
            .arg(format!("http://{}/storage/v1/b?project=test", self.place()))
            .status();
        made.unwrap_or_else(|error| panic!("curl: {error}")).success()
    }
}

impl Drop for FakeGcs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where `e2e/install.sh` puts it.
fn program() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("../../e2e/.tools/bin/fake-gcs-server")
}
