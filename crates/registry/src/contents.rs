//! Manifests and small blobs by their digest: in memory, and in a cache that servers share, if
//! there is one. They say nothing about who may read them: the database is asked that each time.

use std::sync::Arc;

use bytes::Bytes;
use oci::Digest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Memory that content takes, in bytes.
const CAPACITY: u64 = 16 << 20;

/// A cache that several servers share. It may lose anything at any time.
pub trait SharedCache: Send + Sync + 'static {
    /// What is kept under this digest, whether it is right or not. `None` also if nobody knows: no
    /// pull fails because of a cache.
    fn get<'a>(&'a self, digest: &'a Digest) -> blobs::Future<'a, Option<Bytes>>;

    /// Keeps content, if that can be done. Nobody waits for it.
    fn keep(&self, digest: &Digest, content: &Bytes);
}

pub(crate) struct Contents {
    memory: Cache<Digest, Bytes, ByLength>,
    shared: Option<Arc<dyn SharedCache>>,
}

impl Contents {
    pub(crate) fn new(shared: Option<Arc<dyn SharedCache>>) -> Self {
        Self { memory: Cache::with_weighter(4096, CAPACITY, ByLength), shared }
    }

    /// The content, if it is in memory.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.memory.get(digest)
    }

    /// The content, if another server has shared it.
    pub(crate) async fn ask_others(&self, digest: &Digest) -> Option<Bytes> {
        let content = self.shared.as_ref()?.get(digest).await?;
        if Digest::sha256(&content) != *digest {
            tracing::warn!(%digest, "the shared cache has other content under this digest");
            return None;
        }
        self.memory.insert(*digest, content.clone());
        Some(content)
    }

    /// Keeps content, which must have this digest, in memory only.
    pub(crate) fn remember(&self, digest: &Digest, content: Bytes) {
        self.memory.insert(*digest, content);
    }

    /// The same, and lets other servers know.
    pub(crate) fn share(&self, digest: &Digest, content: Bytes) {
        if let Some(shared) = &self.shared {
            shared.keep(digest, &content);
        }
        self.remember(digest, content);
    }
}

#[derive(Clone)]
struct ByLength;

impl Weighter<Digest, Bytes> for ByLength {
    fn weight(&self, _digest: &Digest, content: &Bytes) -> u64 {
        content.len() as u64 + 128
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Shared(Mutex<BTreeMap<Digest, Bytes>>);

    impl SharedCache for Shared {
        fn get<'a>(&'a self, digest: &'a Digest) -> blobs::Future<'a, Option<Bytes>> {
            Box::pin(async move { self.0.lock().unwrap().get(digest).cloned() })
        }

        fn keep(&self, digest: &Digest, content: &Bytes) {
            self.0.lock().unwrap().insert(*digest, content.clone());
        }
    }

    #[tokio::test]
    async fn what_one_server_shares_another_finds_if_it_is_right() {
        let shared = Arc::new(Shared::default());
        let server = || Contents::new(Some(Arc::clone(&shared) as Arc<dyn SharedCache>));
        let (one, other) = (server(), server());
        let (content, digest) = (Bytes::from_static(b"{}"), Digest::sha256(b"{}"));
        one.share(&digest, content.clone());
        assert_eq!(other.get(&digest), None);
        assert_eq!(other.ask_others(&digest).await, Some(content.clone()));
        assert_eq!(other.get(&digest), Some(content.clone()), "in memory now");

        one.remember(&Digest::sha256(b"own"), Bytes::from_static(b"own"));
        assert_eq!(other.ask_others(&Digest::sha256(b"own")).await, None);
        shared.keep(&digest, &Bytes::from_static(b"[]"));
        assert_eq!(server().ask_others(&digest).await, None, "somebody has changed it");
    }
}
