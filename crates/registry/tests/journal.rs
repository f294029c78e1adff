//! Small content is in the database until the store has synced it.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blobs::{Blobs, FileSystem};
use bytes::Bytes;
use futures_util::stream;
use metadata::Metadata;
use oci::Digest;
use registry::{Config, Registry};

async fn open(folder: &Path) -> Registry {
    let blobs = FileSystem::open(folder).unwrap();
    let metadata = Metadata::open_sqlite(&folder.join("db")).await.unwrap();
    Registry::new(metadata, Arc::new(blobs), Config { deletes: true, ..Config::default() })
}

async fn push(registry: &Registry, content: &'static [u8]) -> Digest {
    let digest = Digest::sha256(content);
    let chunks = Box::pin(stream::iter([Ok(Bytes::from_static(content))]));
    registry.push_blob(&"app".parse().unwrap(), &digest, chunks).await.unwrap();
    digest
}

/// Where `syncfs(2)` can not be relied on nothing is ever left for later.
async fn syncs_later(folder: &Path) -> bool {
    let store = FileSystem::open(folder).unwrap();
    let content = Bytes::from_static(b"probe");
    store.put(&Digest::sha256(&content), content).await.unwrap().unsynced.is_some()
}

/// A request that brings all at once.
fn data(folder: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    let (shard, _) = hex.split_at(2);
    folder.join(format!("docker/registry/v2/blobs/sha256/{shard}/{hex}/data"))
}

#[tokio::test]
async fn what_the_disk_has_lost_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    if !syncs_later(folder.path()).await {
        return;
    }
    let registry = open(folder.path()).await;
    let lost = push(&registry, b"lost").await;
    let torn = push(&registry, b"torn").await;
    let whole = push(&registry, b"whole").await;
    std::fs::remove_dir_all(data(folder.path(), &lost).parent().unwrap()).unwrap();
    std::fs::write(data(folder.path(), &torn), b"t\0\0n").unwrap();
    let found = registry.check(false, |_| {}).await.unwrap();
    assert!(found.findings.is_empty(), "it is not lost: {:?}", found.findings);
    drop(registry);

    let registry = open(folder.path()).await;
    assert_eq!(registry.replay_journal().await.unwrap(), 3);
    for (digest, content) in [(lost, "lost"), (torn, "torn"), (whole, "whole")] {
        assert_eq!(std::fs::read(data(folder.path(), &digest)).unwrap(), content.as_bytes());
    }
}

#[tokio::test]
async fn what_is_synced_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    if !syncs_later(folder.path()).await {
        return;
    }
    let registry = open(folder.path()).await;
    push(&registry, b"one").await;
    let two = push(&registry, b"two").await;
    assert_eq!(registry.trim_journal().await.unwrap(), 2);
    assert_eq!(registry.trim_journal().await.unwrap(), 0);
    std::fs::remove_file(data(folder.path(), &two)).unwrap();
    assert_eq!(registry.replay_journal().await.unwrap(), 0);
    let found = registry.check(false, |_| {}).await.unwrap();
    assert_eq!(found.findings.len(), 1, "now it is lost");
}

#[tokio::test]
async fn what_was_collected_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    let digest = push(&registry, b"unwanted").await;
    registry.delete_blob(&"app".parse().unwrap(), &digest).await.unwrap();
    registry.collect_garbage(false, false).await.unwrap();
    assert!(!data(folder.path(), &digest).exists());
    assert_eq!(registry.replay_journal().await.unwrap(), 0);
    assert!(!data(folder.path(), &digest).exists());
}
