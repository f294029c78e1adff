//! `fake-gcs-server`, which speaks like Google Cloud Storage.

use anyhow::Result;

use super::{BUCKET, OtherStore, START_LIMIT};
use crate::ports::free_port;
use crate::scenario::{Stage, wait_until};

impl OtherStore {
    /// One with an empty bucket.
    pub(crate) fn fake_gcs(stage: &Stage) -> Result<Self> {
        let port = free_port()?.to_string();
        let place = format!("127.0.0.1:{port}");
        let process = stage.daemon("fake-gcs", "fake-gcs-server", |command| {
            command
                .args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port])
                .args(["-backend", "memory", "-public-host", &place])
                .args(["-external-url", &format!("http://{place}")]);
        })?;
        wait_until(START_LIMIT, || {
            let curl = stage.client("curl").args(["--silent", "--fail"]);
            curl.args(["--header", "Content-Type: application/json", "--data"])
                .arg(serde_json::json!({"name": BUCKET}).to_string())
                .arg(format!("http://{place}/storage/v1/b?project=test"))
                .succeed()
        })?;
        Ok(Self {
            _processes: vec![process],
            environment: vec![
                ("STORAGE_EMULATOR_HOST", place),
                ("REGISTRY_STORAGE_GCS_BUCKET", BUCKET.to_owned()),
            ],
            folder: "REGISTRY_STORAGE_GCS_ROOTDIRECTORY",
        })
    }
}
