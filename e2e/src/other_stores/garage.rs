//! Garage, which speaks S3: another one than that of all scenarios, and written by others.

use anyhow::{Context as _, Result};

use super::{BUCKET, OtherStore, START_LIMIT};
use crate::ports::free_port;
use crate::process::Client;
use crate::scenario::{Stage, wait_until};

const REGION: &str = "garage";
const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
const SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

impl OtherStore {
    /// A single node with an empty bucket.
    pub(crate) fn garage(stage: &Stage) -> Result<Self> {
        let data = stage.folder("garage")?;
        let (rpc, s3, admin) = (free_port()?, free_port()?, free_port()?);
        let data = data.display();
        let config = format!(
            "metadata_dir = '{data}/meta'
data_dir = '{data}/data'
db_engine = 'sqlite'
replication_factor = 1
rpc_bind_addr = '127.0.0.1:{rpc}'
rpc_public_addr = '127.0.0.1:{rpc}'
rpc_secret = '{SECRET_KEY}'
[s3_api]
s3_region = '{REGION}'
api_bind_addr = '127.0.0.1:{s3}'
[admin]
api_bind_addr = '127.0.0.1:{admin}'
"
        );
        let config = stage.file("garage.toml", config)?;
        let garage = |arguments: &[&str]| -> Client<'_> {
            stage.client("garage").arg("-c").arg(&config).args(arguments)
        };
        let process = stage.daemon("garage", "garage", |command| {
            command.arg("-c").arg(&config).arg("server");
        })?;
        wait_until(START_LIMIT, || garage(&["status"]).succeed())?;
        let node = garage(&["node", "id", "-q"]).text()?;
        let node = node.get(..16).context("the id of the node")?;
        garage(&["layout", "assign", "-z", "here", "-c", "100G", node]).succeed()?;
        garage(&["layout", "apply", "--version", "1"]).succeed()?;
        garage(&["key", "import", "--yes", ACCESS_KEY, SECRET_KEY, "-n", BUCKET]).succeed()?;
        garage(&["bucket", "create", BUCKET]).succeed()?;
        let rights = ["--read", "--write", "--owner", BUCKET, "--key", BUCKET];
        garage(&["bucket", "allow"]).args(rights).succeed()?;
        Ok(Self {
            _processes: vec![process],
            environment: vec![
                ("REGISTRY_STORAGE_S3_BUCKET", BUCKET.to_owned()),
                ("REGISTRY_STORAGE_S3_REGION", REGION.to_owned()),
                ("REGISTRY_STORAGE_S3_REGIONENDPOINT", format!("http://127.0.0.1:{s3}")),
                ("REGISTRY_STORAGE_S3_ACCESSKEY", ACCESS_KEY.to_owned()),
                ("REGISTRY_STORAGE_S3_SECRETKEY", SECRET_KEY.to_owned()),
                ("REGISTRY_STORAGE_S3_SECURE", "false".to_owned()),
            ],
            folder: "REGISTRY_STORAGE_S3_ROOTDIRECTORY",
        })
    }
}
