//! A store that no longer has what an upload goes on from, as where a rule of the bucket removes
//! what is not finished for long.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use blobs::ObjectStore;
use bytes::Bytes;
use futures_util::stream;
use metadata::Metadata;
use objects::memory::Memory;
use objects::{Objects, list_all};
use oci::{Digest, RepositoryName};
use registry::{Chunks, Config, Error, Registry, UploadProgress};

fn chunks(content: &[u8]) -> Chunks {
    Box::pin(stream::iter([Ok(Bytes::copy_from_slice(content))]))
}

/// A registry with an upload that has so many bytes, and nothing of it left in the store.
async fn cleared(folder: &std::path::Path, length: usize) -> (Registry, RepositoryName, String) {
    let metadata = Metadata::open_sqlite(&folder.join("db")).await.unwrap();
    let store = Arc::new(Memory::new());
    let blobs = ObjectStore::new(Arc::<Memory>::clone(&store), 5 << 20);
    let registry = Registry::new(metadata, Arc::new(blobs), Config::default());
    let name = "team/app".parse::<RepositoryName>().unwrap();
    let upload = registry.begin_upload(&name, None).await.unwrap();
    let sent = chunks(&vec![7; length]);
    let upload = registry.append_upload(&name, &upload.id, None, sent).await.unwrap();
    assert_eq!(upload, UploadProgress { id: upload.id.clone(), received: length as u64 });
    for (key, _) in list_all(&*store, "", false).await.unwrap().objects {
        store.delete(&key).await.unwrap();
    }
    for attempt in store.attempts("").await.unwrap() {
        store.abort(&attempt.key, &attempt.name).await.unwrap();
    }
    (registry, name, upload.id)
}

#[tokio::test]
async fn the_client_hears_that_it_is_gone() {
    for (length, more) in [(10, 10), (12 << 20, 10), (12 << 20, 12 << 20)] {
        let folder = tempfile::tempdir().unwrap();
        let (registry, name, id) = cleared(folder.path(), length).await;
        let appended = registry.append_upload(&name, &id, None, chunks(&vec![8; more])).await;
        if more < 1 << 20 && length > 1 << 20 {
            // What is held until it is enough for a part is not missed before the end.
            appended.unwrap();
            continue;
        }
        let gone = |result| matches!(result, Err(Error::UploadUnknown { .. }));
        assert!(gone(appended), "{length} and {more} bytes");
        assert!(gone(registry.upload_progress(&name, &id).await), "it is forgotten");
    }
}

#[tokio::test]
async fn the_end_fails_once() {
    for length in [10, 12 << 20] {
        let folder = tempfile::tempdir().unwrap();
        let (registry, name, id) = cleared(folder.path(), length).await;
        let mut whole = vec![7; length];
        whole.push(8);
        let digest = Digest::sha256(&whole);
        registry.finish_upload(&name, &id, &digest, None, chunks(b"\x08")).await.unwrap_err();
        let progress = registry.upload_progress(&name, &id).await;
        assert!(matches!(progress, Err(Error::UploadUnknown { .. })), "{progress:?}");
        let fresh = registry.begin_upload(&name, None).await.unwrap();
        registry.finish_upload(&name, &fresh.id, &digest, None, chunks(&whole)).await.unwrap();
    }
}
