//! `SeaweedFS` in one process, on free ports of this machine, for as long as a test needs it.

#![expect(clippy::unwrap_used, reason = "tests fail so")]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const ACCESS_KEY: &str = "AKTEST";
pub(crate) const SECRET_KEY: &str = "secret-of-the-test";
pub(crate) const BUCKET: &str = "registry";

/// A server, which ends with this.
pub(crate) struct SeaweedFs {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl SeaweedFs {
    /// Starts a server with an empty bucket.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identities = format!(
            r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY}",
            "secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List"]}}]}}"#
        );
        let config = folder.path().join("s3.json");
        fs::write(&config, identities).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let [master, volume, filer, port] = free_ports();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(program())
            .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-volume.max=20"])
            .args(["-master.volumeSizeLimitMB=256", "-master.telemetry=false"])
            // These would be the same for every server of a machine.
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-s3.config={}", config.display()))
            .arg(format!("-s3.port={port}"))
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-filer.port={filer}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program().display()));
        let mut server = Self { process, port, folder };
        server.wait_for_bucket();
        server
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
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
            .args(["--silent", "--fail", "--request", "PUT", "--output"])
            .arg(self.folder.path().join("answer"))
            .args(["--aws-sigv4", "aws:amz:us-east-1:s3"])
            .args(["--user", &format!("{ACCESS_KEY}:{SECRET_KEY}")])
            .arg(format!("{}/{BUCKET}", self.url()))
            .status();
        made.unwrap_or_else(|error| panic!("curl: {error}")).success()
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Each has a neighbour 10,000 above it that is free, too: the server talks to itself there.
fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Tests run side by side in several processes, so each begins somewhere else.
    let first = 20_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    std::array::from_fn(|_| {
        loop {
            let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 25_000;
            if is_free(port) && is_free(port + 10_000) {
                return port;
            }
        }
    })
}

/// Where `e2e/install.sh` puts it.
fn program() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("../../e2e/.tools/bin/weed")
}
