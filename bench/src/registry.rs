//! What a client of a registry does: push blobs in the three ways of the protocol, and manifests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde_json::json;

use crate::content::{Content, digest_of};
use crate::http::{Client, Request, Response, Sink};

/// What container clients accept. Without the OCI type docker-registry answers 404.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

/// How the bytes of a blob are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    /// POST, then PUT with the whole body.
    Monolithic,
    /// POST, one PATCH in chunked encoding of 32 KiB chunks, PUT without a body, as dockerd does.
    Stream,
    /// POST, a PATCH with `Content-Range` for every 5 MiB, PUT without a body.
    Chunked,
}

const MONOLITHIC_PIECE: usize = 256 * 1024;
const STREAM_CHUNK: usize = 32 * 1024;
const PATCH: usize = 5 * 1024 * 1024;

/// A blob whose digest is known.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) content: Content,
    pub(crate) digest: String,
}

impl Blob {
    pub(crate) fn new(label: &str, length: u64) -> Self {
        let content = Content::new(label, length);
        let digest = content.digest();
        Self { content, digest }
    }
}

/// Blobs by label: hashing a large one takes seconds, and every server is pushed the same.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<HashMap<String, Blob>>);

impl Shelf {
    /// The blob of [`Blob::new`], from an earlier call with this label if there was one.
    pub(crate) fn blob(&self, label: String, length: u64) -> Blob {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.entry(label).or_insert_with_key(|label| Blob::new(label, length)).clone()
    }
}

/// Pushes a blob; returns its length in bytes.
pub(crate) fn push(
    client: &mut Client,
    repository: &str,
    blob: &Blob,
    upload: Upload,
) -> anyhow::Result<u64> {
    let session = open_upload(client, repository)?;
    match upload {
        Upload::Monolithic => push_monolithic(client, &session, blob),
        Upload::Stream => push_stream(client, &session, blob),
        Upload::Chunked => push_chunked(client, &session, blob),
    }
    .with_context(|| format!("pushing {}", blob.digest))?;
    Ok(blob.content.length())
}

/// Pushes a blob that is in memory: POST, then PUT with the body in the same write as the head.
pub(crate) fn push_bytes(
    client: &mut Client,
    repository: &str,
    digest: &str,
    bytes: &[u8],
) -> anyhow::Result<u64> {
    let session = open_upload(client, repository)?;
    let target = closing(&session, digest);
    let put = Request::with_body("PUT", client.address(), &target, &[OCTETS], bytes);
    client.send(&put, Sink::Discard)?.expect(201, "PUT of a small blob")?;
    Ok(bytes.len() as u64)
}

/// The request that puts a manifest at a tag or digest.
pub(crate) fn manifest_put(
    address: SocketAddr,
    repository: &str,
    reference: &str,
    manifest: &[u8],
) -> Request {
    put_of(address, repository, reference, MANIFEST_TYPE, manifest)
}

/// The request that puts an index at a tag or digest.
pub(crate) fn index_put(
    address: SocketAddr,
    repository: &str,
    reference: &str,
    index: &[u8],
) -> Request {
    put_of(address, repository, reference, INDEX_TYPE, index)
}

/// An image manifest; `note` makes it differ from others.
pub(crate) fn manifest(config: (&str, usize), layers: &[Blob], note: &str) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": layer.digest,
                "size": layer.content.length(),
            })
        })
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.0,
            "size": config.1,
        },
        "layers": layers,
        "annotations": { "note": note },
    })
    .to_string()
    .into_bytes()
}

/// An index that lists nothing: a repository can hold it without any blob.
pub(crate) fn empty_index() -> Vec<u8> {
    json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [] }).to_string().into_bytes()
}

/// The bytes and digest of an image configuration.
pub(crate) fn config() -> (Vec<u8>, String) {
    let bytes = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [] },
    })
    .to_string()
    .into_bytes();
    let digest = digest_of(&bytes);
    (bytes, digest)
}

fn put_of(
    address: SocketAddr,
    repository: &str,
    reference: &str,
    media_type: &str,
    bytes: &[u8],
) -> Request {
    let target = format!("/v2/{repository}/manifests/{reference}");
    Request::with_body("PUT", address, &target, &[("Content-Type", media_type)], bytes)
}

