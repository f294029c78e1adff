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

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use oci::Digest;
use tokio::sync::watch;

use crate::filesystem::blocking;
use crate::filesystem::open_files::OpenFiles;
use crate::links::Links;
use crate::{Blobs, Content, Error, FileContent, Future, Resumed, Stored, Upload, UploadId};

use arrival::{Arrival, Progress};
pub use content::CachedContent;
use content::{Origin, Way};
use folder::Folder;
use index::Index;

/// How long nothing is taken in after trouble with the disk.
const REST: Duration = Duration::from_mins(1);

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

struct Shared {
    folder: Folder,
    open_files: OpenFiles,
    state: Mutex<State>,
    observe: Box<dyn Fn(CacheEvent) + Send + Sync>,
}

struct State {
    index: Index,
    /// Content for which room is reserved, and how far it has come.
    arriving: HashMap<Digest, Arc<watch::Sender<Progress>>>,
    /// Whether it is known what an earlier start has left.
    is_complete: bool,
    /// Nothing is taken in until then.
    rests_until: Option<Instant>,
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
        let state = State {
            index: Index::new(max_size),
            arriving: HashMap::new(),
            is_complete: false,
            rests_until: None,
        };
        let cache = Arc::new(Shared {
            folder: Folder::open(folder)?,
            open_files: OpenFiles::new(),
            state: Mutex::new(state),
            observe: Box::new(observe),
        });
        let stock = Arc::clone(&cache);
        // A thread of its own: the end of the server does not wait for it.
        std::thread::spawn(move || stock.take_stock());
        Ok(Self { store, cache })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists what an earlier start has left, as much of it as there is room for.
    fn take_stock(&self) {
        let found = match self.folder.take_stock() {
            Ok(found) => found,
            Err(error) => return self.trouble(&error),
        };
        let mut state = self.state();
        let mut gone = Vec::new();
        for found in found {
            let room = index::room(found.size);
            match state.index.reserve(room) {
                Some(evicted) => {
                    gone.extend(evicted);
                    state.index.keep(found.digest, room, false);
                }
                None => gone.push(found.digest),
            }
        }
        drop(state);
        if let Err(error) = self.remove_files(&gone) {
            return self.trouble(&error);
        }
        self.state().is_complete = true;
        self.tell_size();
    }

    /// The file of this content, if it can be served at once.
    fn find(&self, digest: &Digest, size: u64) -> Option<FileContent> {
        if !self.state().index.read(digest)? {
            return None;
        }
        let opened = self.open_files.open(digest, &self.folder.path(digest));
        let file = opened.ok().map(FileContent::new).filter(|file| file.size() == size);
        match &file {
            Some(_) => (self.observe)(CacheEvent::Read(CacheResult::Hit, size)),
            None => self.lose(digest),
        }
        file
    }

    /// Forgets a file that somebody has removed or cut.
    fn lose(&self, digest: &Digest) {
        self.open_files.forget(digest);
        match folder::remove(&self.folder.path(digest)) {
            Ok(()) => drop(self.state().index.remove(digest)),
            Err(error) => self.trouble(&error),
        }
    }

    /// Decides on which way content is read that was not there a moment ago.
    fn admit(self: &Arc<Self>, origin: &Arc<Origin>, is_whole: bool) -> Way {
        if let Some(file) = self.find(&origin.digest, origin.size) {
            return Way::File(file);
        }
        let (result, way) = self.admit_new(origin, is_whole);
        (self.observe)(CacheEvent::Read(result, origin.size));
        way
    }

    fn admit_new(self: &Arc<Self>, origin: &Arc<Origin>, is_whole: bool) -> (CacheResult, Way) {
        let &Origin { digest, size, .. } = &**origin;
        let mut state = self.state();
        if !is_whole || size == 0 || !state.takes() {
            return (CacheResult::Pass, Way::Past);
        }
        if let Some(progress) = state.arriving.get(&digest) {
            return (CacheResult::Shared, Way::Arriving(progress.subscribe()));
        }
        let (room, gone) = match state.index.take(&digest) {
            Some(room) => (room, None),
            None => {
                let room = index::room(size);
                let Some(gone) = state.index.reserve(room) else {
                    return (CacheResult::Pass, Way::Past);
                };
                (room, Some(gone))
            }
        };
        let (progress, receiver) = watch::channel(Progress::Begun);
        let progress = Arc::new(progress);
        state.arriving.insert(digest, Arc::clone(&progress));
        drop(state);
        let arrival = Arrival::new(Arc::clone(self), digest, size, room, progress);
        let way = Way::Arriving(receiver);
        let Some(gone) = gone else {
            tokio::spawn(arrival.verify());
            return (CacheResult::Hit, way);
        };
        let origin = Arc::clone(origin);
        tokio::spawn(async move { arrival.fill(&origin, gone).await });
        (CacheResult::Miss, way)
    }

    /// Removes the files of what has gone to make room.
    fn remove_files(&self, gone: &[Digest]) -> Result<(), Error> {
        for digest in gone {
            // It keeps its space for as long as it is open.
            self.open_files.forget(digest);
            folder::remove(&self.folder.path(digest))?;
        }
        if !gone.is_empty() {
            (self.observe)(CacheEvent::Evicted(gone.len() as u64));
        }
        Ok(())
    }

    /// Removes content, also what is arriving.
    async fn forget(self: &Arc<Self>, digest: &Digest) {
        let Some(room) = self.state().forget(digest) else { return };
        self.open_files.forget(digest);
        let path = self.folder.path(digest);
        if let Err(error) = blocking(move || folder::remove(&path)).await {
            self.trouble(&error);
        }
        self.state().index.release(room);
        self.tell_size();
    }

    /// Notes that the disk can not be used, and leaves it alone for a while.
    fn trouble(&self, error: &Error) {
        let now = Instant::now();
        let until = self.state().rests_until.replace(now + REST);
        (self.observe)(CacheEvent::Failed);
        if until.is_none_or(|until| until < now) {
            tracing::warn!(%error, "the disk cache takes nothing in for a minute; blobs come from the store");
        }
    }

    fn tell_size(&self) {
        let state = self.state();
        let holds = CacheEvent::Holds(state.index.used(), state.index.len() as u64);
        drop(state);
        (self.observe)(holds);
    }
}

impl State {
    fn takes(&self) -> bool {
        self.is_complete && self.rests_until.is_none_or(|until| until < Instant::now())
    }

    /// Forgets content, also what is arriving. Returns the room that its file takes until that is
    /// removed.
    fn forget(&mut self, digest: &Digest) -> Option<u64> {
        self.arriving.remove(digest);
        self.index.take(digest)
    }

    fn has_arrival(&self, digest: &Digest, progress: &Arc<watch::Sender<Progress>>) -> bool {
        self.arriving.get(digest).is_some_and(|found| Arc::ptr_eq(found, progress))
    }

    /// Lets nobody wait for it from now on. False if that is so already.
    fn end_arrival(&mut self, digest: &Digest, progress: &Arc<watch::Sender<Progress>>) -> bool {
        let is_there = self.has_arrival(digest, progress);
        if is_there {
            self.arriving.remove(digest);
        }
        is_there
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
