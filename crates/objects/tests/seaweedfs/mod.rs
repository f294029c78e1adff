//! `SeaweedFS` in one process, on free ports of this machine, for as long as a test needs it.

#![expect(clippy::unwrap_used, reason = "tests fail so")]

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::server::{Server, free_ports};

pub(crate) const ACCESS_KEY: &str = "AKTEST";
pub(crate) const SECRET_KEY: &str = "secret-of-the-test";
pub(crate) const BUCKET: &str = "registry";

/// A server, which ends with this.
pub(crate) struct SeaweedFs {
    /// Of master, volume server, filer and S3.
    ports: [u16; 4],
    server: Server,
    _folder: tempfile::TempDir,
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
        let ports = free_ports();
        let [master, volume, filer, port] = ports;
        let server = Server::start("weed", folder.path(), |command| {
            command
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
                .args(["-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"])
        });
        let answer = folder.path().join("answer");
        let mut weed = Self { ports, server, _folder: folder };
        let url = weed.url();
        weed.server.wait_until(|| make_bucket(&url, &answer));
        weed
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        let [.., port] = self.ports;
        format!("http://127.0.0.1:{port}")
    }
}

impl Drop for SeaweedFs {
    /// It has sockets that no option places elsewhere.
    fn drop(&mut self) {
        self.server.kill();
        for (part, port) in ["master", "volume", "filer", "s3"].into_iter().zip(self.ports) {
            let socket = format!("/tmp/seaweedfs-{part}-grpc-{}.sock", port + 10_000);
            let _ = fs::remove_file(socket);
        }
    }
}

fn make_bucket(url: &str, answer: &Path) -> bool {
    let made = Command::new("curl")
        .args(["--silent", "--fail", "--request", "PUT", "--output"])
        .arg(answer)
        .args(["--aws-sigv4", "aws:amz:us-east-1:s3"])
        .args(["--user", &format!("{ACCESS_KEY}:{SECRET_KEY}")])
        .arg(format!("{url}/{BUCKET}"))
        .status();
    made.unwrap_or_else(|error| panic!("curl: {error}")).success()
}
