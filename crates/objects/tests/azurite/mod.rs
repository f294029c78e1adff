//! Azurite, on a free port of this machine, for as long as a test needs it.

#![expect(clippy::unwrap_used, reason = "tests fail so")]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};

/// The account that it always has.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
/// That account's key, which is the same everywhere.
pub(crate) const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
pub(crate) const CONTAINER: &str = "registry";

/// A server, which ends with this.
pub(crate) struct Azurite {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Azurite {
    /// Starts a server with an empty container.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let port = free_port();
        let process = Command::new(program())
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location"])
            .arg(folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program().display()));
        let mut server = Self { process, port, folder };
        server.wait_for_container();
        server
    }

    /// Where the account is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    fn wait_for_container(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.make_container() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(self.process.try_wait().unwrap().is_none(), "it ended: {log}");
            assert!(Instant::now() < deadline, "it does not start: {log}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn make_container(&self) -> bool {
        let url = format!("{}/{CONTAINER}?restype=container", self.url());
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
}

impl Drop for Azurite {
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
    root.join("../../e2e/.tools/npm/node_modules/.bin/azurite-blob")
}
