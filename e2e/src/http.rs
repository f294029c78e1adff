//! Plain requests to the registry, for what no client sends and for judging
//! what clients left behind.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use ureq::http::Request;
use ureq::{Agent, AsSendBody};

use crate::image::media_type;

/// A connection pool to one registry.
pub(crate) struct Http {
    agent: Agent,
    base: String,
}

/// A response, read to its end.
pub(crate) struct Answer {
    request: String,
    status: u16,
    headers: ureq::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) fn new(host: &str, timeout: Duration) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(timeout))
            .build()
            .new_agent();
        Self { agent, base: format!("http://{host}") }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], ())
    }

    pub(crate) fn head(&self, path: &str) -> Result<Answer> {
        self.send("HEAD", path, &[], ())
    }

    /// A request to a path of the registry, or to a `Location` that it gave.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<Answer> {
        let mut response = self.open(method, path, headers, body)?;
        let answer = Answer {
            request: format!("{method} {path}"),
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response
                .body_mut()
                .with_config()
                .limit(u64::MAX)
                .read_to_vec()
                .with_context(|| format!("{method} {path}: the body broke off"))?,
        };
        Ok(answer)
    }

    fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<ureq::http::Response<ureq::Body>> {
        let url =
            if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() };
        let mut request = Request::builder().method(method).uri(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.agent.run(request.body(body)?).with_context(|| format!("{method} {path}: no answer"))
    }

    /// Reads a body without keeping it: its length and its sha256 digest.
    pub(crate) fn digest_of_body(&self, path: &str) -> Result<(u64, String)> {
        let mut response = self.open("GET", path, &[], ())?;
        ensure!(response.status() == 200, "GET {path}: expected 200, found {}", response.status());
        let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let (mut hash, mut length) = (Sha256::new(), 0_u64);
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = reader
                .read(&mut buffer)
                .with_context(|| format!("GET {path}: broke off after {length} bytes"))?;
            if count == 0 {
                return Ok((length, format!("sha256:{}", hex(&hash.finalize()))));
            }
            hash.update(buffer.get(..count).unwrap_or_default());
            length += count as u64;
        }
    }

    /// Pushes a blob the short way: POST, then one PUT with the bytes.
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> Result<String> {
        let digest = sha256(bytes);
        let location = self.open_upload(repository)?;
        self.send(
            "PUT",
            &with_query(&location, "digest", &digest),
            &[("content-type", "application/octet-stream")],
            bytes,
        )?
        .expect(201)?;
        Ok(digest)
    }

    /// Pushes an image of one layer. Its digest.
    pub(crate) fn push_image(&self, repository: &str, tag: &str, layer: &[u8]) -> Result<String> {
        let blob = |kind: &str, bytes: &[u8]| -> Result<Value> {
            let digest = self.push_blob(repository, bytes)?;
            Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": blob(media_type::OCI_CONFIG, b"{}")?,
            "layers": [blob(media_type::OCI_LAYER_GZIP, layer)?],
        });
        let bytes = manifest.to_string().into_bytes();
        self.put_manifest(repository, tag, media_type::OCI_MANIFEST, &bytes)?.expect(201)?;
        Ok(sha256(&bytes))
    }

    /// Opens an upload: the `Location` to send bytes to.
    pub(crate) fn open_upload(&self, repository: &str) -> Result<String> {
        self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[] as &[u8])?
            .expect(202)?
            .required_header("location")
    }

    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Answer> {
        self.send(
            "PUT",
            &format!("/v2/{repository}/manifests/{reference}"),
            &[("content-type", media_type)],
            bytes,
        )
    }

    /// A manifest as it was pushed, whatever its type.
    pub(crate) fn get_manifest(&self, repository: &str, reference: &str) -> Result<Answer> {
        let accept = media_type::MANIFESTS.join(", ");
        self.send(
            "GET",
            &format!("/v2/{repository}/manifests/{reference}"),
            &[("accept", &accept)],
            (),
        )?
        .expect(200)
    }

    /// The digest of what a tag names: that of the bytes, which the header
    /// must confirm.
    pub(crate) fn digest_of(&self, repository: &str, reference: &str) -> Result<String> {
        let answer = self.get_manifest(repository, reference)?;
        let named = answer.required_header("docker-content-digest")?;
        let found = digest_like(&named, &answer.body)?;
        ensure!(
            found == named,
            "{}: Docker-Content-Digest is {named}, but the bytes are {found}",
            answer.request
        );
        Ok(named)
    }

    /// Fetches a manifest and everything that it names (children, config,
    /// layers without `urls`) and compares every byte with its digest. The
    /// number of blobs that were read.
    pub(crate) fn read_whole(&self, repository: &str, reference: &str) -> Result<usize> {
        let mut blobs = BTreeSet::new();
        self.read_manifests(repository, reference, &mut blobs)?;
        for (digest, size) in &blobs {
            let blob = self.get(&format!("/v2/{repository}/blobs/{digest}"))?.expect(200)?;
            ensure!(
                blob.body.len() as u64 == *size,
                "{}: the manifest says {size} bytes, found {}",
                blob.request,
                blob.body.len()
            );
            let found = digest_like(digest, &blob.body)?;
            ensure!(found == *digest, "{}: the bytes are {found}", blob.request);
        }
        Ok(blobs.len())
    }

    fn read_manifests(
        &self,
        repository: &str,
        reference: &str,
        blobs: &mut BTreeSet<(String, u64)>,
    ) -> Result<()> {
        self.digest_of(repository, reference)?;
        let manifest = self.get_manifest(repository, reference)?.json()?;
        for child in array(&manifest, "manifests") {
            self.read_manifests(repository, text(child, "digest")?, blobs)?;
        }
        let layers = array(&manifest, "layers").iter();
        for blob in layers.chain(manifest.get("config")) {
            if blob.get("urls").is_none() {
                let size = blob.get("size").and_then(Value::as_u64);
                blobs.insert((text(blob, "digest")?.to_owned(), size.context("no size")?));
            }
        }
        Ok(())
    }

    /// The tags of a repository, all on one page.
    pub(crate) fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let list = self.get(&format!("/v2/{repository}/tags/list"))?.expect(200)?.json()?;
        Ok(array(&list, "tags").iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn required_header(&self, name: &str) -> Result<String> {
        match self.header(name) {
            Some(value) => Ok(value.to_owned()),
            None => bail!("{}: no {name} header{}", self.request, self.said()),
        }
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: not JSON{}", self.request, self.said()))
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Whether a client is to try again: the fault is not its own, or the answer says so.
    pub(crate) fn is_temporary(&self) -> bool {
        self.status >= 500 || self.status == 429 || self.header("retry-after").is_some()
    }

    /// The answer as an error.
    pub(crate) fn unexpected(&self) -> anyhow::Error {
        anyhow::anyhow!("{}: found{}", self.request, self.said())
    }

    pub(crate) fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{}: expected {status}, found{}", self.request, self.said());
        Ok(self)
    }

    fn said(&self) -> String {
        let mut text = format!(" {}", self.status);
        for (name, value) in &self.headers {
            let _ = write!(text, "\n      {name}: {}", value.to_str().unwrap_or("?"));
        }
        let body = self.body.get(..self.body.len().min(2000));
        let body = String::from_utf8_lossy(body.unwrap_or_default());
        let _ = write!(text, "\n      {body}");
        text
    }
}

/// A URL with one more parameter, kept beside those that it has.
pub(crate) fn with_query(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={value}")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

pub(crate) fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

/// The digest of these bytes, by the algorithm of a given one.
fn digest_like(digest: &str, bytes: &[u8]) -> Result<String> {
    match digest.split_once(':') {
        Some(("sha256", _)) => Ok(sha256(bytes)),
        Some(("sha512", _)) => Ok(sha512(bytes)),
        _ => bail!("not a digest: {digest:?}"),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A list in a JSON object; what is absent or null is empty.
pub(crate) fn array<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text in a JSON object, which must be there.
pub(crate) fn text<'a>(object: &'a Value, name: &str) -> Result<&'a str> {
    object
        .get(name)
        .and_then(Value::as_str)
        .with_context(|| format!("no text {name:?} in {object}"))
}
