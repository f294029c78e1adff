//! `SeaweedFS`, an object store that speaks S3, in one process.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::ports::free_ports;
use crate::process::Daemon;
use crate::scenario::{Stage, wait_until};

const ACCESS_KEY: &str = "AKTEST";
const SECRET_KEY: &str = "secret-of-the-test";
const BUCKET: &str = "registry";

const START_LIMIT: Duration = Duration::from_mins(1);

/// A server with an empty bucket. It ends with this.
pub(crate) struct SeaweedFs {
    process: Daemon,
    /// Of master, volume server, filer and S3.
    ports: [u16; 4],
    bucket: Bucket,
}

impl SeaweedFs {
    pub(crate) fn start(stage: &Stage) -> Result<Self> {
        let config = identities(stage)?;
        let data = stage.folder("seaweedfs")?;
        let ports = free_ports()?;
        let [master, volume, filer, port] = ports;
        let process = stage.daemon("weed", "weed", |command| {
            command
                .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-volume.max=40"])
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
                .current_dir(&data);
        })?;
        let bucket = Bucket { url: format!("http://127.0.0.1:{port}") };
        wait_until(START_LIMIT, || bucket.make(stage))?;
        Ok(Self { process, ports, bucket })
    }

    /// What a registry needs to keep its content in a folder of the bucket.
    pub(crate) fn environment(&self, folder: &str) -> Vec<(&'static str, String)> {
        self.bucket.environment(folder)
    }

    /// Does something while it answers nobody.
    pub(crate) fn while_paused<T>(&self, play: impl FnOnce() -> Result<T>) -> Result<T> {
        self.process.signal(Signal::STOP)?;
        let played = play();
        self.process.signal(Signal::CONT)?;
        played
    }

    /// `127.0.0.1:PORT`, where it speaks S3.
    pub(crate) fn host(&self) -> &str {
        self.bucket.url.trim_start_matches("http://")
    }
}

impl Drop for SeaweedFs {
    /// Asked to end, it takes half a minute. It has sockets that no option places elsewhere.
    fn drop(&mut self) {
        let _ = self.process.kill();
        for (part, port) in ["master", "volume", "filer", "s3"].into_iter().zip(self.ports) {
            let socket = format!("/tmp/seaweedfs-{part}-grpc-{}.sock", port + 10_000);
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// The file that says who may use a server.
pub(crate) fn identities(stage: &Stage) -> Result<PathBuf> {
    let identities = serde_json::json!({"identities": [{
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }]});
    stage.file("seaweedfs.json", identities.to_string())
}

/// The bucket of the server at a URL.
pub(crate) struct Bucket {
    pub(crate) url: String,
}

impl Bucket {
    /// What a registry needs to keep its content in a folder of the bucket.
    pub(crate) fn environment(&self, folder: &str) -> Vec<(&'static str, String)> {
        vec![
            ("REGISTRY_STORAGE_S3_BUCKET", BUCKET.to_owned()),
            ("REGISTRY_STORAGE_S3_REGION", "us-east-1".to_owned()),
            ("REGISTRY_STORAGE_S3_REGIONENDPOINT", self.url.clone()),
            ("REGISTRY_STORAGE_S3_ACCESSKEY", ACCESS_KEY.to_owned()),
            ("REGISTRY_STORAGE_S3_SECRETKEY", SECRET_KEY.to_owned()),
            ("REGISTRY_STORAGE_S3_SECURE", "false".to_owned()),
            ("REGISTRY_STORAGE_S3_ROOTDIRECTORY", format!("/{folder}")),
        ]
    }

    pub(crate) fn make(&self, stage: &Stage) -> Result<()> {
        let curl = stage.client("curl").args(["--silent", "--fail", "--request", "PUT"]);
        curl.args(["--aws-sigv4", "aws:amz:us-east-1:s3"])
            .args(["--user", &format!("{ACCESS_KEY}:{SECRET_KEY}")])
            .arg(format!("{}/{BUCKET}", self.url))
            .succeed()?;
        Ok(())
    }
}
