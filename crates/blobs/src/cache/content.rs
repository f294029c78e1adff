//! Content that is read by way of a cache.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use oci::Digest;
use tokio::sync::{OnceCell, watch};

use super::arrival::Progress;
use super::shared::Shared;
use crate::{Blobs, Content, Error, ErrorKind, FileContent, Future};

/// Where content comes from that the cache does not have.
pub(super) struct Origin {
    pub(super) store: Arc<dyn Blobs>,
    pub(super) digest: Digest,
    pub(super) location: Option<String>,
    pub(super) size: u64,
}

impl Origin {
    pub(super) async fn open(&self) -> Result<Content, Error> {
        self.store.open(&self.digest, self.location.as_deref(), self.size).await
    }
}

/// How the cache gives content.
#[derive(Clone)]
pub(super) enum Way {
    /// From a file that is whole.
    File(FileContent),
    /// From a file that grows.
    Arriving(watch::Receiver<Progress>),
    /// Not at all: the store is asked.
    Past,
}

/// Content from the disk of this machine, or from the store while it gets there. Whatever goes wrong
/// with the disk, the rest of the bytes come from the store.
#[derive(Clone)]
pub struct CachedContent {
    cache: Arc<Shared>,
    origin: Arc<Origin>,
    /// What is wanted of it.
    start: u64,
    length: u64,
    way: Arc<OnceLock<Way>>,
    /// The same content, opened in the store when that is needed.
    stored: Arc<OnceCell<Content>>,
}

impl std::fmt::Debug for CachedContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedContent").field("digest", &self.origin.digest).finish_non_exhaustive()
    }
}

impl CachedContent {
    /// All of the content: from `file`, if the cache has it.
    pub(super) fn new(cache: Arc<Shared>, origin: Origin, file: Option<FileContent>) -> Self {
        let way = file.map_or_else(OnceLock::new, |file| OnceLock::from(Way::File(file)));
        let (way, length) = (Arc::new(way), origin.size);
        Self { cache, origin: Arc::new(origin), start: 0, length, way, stored: Arc::default() }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.origin.size
    }

    /// The same, when no more than `length` bytes from `offset` are wanted of it. A part of what the
    /// cache does not have comes from the store and goes past the cache: most parts are the end of
    /// something of which the client has the rest.
    pub(crate) fn part(&self, offset: u64, length: u64) -> Self {
        let is_whole = offset == 0 && length >= self.size();
        if is_whole || self.file().is_some() {
            return self.clone();
        }
        let way = Arc::new(OnceLock::new());
        Self { start: offset, length, way, stored: Arc::default(), ..self.clone() }
    }

    /// Makes sure that it can be read from `offset`.
    pub(crate) fn begin(&self, offset: u64) -> Future<'_, Result<(), Error>> {
        Box::pin(async move {
            let is_here = match self.way() {
                Way::File(_) => true,
                Way::Arriving(progress) => self.reached(progress, offset).await?.is_some(),
                Way::Past => false,
            };
            if is_here { Ok(()) } else { self.stored().await?.begin(offset).await }
        })
    }

    pub(crate) fn read(&self, offset: u64, limit: usize) -> Future<'_, Result<Bytes, Error>> {
        Box::pin(async move {
            if offset >= self.size() || limit == 0 {
                return Ok(Bytes::new());
            }
            match self.read_here(offset, limit).await? {
                Some(bytes) => Ok(bytes),
                None => self.stored().await?.read(offset, limit).await,
            }
        })
    }

    pub(crate) fn read_cached(&self, offset: u64, limit: usize) -> Option<Bytes> {
        match self.way.get()? {
            Way::File(file) => file.read_cached(offset, limit),
            Way::Arriving(progress) => match &*progress.borrow() {
                Progress::Reached(file, length) => {
                    file.read_cached(offset, limit_to(limit, length.saturating_sub(offset)))
                }
                Progress::Begun | Progress::Failed | Progress::Damaged => None,
            },
            Way::Past => None,
        }
    }

    /// The whole file, if the cache has it.
    pub(crate) fn file(&self) -> Option<&FileContent> {
        match self.way.get()? {
            Way::File(file) => Some(file),
            Way::Arriving(_) | Way::Past => None,
        }
    }

    /// Reads from the cache's disk; nothing if that can not be.
    async fn read_here(&self, offset: u64, limit: usize) -> Result<Option<Bytes>, Error> {
        let found = match self.way() {
            Way::File(file) => Some((file, self.size())),
            Way::Arriving(progress) => self.reached(progress, offset).await?,
            Way::Past => None,
        };
        let Some((file, length)) = found else { return Ok(None) };
        match file.read(offset, limit_to(limit, length - offset)).await {
            Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
            Ok(_) => {}
            Err(error) => self.cache.trouble(&error),
        }
        self.cache.forget(&self.origin.digest).await;
        Ok(None)
    }

    /// The file, and how much of it can be read, as soon as that is more than `offset` bytes. Nothing
    /// if that will not be. [`ErrorKind::Damaged`] if the store has other bytes than it should: whoever
    /// has read some of them must not be given the rest.
    async fn reached(
        &self,
        mut progress: watch::Receiver<Progress>,
        offset: u64,
    ) -> Result<Option<(FileContent, u64)>, Error> {
        let Ok(progress) = progress.wait_for(|progress| progress.is_past(offset)).await else {
            return Ok(None);
        };
        match &*progress {
            Progress::Reached(file, length) => Ok(Some((file.clone(), *length))),
            Progress::Begun | Progress::Failed => Ok(None),
            Progress::Damaged => {
                let context = format!("read {}", self.origin.digest);
                Err(Error::of(ErrorKind::Damaged, context, "the store has other bytes"))
            }
        }
    }

    fn way(&self) -> Way {
        let is_whole = self.start == 0 && self.length >= self.size();
        self.way.get_or_init(|| self.cache.admit(&self.origin, is_whole)).clone()
    }

    async fn stored(&self) -> Result<&Content, Error> {
        let open = async || Ok(self.origin.open().await?.part(self.start, self.length));
        self.stored.get_or_try_init(open).await
    }
}

fn limit_to(limit: usize, most: u64) -> usize {
    usize::try_from(most).map_or(limit, |most| limit.min(most))
}
