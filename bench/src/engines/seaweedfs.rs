//! `SeaweedFS`, an object store that speaks S3, in one process.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use serde_json::json;

use super::{Bucket, run, wait_until};
use crate::daemon::{Daemon, free_addresses};

pub(crate) const ACCESS_KEY: &str = "AKBENCH";
pub(crate) const SECRET_KEY: &str = "secret-of-the-bench";
pub(crate) const BUCKET: &str = "registry";
pub(crate) const REGION: &str = "us-east-1";

pub(super) struct SeaweedFs {
    endpoint: String,
    daemon: Daemon,
}

impl SeaweedFs {
    /// With an empty bucket.
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let identities = json!({"identities": [{
            "name": "bench",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List"],
        }]});
        let config = folder.join("seaweedfs.json");
        fs::write(&config, identities.to_string())?;
        let data = folder.join("seaweedfs");
        fs::create_dir(&data)?;
        let log = File::create(folder.join("seaweedfs.log"))?;

        let mut server = Command::new(program);
        server
            .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-volume.max=80"])
            .args(["-master.volumeSizeLimitMB=256", "-master.telemetry=false"])
            // These would be the same for every server of a machine.
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-s3.config={}", config.display()))
            .current_dir(&data);
        let addresses = free_addresses::<8>()?;
        let flags = ["master", "volume", "filer", "s3"];
        let flags = flags.map(|part| [format!("{part}.port"), format!("{part}.port.grpc")]);
        for (flag, address) in flags.iter().flatten().zip(addresses) {
            server.arg(format!("-{flag}={}", address.port()));
        }
        server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let daemon = Daemon::start(server)?;
        let endpoint = format!("http://{}", addresses[6]);
        let store = Self { endpoint, daemon };
        wait_until(|| store.make_bucket())?;
        Ok(store)
    }

    pub(super) fn folder(&self, folder: String) -> Bucket {
        Bucket { endpoint: self.endpoint.clone(), folder, process: self.daemon.id() }
    }

    fn make_bucket(&self) -> Result<()> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--request", "PUT"])
            .args(["--aws-sigv4", &format!("aws:amz:{REGION}:s3")])
            .args(["--user", &format!("{ACCESS_KEY}:{SECRET_KEY}")])
            .arg(format!("{}/{BUCKET}", self.endpoint));
        run(&mut curl)
    }
}
