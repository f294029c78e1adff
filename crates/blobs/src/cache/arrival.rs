//! Content on its way into a cache: from the store into a new file, which whoever wants the content
//! reads while it grows.
//!
//! A file of an earlier start comes in on the same way. It is only read, and nobody is given any of
//! it before all of it was hashed.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use oci::{Digest, Hasher};
use tokio::sync::watch;

use super::CacheEvent;
use super::content::Origin;
use super::folder::remove;
use super::index::Gone;
use super::shared::Shared;
use crate::filesystem::blocking;
use crate::{Buffer, Content, Error, ErrorKind, FileContent};

/// How far content has come.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// Nothing can be read yet.
    Begun,
    /// So many bytes can be read from this file.
    Reached(FileContent, u64),
    /// It does not come. Whoever waits asks the store.
    Failed,
    /// The store has other bytes under this digest.
    Damaged,
}

impl Progress {
    /// Whether nobody has to wait any more who wants to read from `offset`.
    pub(super) fn is_past(&self, offset: u64) -> bool {
        match self {
            Self::Begun => false,
            Self::Reached(_, length) => *length > offset,
            Self::Failed | Self::Damaged => true,
        }
    }
}

/// Why content has not come into the cache.
enum Trouble {
    /// The cache's own disk.
    Disk(Error),
    /// Those who wait will ask the store, and hear of it.
    Store,
    /// The bytes have another digest.
    Damaged,
    /// Nobody reads it any more, or it was removed meanwhile.
    Unwanted,
}

/// Content that arrives, and the room that is reserved for it. When it is dropped before it was
/// kept, the room is given back.
pub(super) struct Arrival {
    cache: Arc<Shared>,
    digest: Digest,
    size: u64,
    room: u64,
    progress: Arc<watch::Sender<Progress>>,
    /// The file, which goes unless the content is kept.
    path: Option<PathBuf>,
    is_kept: bool,
    /// Whether the store is to blame.
    is_damaged: bool,
}

impl Arrival {
    /// For content for which `room` is reserved, and whose `progress` others can find.
    pub(super) fn new(
        cache: Arc<Shared>,
        digest: Digest,
        size: u64,
        room: u64,
        progress: Arc<watch::Sender<Progress>>,
    ) -> Self {
        Self { cache, digest, size, room, progress, path: None, is_kept: false, is_damaged: false }
    }

    /// Writes what the store has into a new file, when the files have gone whose room it takes.
    pub(super) async fn fill(mut self, origin: &Origin, gone: Gone) {
        match self.try_fill(origin, gone).await {
            Ok(()) => (self.cache.observe)(CacheEvent::Filled(self.size)),
            Err(Trouble::Disk(error)) => self.cache.trouble(&error),
            Err(Trouble::Damaged) => {
                self.is_damaged = true;
                let digest = self.digest;
                tracing::error!(%digest, "the store has other bytes for a blob than its digest says");
            }
            Err(Trouble::Store | Trouble::Unwanted) => {}
        }
        self.clear().await;
    }

    async fn try_fill(&mut self, origin: &Origin, gone: Gone) -> Result<(), Trouble> {
        let (cache, size) = (Arc::clone(&self.cache), self.size);
        let made = blocking(move || {
            cache.evict(&gone)?;
            cache.folder.create(size)
        });
        let (path, file) = made.await.map_err(Trouble::Disk)?;
        self.path = Some(path.clone());
        let content = origin.open().await.map_err(|_| Trouble::Store)?;
        self.read_through(&content, Some(FileContent::growing(file, size))).await?;

        let (cache, digest) = (Arc::clone(&self.cache), self.digest);
        let placed = blocking(move || {
            let placed = cache.folder.place(&path, &digest);
            // It may be open from an earlier time.
            cache.open_files.forget(&digest);
            placed
        });
        self.path = Some(placed.await.map_err(Trouble::Disk)?);
        self.keep()
    }

    /// Looks whether a file of an earlier start has the right bytes, and keeps it if so.
    pub(super) async fn verify(mut self) {
        let path = self.cache.folder.path(&self.digest);
        let opened = self.cache.open_files.open(&self.digest, &path);
        self.path = Some(path);
        let verified = match opened.map(FileContent::new) {
            Ok(file) if file.size() == self.size => self.try_verify(file).await,
            _ => Err(Trouble::Damaged),
        };
        match verified {
            Ok(()) | Err(Trouble::Unwanted) => {}
            Err(_) => {
                let digest = self.digest;
                tracing::warn!(%digest, "a file of the disk cache is damaged, and is removed");
            }
        }
        self.clear().await;
    }

    async fn try_verify(&mut self, file: FileContent) -> Result<(), Trouble> {
        self.read_through(&Content::File(file.clone()), None).await?;
        self.keep()?;
        self.progress.send_replace(Progress::Reached(file, self.size));
        Ok(())
    }

    /// Hashes the content, and writes it to a file, if there is one, which others read meanwhile.
    async fn read_through(
        &self,
        content: &Content,
        file: Option<FileContent>,
    ) -> Result<(), Trouble> {
        let algorithm = self.digest.algorithm();
        let mut hasher = Hasher::new(Some(algorithm));
        while hasher.len() < self.size {
            if file.is_some() && !self.cache.state().is_wanted(&self.digest) {
                return Err(Trouble::Unwanted);
            }
            let offset = hasher.len();
            let data = read_batch(content, offset, self.size).await.map_err(|error| {
                // A store may notice it by itself.
                if error.kind() == ErrorKind::Damaged { Trouble::Damaged } else { Trouble::Store }
            })?;
            let target = file.clone();
            let taken = blocking(move || {
                if let Some(target) = target {
                    target.write(&data, offset)?;
                }
                for part in &data {
                    hasher.update(part);
                }
                Ok(hasher)
            });
            hasher = taken.await.map_err(Trouble::Disk)?;
            if let Some(file) = &file {
                self.progress.send_replace(Progress::Reached(file.clone(), hasher.len()));
            }
        }
        let found = hasher.finish().digest(algorithm);
        if found == Some(self.digest) { Ok(()) } else { Err(Trouble::Damaged) }
    }

    /// Makes the content a part of the cache, unless somebody has removed it meanwhile.
    fn keep(&mut self) -> Result<(), Trouble> {
        if !self.cache.state().keep(&self.digest, self.room) {
            return Err(Trouble::Unwanted);
        }
        self.path = None;
        self.is_kept = true;
        Ok(())
    }

    /// Removes the file, unless it is kept, and gives its room back.
    async fn clear(mut self) {
        if let Some(path) = self.path.take() {
            let removed = blocking(move || remove(&path)).await;
            self.cache.open_files.forget(&self.digest);
            if let Err(error) = removed {
                self.cache.trouble(&error);
            }
        }
        let cache = Arc::clone(&self.cache);
        drop(self);
        cache.tell_size();
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        self.cache.state().give_up(&self.digest, self.room);
        let ended = if self.is_damaged { Progress::Damaged } else { Progress::Failed };
        self.progress.send_replace(ended);
    }
}

/// The next bytes of content that has `size` of them: as much as is worth the way to another thread.
async fn read_batch(content: &Content, offset: u64, size: u64) -> Result<Vec<Bytes>, Error> {
    let mut batch = Vec::new();
    let mut length = 0;
    while length < Buffer::SIZE && offset + (length as u64) < size {
        let part = content.read(offset + length as u64, Buffer::SIZE - length).await?;
        if part.is_empty() {
            return Err(Error::of(ErrorKind::Other, "read a blob".to_owned(), "it ended early"));
        }
        length += part.len();
        batch.push(part);
    }
    Ok(batch)
}