fn open_upload(client: &mut Client, repository: &str) -> anyhow::Result<String> {
    let target = format!("/v2/{repository}/blobs/uploads/");
    let post = Request::with_body("POST", client.address(), &target, &[], &[]);
    let response = client.send(&post, Sink::Discard)?.expect(202, "POST of an upload")?;
    next_target(response)
}

fn push_monolithic(client: &mut Client, session: &str, blob: &Blob) -> anyhow::Result<()> {
    let length = blob.content.length().to_string();
    let headers = [OCTETS, ("Content-Length", length.as_str())];
    let target = closing(session, &blob.digest);
    let put = Request::new("PUT", client.address(), &target, &headers);
    client.begin(&put)?;
    blob.content.for_each_piece(&mut vec![0; MONOLITHIC_PIECE], |piece| client.write(piece))?;
    client.finish(&put, Sink::Discard)?.expect(201, "PUT of a blob")?;
    Ok(())
}

fn push_stream(client: &mut Client, session: &str, blob: &Blob) -> anyhow::Result<()> {
    let headers = [("Transfer-Encoding", "chunked")];
    let patch = Request::new("PATCH", client.address(), session, &headers);
    client.begin(&patch)?;
    let mut framed = Vec::with_capacity(STREAM_CHUNK + 16);
    blob.content.for_each_piece(&mut vec![0; STREAM_CHUNK], |chunk| {
        framed.clear();
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
        client.write(&framed)
    })?;
    client.write(b"0\r\n\r\n")?;
    let response = client.finish(&patch, Sink::Discard)?.expect(202, "PATCH of a stream")?;
    close(client, &next_target(response)?, &blob.digest)
}

fn push_chunked(client: &mut Client, session: &str, blob: &Blob) -> anyhow::Result<()> {
    let mut session = session.to_owned();
    let mut offset = 0;
    blob.content.for_each_piece(&mut vec![0; PATCH], |piece| {
        let length = piece.len().to_string();
        let end = offset + piece.len() as u64;
        let range = format!("{offset}-{}", end.saturating_sub(1));
        let headers = [OCTETS, ("Content-Range", &range), ("Content-Length", &length)];
        let patch = Request::new("PATCH", client.address(), &session, &headers);
        client.begin(&patch)?;
        client.write(piece)?;
        let response = client.finish(&patch, Sink::Discard)?.expect(202, "PATCH of a chunk")?;
        session = next_target(response)?;
        offset = end;
        anyhow::Ok(())
    })?;
    close(client, &session, &blob.digest)
}

fn close(client: &mut Client, session: &str, digest: &str) -> anyhow::Result<()> {
    let put = Request::with_body("PUT", client.address(), &closing(session, digest), &[], &[]);
    client.send(&put, Sink::Discard)?.expect(201, "PUT that ends an upload")?;
    Ok(())
}

/// The session's URL with the digest added to its query.
fn closing(session: &str, digest: &str) -> String {
    let separator = if session.contains('?') { '&' } else { '?' };
    format!("{session}{separator}digest={digest}")
}

/// Path and query of `Location`, which may be absolute.
fn next_target(response: Response) -> anyhow::Result<String> {
    let location = response.location.context("an upload answer without Location")?;
    let path = location
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').and_then(|slash| rest.get(slash..)));
    Ok(path.map(str::to_owned).unwrap_or(location))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(location: &str) -> String {
        let response = Response { location: Some(location.to_owned()), ..Response::default() };
        next_target(response).unwrap()
    }

    #[test]
    fn locations_may_be_absolute_or_relative() {
        assert_eq!(
            at("http://127.0.0.1:5000/v2/a/blobs/uploads/1?s=2"),
            "/v2/a/blobs/uploads/1?s=2"
        );
        assert_eq!(at("/v2/a/blobs/uploads/1"), "/v2/a/blobs/uploads/1");
    }

    #[test]
    fn the_digest_joins_the_query() {
        assert_eq!(closing("/u/1?s=2", "sha256:0"), "/u/1?s=2&digest=sha256:0");
        assert_eq!(closing("/u/1", "sha256:0"), "/u/1?digest=sha256:0");
    }
}
