//! A cache on the disk of this machine, before a store that is further away.
//!
//! Content that is read comes into it on the way, under its digest: once for all repositories, and
//! one read of the store for all who want it at the same time. Who may read what has been asked
//! before. The folder may be thrown away at any time, and nothing that goes wrong with it is an error
//! for a reader: the store is asked instead.
//!
//! What is served from it has been hashed: when it arrived, or, if it is of an earlier start, before
//! it is served for the first time. So it is not synced, and what a loss of power leaves of it is
//! found out. From then on the disk is trusted, as that of a store in a folder is.

mod arrival;
mod content;
mod folder;
mod index;
mod shared;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use oci::Digest;

use crate::links::Links;
use crate::{Blobs, Content, Error, Future, LocatedPage, Resumed, Stored, Upload, UploadId};

pub use content::CachedContent;
use content::Origin;
use shared::Shared;

/// What happens in a cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CacheEvent {
    /// Content of so many bytes is read.
    Read(CacheResult, u64),
    /// Content of so many bytes was taken in.
    Filled(u64),
    /// So many files went to make room for others.
    Evicted(u64),
    /// Its disk could not be used.
    Failed,
    /// What it has now, and what it keeps room for, in bytes; and files.
    Holds(u64, u64),
}

/// Where a reader's bytes come from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CacheResult {
    /// From the disk.
    Hit,
    /// From the store, on their way into the cache for somebody else.
    Shared,
    /// From the store, and then they are in the cache.
    Miss,
    /// From the store, past the cache: a part, or what there is no room for.
    Pass,
}

/// The store `store`, of which what is read stays on the disk of this machine for a while.
pub struct Cached {
    store: Arc<dyn Blobs>,
    cache: Arc<Shared>,
}

impl Cached {
    /// Keeps up to `max_size` bytes in `folder`, which nobody else may use, and tells `observe` what
    /// happens. Until what is there was listed, in the background, the cache is not used.
    pub fn open(
        store: Arc<dyn Blobs>,
        folder: &Path,
        max_size: u64,
        observe: impl Fn(CacheEvent) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let cache = Arc::new(Shared::open(folder, max_size, Box::new(observe))?);
        let stock = Arc::clone(&cache);
        // A thread of its own: the end of the server does not wait for it.
        std::thread::spawn(move || stock.take_stock());
        Ok(Self { store, cache })
    }
}

impl Blobs for Cached {
    fn begin(&self, upload: UploadId) -> Future<'_, Result<Box<dyn Upload>, Error>> {
        self.store.begin(upload)
    }

    fn resume<'a>(
        &'a self,
        upload: UploadId,
        received: u64,
        state: &'a str,
    ) -> Future<'a, Result<Resumed, Error>> {
        self.store.resume(upload, received, state)
    }

    fn read_upload(&self, upload: UploadId, offset: u64) -> Future<'_, Result<Bytes, Error>> {
        self.store.read_upload(upload, offset)
    }

    fn abort<'a>(
        &'a self,
        upload: UploadId,
        state: Option<&'a str>,
    ) -> Future<'a, Result<(), Error>> {
        self.store.abort(upload, state)
    }

    fn stale_uploads(&self, age_seconds: u64) -> Future<'_, Result<Vec<UploadId>, Error>> {
        self.store.stale_uploads(age_seconds)
    }

    fn put<'a>(&'a self, digest: &'a Digest, content: Bytes) -> Future<'a, Result<Stored, Error>> {
        self.store.put(digest, content)
    }

    fn restore<'a>(
        &'a self,
        digest: &'a Digest,
        content: Bytes,
    ) -> Future<'a, Result<Stored, Error>> {
        self.store.restore(digest, content)
    }

    fn sync(&self) -> Future<'_, Result<(), Error>> {
        self.store.sync()
    }

    fn settle<'a>(&'a self, digest: &'a Digest) -> Future<'a, Result<(), Error>> {
        self.store.settle(digest)
    }

    fn size<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<Option<u64>, Error>> {
        self.store.size(digest, location)
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
        size: u64,
    ) -> Future<'a, Result<Content, Error>> {
        let store = Arc::clone(&self.store);
        let origin = Origin { store, digest: *digest, location: location.map(str::to_owned), size };
        let file = self.cache.find(digest, size);
        let content = CachedContent::new(Arc::clone(&self.cache), origin, file);
        Box::pin(std::future::ready(Ok(Content::Cached(content))))
    }

    fn url<'a>(
        &'a self,
        method: Method,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<Option<String>, Error>> {
        self.store.url(method, digest, location)
    }

    /// Other servers may have the content in their caches for a while. Nobody asks for it there: no
    /// repository has it.
    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<bool, Error>> {
        Box::pin(async move {
            let removed = self.store.remove(digest, location).await?;
            self.cache.forget(digest).await;
            Ok(removed)
        })
    }

    fn list_shard(&self, shard: u8) -> Future<'_, Result<Vec<Digest>, Error>> {
        self.store.list_shard(shard)
    }

    fn list_located(&self, page: Option<String>) -> Future<'_, Result<LocatedPage, Error>> {
        self.store.list_located(page)
    }

    fn copy_to_layout<'a>(
        &'a self,
        digest: &'a Digest,
        location: &'a str,
        size: u64,
    ) -> Future<'a, Result<(), Error>> {
        self.store.copy_to_layout(digest, location, size)
    }

    fn discard<'a>(&'a self, location: &'a str) -> Future<'a, Result<(), Error>> {
        self.store.discard(location)
    }

    fn owner(&self) -> Future<'_, Result<Option<String>, Error>> {
        self.store.owner()
    }

    fn set_owner<'a>(&'a self, id: &'a str) -> Future<'a, Result<(), Error>> {
        self.store.set_owner(id)
    }

    fn is_replicated(&self) -> bool {
        self.store.is_replicated()
    }

    fn links(&self) -> Option<&dyn Links> {
        self.store.links()
    }

    fn check_writable(&self) -> Future<'_, Result<(), Error>> {
        self.store.check_writable()
    }
}
