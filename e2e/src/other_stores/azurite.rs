//! Azurite, which speaks like Azure Blob Storage.

use anyhow::{Context as _, Result};
use data_encoding::{BASE64, HEXLOWER};

use super::{BUCKET, OtherStore, START_LIMIT};
use crate::ports::free_port;
use crate::scenario::{Stage, wait_until};

/// The account that Azurite always has, and its key.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const AZURITE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/npm/node_modules/.bin/azurite-blob");

impl OtherStore {
    /// One with an empty container.
    pub(crate) fn azurite(stage: &Stage) -> Result<Self> {
        let port = free_port()?.to_string();
        let data = stage.folder("azurite")?;
        let process = stage.daemon("azurite", AZURITE, |command| {
            command
                .args(["--blobHost", "127.0.0.1", "--blobPort", &port, "--silent"])
                .args(["--skipApiVersionCheck", "--disableTelemetry", "--location"])
                .arg(&data);
        })?;
        let url = format!("http://127.0.0.1:{port}/{ACCOUNT}");
        wait_until(START_LIMIT, || make_container(stage, &url))?;
        Ok(Self {
            _processes: vec![process],
            environment: vec![
                ("REGISTRY_STORAGE_AZURE_ACCOUNTNAME", ACCOUNT.to_owned()),
                ("REGISTRY_STORAGE_AZURE_ACCOUNTKEY", KEY.to_owned()),
                ("REGISTRY_STORAGE_AZURE_CONTAINER", BUCKET.to_owned()),
                ("REGISTRY_STORAGE_AZURE_SERVICEURL", url),
            ],
            folder: "REGISTRY_STORAGE_AZURE_ROOTDIRECTORY",
        })
    }
}

/// Azure has no simpler way to make a container than a signed request.
fn make_container(stage: &Stage, account: &str) -> Result<()> {
    let date = stage.client("date").args(["--utc", "+%a, %d %b %Y %H:%M:%S GMT"]).text()?;
    let headers = format!("x-ms-date:{date}\nx-ms-version:2021-08-06");
    let signed = format!(
        "PUT{}{headers}\n/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container",
        "\n".repeat(12)
    );
    let key = BASE64.decode(KEY.as_bytes()).context("the key of Azurite")?;
    let signature = stage
        .client("openssl")
        .args(["dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt"])
        .arg(format!("hexkey:{}", HEXLOWER.encode(&key)))
        .input(signed)
        .succeed()?
        .stdout;
    let authorization = format!("SharedKey {ACCOUNT}:{}", BASE64.encode(&signature));
    let mut curl = stage.client("curl").args(["--silent", "--fail", "--request", "PUT"]);
    for header in headers.lines().chain(["Content-Length: 0"]) {
        curl = curl.args(["--header", header]);
    }
    curl.args(["--header", &format!("Authorization: {authorization}")])
        .arg(format!("{account}/{BUCKET}?restype=container"))
        .succeed()?;
    Ok(())
}
