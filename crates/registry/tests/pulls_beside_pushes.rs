//! What pulls see while a tag moves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blobs::FileSystem;
use metadata::Metadata;
use oci::{Digest, Reference};
use registry::{Children, Config, ManifestPush, Registry};

fn manifest(number: u64) -> String {
    let empty = Digest::sha256(b"{}");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{empty}","size":2}},"layers":[],"annotations":{{"number":"{number}"}}}}"#
    )
}

fn number_of(content: &[u8]) -> u64 {
    let text = std::str::from_utf8(content).unwrap();
    let (_, rest) = text.split_once(r#""number":""#).unwrap();
    rest.split_once('"').unwrap().0.parse().unwrap()
}

/// A pull that begins after a push was acknowledged sees it, and nobody who has seen it sees what
/// was before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_goes_back_in_time() {
    const MOVES: u64 = 300;
    let folder = tempfile::tempdir().unwrap();
    let blobs = FileSystem::open(folder.path()).unwrap();
    let metadata = Metadata::open_sqlite(&folder.path().join("db")).await.unwrap();
    let rules =
        Config { require_blobs: false, require_children: Children::None, ..Config::default() };
    let registry = Registry::new(metadata, Arc::new(blobs), rules);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let push = async |number: u64| {
        let push = ManifestPush {
            repository: "app".parse().unwrap(),
            reference: "latest".parse().unwrap(),
            tags: Vec::new(),
            content_type: None,
            content: manifest(number).into(),
            preconditions: Vec::new(),
            classes: Vec::new(),
        };
        registry.push_manifest(push).await.unwrap();
        acknowledged.store(number, Ordering::SeqCst);
    };
    push(0).await;
    let seen = Arc::new(AtomicU64::new(0));
    let pulls = (0..3).map(|_| {
        let (registry, seen) = (registry.clone(), Arc::clone(&seen));
        let acknowledged = Arc::clone(&acknowledged);
        tokio::spawn(async move {
            let name = "app".parse().unwrap();
            let tag: Reference = "latest".parse().unwrap();
            let mut pulls = 0_u64;
            loop {
                let least = acknowledged.load(Ordering::SeqCst).max(seen.load(Ordering::SeqCst));
                let pulled = registry.pull_manifest(&name, &tag).await.unwrap();
                let number = number_of(&pulled.content);
                assert!(number >= least, "{number} after {least}, in pull {pulls}");
                seen.fetch_max(number, Ordering::SeqCst);
                pulls += 1;
                if number == MOVES {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
    });
    let pulls = pulls.collect::<Vec<_>>();
    for number in 1..=MOVES {
        push(number).await;
    }
    for pull in pulls {
        pull.await.unwrap();
    }
}
