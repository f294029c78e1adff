//! How much an object store is asked for.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use blobs::{CacheEvent, Cached, ObjectStore};
use bytes::Bytes;
use futures_util::stream;
use http::Method;
use metadata::Metadata;
use objects::memory::Memory;
use objects::{Attempt, Error, Found, Future, Objects, Opened, Page, PartRules};
use oci::{Digest, Reference, RepositoryName};
use registry::{Chunks, Config, ManifestPush, Registry};

/// A store that remembers what it was asked for.
#[derive(Debug, Default)]
struct Counted {
    store: Memory,
    asked: Mutex<Vec<&'static str>>,
}

impl Counted {
    fn note(&self, request: &'static str) {
        self.asked.lock().unwrap().push(request);
    }

    /// What it was asked for since the last time.
    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Objects for Counted {
    fn part_rules(&self) -> PartRules {
        self.store.part_rules()
    }

    fn put<'a>(&'a self, key: &'a str, content: Vec<Bytes>) -> Future<'a, Result<(), Error>> {
        self.note("put");
        self.store.put(key, content)
    }

    fn get<'a>(&'a self, key: &'a str, start: u64, end: u64) -> Future<'a, Result<Opened, Error>> {
        self.note("get");
        self.store.get(key, start, end)
    }

    fn find<'a>(&'a self, key: &'a str) -> Future<'a, Result<Option<Found>, Error>> {
        self.note("find");
        self.store.find(key)
    }

    fn delete<'a>(&'a self, key: &'a str) -> Future<'a, Result<(), Error>> {
        self.note("delete");
        self.store.delete(key)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        folders: bool,
        page: Option<String>,
    ) -> Future<'a, Result<Page, Error>> {
        self.note("list");
        self.store.list(prefix, folders, page)
    }

    fn begin<'a>(&'a self, key: &'a str) -> Future<'a, Result<String, Error>> {
        self.note("begin");
        self.store.begin(key)
    }

    fn part<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        number: usize,
        offset: u64,
        content: Vec<Bytes>,
    ) -> Future<'a, Result<String, Error>> {
        self.note("part");
        self.store.part(key, attempt, number, offset, content)
    }

    fn complete<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Future<'a, Result<(), Error>> {
        // The bytes after the parts are a part of their own.
        if !last.is_empty() {
            self.note("part");
        }
        self.note("complete");
        self.store.complete(key, attempt, parts, last)
    }

    fn abort<'a>(&'a self, key: &'a str, attempt: &'a str) -> Future<'a, Result<(), Error>> {
        self.note("abort");
        self.store.abort(key, attempt)
    }

    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        self.note("attempts");
        self.store.attempts(prefix)
    }

    fn signed_url<'a>(
        &'a self,
        method: Method,
        key: &'a str,
        valid: Duration,
    ) -> Future<'a, Result<Option<String>, Error>> {
        self.store.signed_url(method, key, valid)
    }
}

/// A request that brings all at once.
fn chunks(content: &[u8]) -> Chunks {
    Box::pin(stream::iter([Ok(Bytes::copy_from_slice(content))]))
}

/// As docker pushes: POST, PATCH, PUT.
async fn push_as_docker(
    registry: &Registry,
    repository: &RepositoryName,
    content: &[u8],
) -> Digest {
    let digest = Digest::sha256(content);
    let session = registry.begin_upload(repository, None).await.unwrap();
    let session = registry.append_upload(repository, &session.id, None, chunks(content)).await;
    let id = session.unwrap().id;
    registry.finish_upload(repository, &id, &digest, None, chunks(b"")).await.unwrap();
    digest
}

async fn pull(registry: &Registry, repository: &RepositoryName, digest: &Digest) -> Vec<u8> {
    let blob = registry.pull_blob(repository, digest).await.unwrap();
    registry.begin_blob(repository, digest, &blob.content, 0).await.unwrap();
    let mut all = Vec::new();
    while (all.len() as u64) < blob.size {
        all.extend_from_slice(&blob.content.read(all.len() as u64, 1 << 20).await.unwrap());
    }
    all
}

#[tokio::test]
async fn nothing_is_asked_twice() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::open_sqlite(&folder.path().join("db")).await.unwrap();
    let store = Arc::new(Counted::default());
    let blobs = ObjectStore::new(Arc::<Counted>::clone(&store), 10 << 20);
    let registry = Registry::new(metadata, Arc::new(blobs), Config::default());
    let (app, other) = ("team/app".parse().unwrap(), "team/other".parse().unwrap());
    // Whose links are to be taken over is asked for once.
    registry.stat_blob(&app, &Digest::sha256(b"none")).await.unwrap_err();
    store.asked();

    let small = push_as_docker(&registry, &app, b"a small blob").await;
    assert_eq!(store.asked(), ["put"]);
    let middle = vec![1; 14 << 20];
    push_as_docker(&registry, &app, &middle).await;
    assert_eq!(store.asked(), ["put"]);
    let large = (0..8_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
    let large_digest = push_as_docker(&registry, &app, &large).await;
    assert_eq!(store.asked(), ["begin", "part", "part", "part", "complete"]);
    let whole = Digest::sha256(b"in one request");
    registry.push_blob(&app, &whole, chunks(b"in one request")).await.unwrap();
    assert_eq!(store.asked(), ["put"]);

    // What is there already.
    registry.push_blob(&other, &whole, chunks(b"in one request")).await.unwrap();
    assert_eq!(store.asked(), ["find"]);
    push_as_docker(&registry, &other, b"a small blob").await;
    assert_eq!(store.asked(), ["put", "find", "delete"]);

    let reference: Reference = "v1".parse().unwrap();
    let config = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{small}",
        "size":12}},"layers":[]}}"#
    );
    let push = ManifestPush {
        repository: app.clone(),
        reference: reference.clone(),
        tags: Vec::new(),
        content_type: None,
        content: config.into(),
        preconditions: Vec::new(),
        classes: Vec::new(),
    };
    registry.push_manifest(push).await.unwrap();
    assert_eq!(store.asked(), ["put"]);

    registry.pull_manifest(&app, &reference).await.unwrap();
    registry.stat_blob(&app, &large_digest).await.unwrap();
    assert_eq!(store.asked(), [""; 0]);
    assert!(pull(&registry, &app, &large_digest).await == large);
    assert_eq!(store.asked(), ["get"]);
}

#[tokio::test]
async fn a_cache_asks_once() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::open_sqlite(&folder.path().join("db")).await.unwrap();
    let store = Arc::new(Counted::default());
    let blobs = Arc::new(ObjectStore::new(Arc::<Counted>::clone(&store), 10 << 20));
    let (ready, is_ready) = std::sync::mpsc::channel();
    let told = move |event| {
        if let CacheEvent::Holds(..) = event {
            let _ = ready.send(());
        }
    };
    let blobs = Cached::open(blobs, &folder.path().join("cache"), 1 << 30, told).unwrap();
    is_ready.recv().unwrap();
    let registry = Registry::new(metadata, Arc::new(blobs), Config::default());
    let app = "team/app".parse().unwrap();
    let content = vec![1; 14 << 20];
    let digest = push_as_docker(&registry, &app, &content).await;
    store.asked();
    for asked in [&["get"][..], &[], &[]] {
        assert!(pull(&registry, &app, &digest).await == content);
        assert_eq!(store.asked(), asked);
    }
}
