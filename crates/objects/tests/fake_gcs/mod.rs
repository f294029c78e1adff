//! `fake-gcs-server`, on a free port of this machine, for as long as a test needs it.

#![expect(clippy::unwrap_used, reason = "tests fail so")]

use std::path::Path;
use std::process::Command;

use crate::server::{Server, free_ports};

pub(crate) const BUCKET: &str = "registry";

/// A server, which ends with this.
pub(crate) struct FakeGcs {
    port: u16,
    server: Server,
    _folder: tempfile::TempDir,
}

impl FakeGcs {
    /// Starts a server with an empty bucket.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port] = free_ports();
        let place = format!("127.0.0.1:{port}");
        let server = Server::start("fake-gcs-server", folder.path(), |command| {
            command
                .args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()])
                .args(["-backend", "memory", "-public-host", &place])
                .args(["-external-url", &format!("http://{place}")])
        });
        let answer = folder.path().join("answer");
        let mut fake = Self { port, server, _folder: folder };
        fake.server.wait_until(|| make_bucket(&place, &answer));
        fake
    }

    /// Where it listens: host and port.
    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn make_bucket(place: &str, answer: &Path) -> bool {
    let made = Command::new("curl")
        .args(["--silent", "--fail", "--header", "Content-Type: application/json"])
        .args(["--data", &format!(r#"{{"name":"{BUCKET}"}}"#), "--output"])
        .arg(answer)
        .arg(format!("http://{place}/storage/v1/b?project=test"))
        .status();
    made.unwrap_or_else(|error| panic!("curl: {error}")).success()
}
