//! Bytes of a connection, as the server reads them: HTTP/1, or HTTP/2 if they begin so. No client
//! gets an answer that blames the server, and none is left without an end.
#![no_main]

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use blobs::FileSystem;
use libfuzzer_sys::fuzz_target;
use metadata::Metadata;
use net::Listener;
use net::proxies::Trusted;
use oci::Digest;
use registry::Registry;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use web::server::{Protocols, Shutdown, serve};
use web::{Metrics, Service};

/// Far more than any answer takes.
const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    runtime: Runtime,
    address: SocketAddr,
    _shutdown: Shutdown,
    _folder: TempDir,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (address, shutdown) = runtime.block_on(async {
        let store = FileSystem::open(folder.path()).unwrap();
        let database = folder.path().join("metadata.sqlite");
        let metadata = Metadata::open_sqlite(&database).await.unwrap();
        let registry = Registry::new(metadata, Arc::new(store), registry::Config::default());
        let mut config = web::Config::new(None, true);
        config.trusted_proxies = Trusted::parse(["127.0.0.1"]).unwrap();
        let service = Service::new(registry, config, Metrics::default());
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let protocols = Protocols { tls: None, h2c: true };
        let shutdown = Shutdown::default();
        tokio::spawn(serve(listener, protocols, service, Metrics::default(), shutdown.ending()));
        (address, shutdown)
    });
    let server = Server { runtime, address, _shutdown: shutdown, _folder: folder };
    server.push("POST", &format!("a/blobs/uploads/?digest={}", Digest::sha256(b"{}")), "{}");
    let config = Digest::sha256(b"{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
    );
    server.push("PUT", "a/manifests/v1", &manifest);
    server
});

fuzz_target!(|bytes: &[u8]| {
    let answer = SERVER.exchange(bytes);
    if answer.starts_with(b"HTTP/1.") {
        assert!(answer[9] < b'5', "{}", answer.escape_ascii());
    }
});

impl Server {
    /// What the server says to `bytes` until it closes the connection.
    fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        self.runtime.block_on(async {
            let mut answer = Vec::new();
            let talk = async {
                let mut stream = TcpStream::connect(self.address).await.unwrap();
                // It may have heard enough before it has heard all.
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut answer).await;
            };
            tokio::time::timeout(DEADLINE, talk).await.expect("the server hangs");
            answer
        })
    }

    fn push(&self, method: &str, path: &str, body: &str) {
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let length = body.len();
        let answer = self.exchange(
            format!(
                "{method} /v2/{path} HTTP/1.1\r\nhost: a\r\ncontent-type: {media_type}\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        assert!(answer.starts_with(b"HTTP/1.1 201 "), "{}", answer.escape_ascii());
    }
}
