//! A registry of its own for each test, and readable ways to talk to it.
//!
//! [`TestRegistry`] answers requests in process. What needs a socket is in [`socket`].

// Each test binary uses a part of this.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod answer;
mod body;
pub mod http2;
pub mod images;
mod random;
pub mod socket;

use std::path::PathBuf;
use std::sync::Arc;

use blobs::FileSystem;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use metadata::Metadata;
use registry::Registry;
use tempfile::TempDir;
use web::{Metrics, RequestBody, Service};

pub use answer::Answer;
pub use body::{Sender, live_body};
pub use random::Random;

/// The digest of some content, as text.
pub fn sha256(content: &[u8]) -> String {
    oci::Digest::sha256(content).to_string()
}

/// The same, sha512.
pub fn sha512(content: &[u8]) -> String {
    oci::Digest::sha512(content).to_string()
}

/// A registry in a temporary folder, which goes with it.
pub struct TestRegistry {
    pub service: Service,
    pub registry: Registry,
    folder: TempDir,
}

impl TestRegistry {
    pub async fn new() -> Self {
        Self::with(registry::Config::default(), |_| {}).await
    }

    /// One with other rules, or another face on the wire.
    pub async fn with(rules: registry::Config, configure: impl FnOnce(&mut web::Config)) -> Self {
        let folder = temporary_folder();
        let store = FileSystem::open(folder.path()).unwrap();
        let metadata = Metadata::open_sqlite(&folder.path().join("metadata.sqlite")).await.unwrap();
        let registry = Registry::new(metadata, Arc::new(store), rules);
        let mut config = web::Config::new(None, true);
        configure(&mut config);
        let service = Service::new(registry.clone(), config, Metrics::default());
        Self { service, registry, folder }
    }

    /// Begins a request.
    pub fn request(&self, method: Method, target: impl Into<String>) -> TestRequest {
        TestRequest {
            service: self.service.clone(),
            method,
            target: target.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub async fn get(&self, target: impl Into<String>) -> Answer {
        self.request(Method::GET, target).send().await
    }

    pub async fn head(&self, target: impl Into<String>) -> Answer {
        self.request(Method::HEAD, target).send().await
    }

    pub async fn delete(&self, target: impl Into<String>) -> Answer {
        self.request(Method::DELETE, target).send().await
    }

    /// Pushes a blob in one request and returns its digest.
    pub async fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = sha256(content);
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.request(Method::POST, target).body(content.to_vec()).send().await.expect(201);
        digest
    }

    /// Opens an upload session and returns its URL.
    pub async fn begin_upload(&self, repository: &str) -> String {
        let target = format!("/v2/{repository}/blobs/uploads/");
        let answer = self.request(Method::POST, target).send().await.expect(202);
        answer.header("location").to_owned()
    }

    /// Puts a manifest and returns its sha256 digest. What it names must be there.
    pub async fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &str,
    ) -> String {
        self.put_manifest(repository, reference, media_type, manifest).await.expect(201);
        sha256(manifest.as_bytes())
    }

    /// Puts a manifest and returns what the registry says to that.
    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &str,
    ) -> Answer {
        self.request(Method::PUT, format!("/v2/{repository}/manifests/{reference}"))
            .header("content-type", media_type)
            .body(manifest.to_owned())
            .send()
            .await
    }

    /// Pushes a small OCI image under a tag, with all that belongs to it; `seed` makes it
    /// different from others. Returns its digest.
    pub async fn push_image(&self, repository: &str, tag: &str, seed: &str) -> String {
        let manifest = self.push_image_parts(repository, seed).await;
        self.push_manifest(repository, tag, oci::media_type::OCI_MANIFEST, &manifest).await
    }

    /// Pushes the configuration and the layer of a small image and returns its manifest.
    pub async fn push_image_parts(&self, repository: &str, seed: &str) -> String {
        let config = format!("{{\"seed\":{seed:?}}}");
        let layer = format!("layer of {seed}");
        self.push_blob(repository, config.as_bytes()).await;
        self.push_blob(repository, layer.as_bytes()).await;
        images::image(config.as_bytes(), &[layer.as_bytes()])
    }

    /// The file that holds a blob.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let (algorithm, hex) = digest.split_once(':').unwrap();
        let blobs = self.folder.path().join("docker/registry/v2/blobs");
        blobs.join(algorithm).join(&hex[..2]).join(hex).join("data")
    }

    /// The files of uploads under way.
    pub fn upload_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("orlop/uploads")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// A folder in memory where there is such a thing: what these tests assert does not depend on the
/// disk, and waiting for it takes nearly all of their time.
fn temporary_folder() -> TempDir {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("orlop-test-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap()
}

/// A request on its way.
pub struct TestRequest {
    service: Service,
    method: Method,
    target: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<RequestBodySource>,
}

enum RequestBodySource {
    Whole(Bytes),
    Live(body::LiveBody),
}

impl TestRequest {
    /// Adds a header; the same one may be added several times.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::try_from(name).unwrap();
        self.headers.push((name, HeaderValue::from_bytes(value.as_ref()).unwrap()));
        self
    }

    /// Sets a body, whose length is announced.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(RequestBodySource::Whole(body.into()));
        self
    }

    /// Sets a body that comes bit by bit, its length not announced.
    #[must_use]
    pub fn live_body(mut self, body: body::LiveBody) -> Self {
        self.body = Some(RequestBodySource::Live(body));
        self
    }

    /// Sends it, and checks what holds for every answer.
    pub async fn send(self) -> Answer {
        let mut head = Request::builder().method(self.method.clone()).uri(self.target.as_str());
        head = head.header("host", "registry.test");
        for (name, value) in self.headers {
            head = head.header(name, value);
        }
        if let Some(RequestBodySource::Whole(body)) = &self.body
            && !head.headers_ref().unwrap().contains_key("content-length")
        {
            head = head.header("content-length", body.len());
        }
        let (parts, ()) = head.body(()).unwrap().into_parts();
        let body = match self.body {
            None => RequestBody::new(&parts.headers, Full::<Bytes>::default()),
            Some(RequestBodySource::Whole(body)) => {
                RequestBody::new(&parts.headers, Full::new(body))
            }
            Some(RequestBodySource::Live(body)) => RequestBody::new(&parts.headers, body),
        };
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 12345));
        let response = self.service.handle(parts, body, peer.into()).await;
        Answer::collect(format!("{} {}", self.method, self.target), response).await.checked()
    }

    /// Sends it while the test goes on.
    pub fn spawn(self) -> tokio::task::JoinHandle<Answer> {
        tokio::spawn(self.send())
    }
}
