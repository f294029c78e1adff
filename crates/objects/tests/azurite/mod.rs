//! Azurite, on a free port of this machine, for as long as a test needs it.

#![expect(clippy::unwrap_used, reason = "tests fail so")]

use std::process::Command;

use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};

use crate::server::{Server, free_ports};

/// The account that it always has.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
/// That account's key, which is the same everywhere.
pub(crate) const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
pub(crate) const CONTAINER: &str = "registry";

/// A server, which ends with this.
pub(crate) struct Azurite {
    port: u16,
    server: Server,
    _folder: tempfile::TempDir,
}

impl Azurite {
    /// Starts a server with an empty container.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port] = free_ports();
        let server = Server::start("azurite-blob", folder.path(), |command| {
            command
                .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
                .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location"])
                .arg(folder.path())
        });
        let mut azurite = Self { port, server, _folder: folder };
        let url = azurite.url();
        azurite.server.wait_until(|| make_container(&url));
        azurite
    }

    /// Where the account is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }
}

fn make_container(account: &str) -> bool {
    let url = format!("{account}/{CONTAINER}?restype=container");
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = http::Method::PUT;
    *request.uri_mut() = url.parse().unwrap();
    let key = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
    AzureAuthorizer::new(&key, ACCOUNT).try_authorize(&mut request).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--request", "PUT", "--header", "Content-Length: 0"]);
    for (name, value) in request.headers() {
        curl.arg("--header").arg(format!("{name}: {}", value.to_str().unwrap()));
    }
    let made = curl.arg(url).status();
    made.unwrap_or_else(|error| panic!("curl: {error}")).success()
}
