//! The bytes: content kept by its digest, and uploads in progress.
//!
//! A store knows nothing about repositories, names or rights. It promises that content which
//! [`Upload::commit`] or [`Blobs::put`] has returned for is whole, that it survives the loss of
//! power (unless it says otherwise: see [`Stored`]), and that content never changes under its
//! digest. Whether bytes match their digest is the caller's business, who hashes them while they
//! arrive.
//!
//! Each back end is one file and passes the suite in [`conformance`].

#![deny(unsafe_code)]

mod buffer;
mod cache;
mod error;
mod filesystem;
mod layout;
pub mod links;
mod objects;
mod observed;

pub mod conformance;

use std::pin::Pin;

use bytes::Bytes;
use http::Method;
use oci::Digest;

pub use buffer::Buffer;
pub use cache::{CacheEvent, CacheResult, Cached, CachedContent};
pub use error::{Error, ErrorKind};
pub use filesystem::{FileContent, FileSystem};
pub use objects::{ObjectContent, ObjectStore};
pub use observed::{Action, Observed};
pub use uuid::Uuid as UploadId;

/// A boxed future, as the methods of [`Blobs`] return them.
pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// A place that keeps bytes.
pub trait Blobs: Send + Sync + 'static {
    /// Opens an empty upload. It exists from the first [`Upload::flush`] until it is committed or
    /// aborted; one that exists already is emptied by then.
    fn begin(&self, upload: UploadId) -> Future<'_, Result<Box<dyn Upload>, Error>>;

    /// Goes on with an upload of which `received` bytes are known to have arrived; whatever came
    /// after them is thrown away. `state` is what [`Upload::state`] said when they were counted.
    ///
    /// [`Resumed::Unsure`] says that the bytes may not be what was written (power was lost), and
    /// must be read again by [`Blobs::read_upload`]. [`ErrorKind::NotFound`] if there is no such upload,
    /// or it has become shorter.
    fn resume<'a>(
        &'a self,
        upload: UploadId,
        received: u64,
        state: &'a str,
    ) -> Future<'a, Result<Resumed, Error>>;

    /// Reads up to 1 MiB of an upload from `offset`; nothing at its end.
    /// [`ErrorKind::Unsupported`] where that can not be read before it is committed.
    fn read_upload(&self, upload: UploadId, offset: u64) -> Future<'_, Result<Bytes, Error>>;

    /// Forgets an upload and frees its space. No error if it does not exist. `state` is what
    /// [`Upload::state`] said last, if that was saved: without it nothing is touched that a commit
    /// may have made content.
    fn abort<'a>(
        &'a self,
        upload: UploadId,
        state: Option<&'a str>,
    ) -> Future<'a, Result<(), Error>>;

    /// Every upload that takes space and was last written to over `age_seconds` ago.
    fn stale_uploads(&self, age_seconds: u64) -> Future<'_, Result<Vec<UploadId>, Error>>;

    /// Keeps `content`, whose digest is `digest`, in one step.
    fn put<'a>(&'a self, digest: &'a Digest, content: Bytes) -> Future<'a, Result<Stored, Error>>;

    /// Puts back content that somebody else has kept, as [`Self::put`] does, but does not trust what
    /// is there: what was read back after a failed sync may never have reached the disk.
    fn restore<'a>(
        &'a self,
        digest: &'a Digest,
        content: Bytes,
    ) -> Future<'a, Result<Stored, Error>>;

    /// Makes durable all that was stored before and is not (see [`Stored::unsynced`]). After a
    /// failure it may be lost, and has to be put again; whatever is put from then on is synced at
    /// once.
    fn sync(&self) -> Future<'_, Result<(), Error>>;

    /// Makes content at the layout's key durable that somebody put there and may have died before
    /// saying so. [`ErrorKind::NotFound`] if there is none.
    fn settle<'a>(&'a self, digest: &'a Digest) -> Future<'a, Result<(), Error>>;

    /// Size of the content, or `None` if it is not there.
    fn size<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<Option<u64>, Error>>;

    /// Opens content, which should have `size` bytes, for reading. [`ErrorKind::NotFound`] if it is
    /// not there; some stores find that out when it is read ([`Content::begin`]).
    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
        size: u64,
    ) -> Future<'a, Result<Content, Error>>;

    /// A URL where content can be had from the store itself for a while by this method, if there is
    /// such. The content is not looked for.
    fn url<'a>(
        &'a self,
        _method: Method,
        _digest: &'a Digest,
        _location: Option<&'a str>,
    ) -> Future<'a, Result<Option<String>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Removes content. False if it was not there.
    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<bool, Error>>;

    /// The sha256 digests for which content lies at the layout's keys of one of the 256 shards.
    fn list_shard(&self, shard: u8) -> Future<'_, Result<Vec<Digest>, Error>>;

    /// A page of what lies elsewhere than at the layout's keys, as content or as what an upload has
    /// left there. Nothing where all content is at those keys.
    fn list_located(&self, _page: Option<String>) -> Future<'_, Result<LocatedPage, Error>> {
        Box::pin(std::future::ready(Ok(LocatedPage::default())))
    }

    /// Copies content from its location to the layout's key, durably. [`ErrorKind::NotFound`] if it is
    /// not there.
    fn copy_to_layout<'a>(
        &'a self,
        _digest: &'a Digest,
        _location: &'a str,
        _size: u64,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Removes what lies at a location that no blob has. No error if nothing does.
    fn discard<'a>(&'a self, _location: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The id that a database has marked this store with.
    fn owner(&self) -> Future<'_, Result<Option<String>, Error>>;

    /// Marks this store as belonging to the database that calls itself `id`, durably.
    fn set_owner<'a>(&'a self, id: &'a str) -> Future<'a, Result<(), Error>>;

    /// Whether this store keeps several copies and loses none of them, so that nobody has to look
    /// whether content is still there.
    fn is_replicated(&self) -> bool {
        false
    }

    /// The links of the distribution registry beside this content, if this kind of store can hold
    /// them.
    fn links(&self) -> Option<&dyn links::Links> {
        None
    }

    /// Fails if nothing can be written now.
    fn check_writable(&self) -> Future<'_, Result<(), Error>>;
}

/// Content that is open for reading. It stays readable when the blob is removed meanwhile.
#[derive(Clone, Debug)]
pub enum Content {
    /// What a cache has, or takes in.
    Cached(CachedContent),
    /// A file.
    File(FileContent),
    /// Bytes that somebody has read already.
    Memory(Bytes),
    /// An object of an object store.
    Object(ObjectContent),
}

impl Content {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Cached(cached) => cached.size(),
            Self::File(file) => file.size(),
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Object(object) => object.size(),
        }
    }

    /// The same, when `length` bytes from `offset` are wanted of it and will be read in order.
    #[must_use]
    pub fn part(&self, offset: u64, length: u64) -> Self {
        match self {
            Self::Cached(cached) => Self::Cached(cached.part(offset, length)),
            Self::Object(object) => Self::Object(object.part(offset, length)),
            Self::File(_) | Self::Memory(_) => self.clone(),
        }
    }

    /// Makes sure that it can be read from `offset`, where that is not known yet.
    /// [`ErrorKind::NotFound`] if it is not there, [`ErrorKind::Damaged`] if it is not what it should
    /// be.
    pub async fn begin(&self, offset: u64) -> Result<(), Error> {
        match self {
            Self::Cached(cached) => cached.begin(offset).await,
            Self::Object(object) => object.begin(offset).await,
            Self::File(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// `length` bytes from `offset` that a connection can send without reading them (see
    /// [`sendfile`]), if there is a file that can be sent so.
    pub fn map(&self, offset: u64, length: u64) -> Option<Bytes> {
        match self {
            Self::Cached(cached) => cached.file()?.map(offset, length),
            Self::File(file) => file.map(offset, length),
            Self::Memory(_) | Self::Object(_) => None,
        }
    }

    /// Whether these bytes are in memory, as far as looking at one page of each 256 KiB can tell.
    pub fn is_cached(&self, offset: u64, length: u64) -> bool {
        match self {
            Self::Cached(cached) => {
                cached.file().is_some_and(|file| file.is_cached(offset, length))
            }
            Self::File(file) => file.is_cached(offset, length),
            Self::Memory(_) => true,
            Self::Object(_) => false,
        }
    }

    /// Reads from `offset` at most `limit` bytes (and at most [`Buffer::SIZE`]), at least one unless
    /// the content ends there.
    /// Bytes that are in memory already are returned without a wait.
    pub async fn read(&self, offset: u64, limit: usize) -> Result<Bytes, Error> {
        match (self.read_cached(offset, limit), self) {
            (Some(bytes), _) => Ok(bytes),
            (None, Self::Cached(cached)) => cached.read(offset, limit).await,
            (None, Self::File(file)) => file.read(offset, limit).await,
            (None, Self::Memory(_)) => Ok(Bytes::new()),
            (None, Self::Object(object)) => object.read(offset, limit).await,
        }
    }

    /// The same, if the bytes are in memory already.
    pub fn read_cached(&self, offset: u64, limit: usize) -> Option<Bytes> {
        match self {
            Self::Cached(cached) => cached.read_cached(offset, limit),
            Self::File(file) => file.read_cached(offset, limit),
            Self::Memory(bytes) => part(bytes, offset, limit.min(Buffer::SIZE)),
            Self::Object(_) => None,
        }
    }
}

/// At most `limit` of these bytes from `offset`; `None` if there are none.
fn part(bytes: &Bytes, offset: u64, limit: usize) -> Option<Bytes> {
    let start = usize::try_from(offset).ok().filter(|start| *start < bytes.len())?;
    Some(bytes.slice(start..bytes.len().min(start.saturating_add(limit))))
}

/// Content that is in its place.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use = "what is not synced is lost with the power unless somebody keeps it"]
pub struct Stored {
    /// Where it is; `None`: at the layout's key.
    pub location: Option<String>,
    /// The content, if a loss of power may still take it. Whoever stored it keeps this durably
    /// until a [`Blobs::sync`] that began later has succeeded, and otherwise puts it again. That
    /// way many small contents share one wait for the disk.
    pub unsynced: Option<Bytes>,
    /// Other locations to [discard](Blobs::discard) once it is written down that the content is
    /// there.
    pub leftovers: Vec<String>,
}

/// Bytes that lie elsewhere than at the layout's key of their digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Located {
    /// Where.
    pub location: String,
    /// The upload that they came with.
    pub upload: UploadId,
    /// How many.
    pub size: u64,
}

/// What [`Blobs::list_located`] found.
#[derive(Clone, Debug, Default)]
pub struct LocatedPage {
    /// In no order.
    pub found: Vec<Located>,
    /// What to ask for next, if there is more.
    pub next: Option<String>,
}

/// What [`Blobs::resume`] found.
pub enum Resumed {
    /// The bytes that were counted are there.
    Whole(Box<dyn Upload>),
    /// As many bytes are there as were counted, but they may be others.
    Unsure(Box<dyn Upload>),
}

/// An upload that is being written to. Dropping it leaves what was written, to be resumed.
pub trait Upload: Send {
    /// Appends `data`, after all that was appended before. Little of it may stay in memory.
    fn append(self: Box<Self>, data: Vec<Bytes>)
    -> Future<'static, Result<Box<dyn Upload>, Error>>;

    /// Lets what was appended survive the death of this process, but not the loss of power.
    fn flush(self: Box<Self>) -> Future<'static, Result<Box<dyn Upload>, Error>>;

    /// What [`Blobs::resume`] needs to go on from here, after a [`Upload::flush`].
    fn state(&self) -> String;

    /// Throws away what was appended.
    fn discard(self: Box<Self>) -> Future<'static, Result<(), Error>>;

    /// Turns what was appended into the content of `digest`, replacing what was there.
    fn commit(self: Box<Self>, digest: Digest) -> Future<'static, Result<Stored, Error>>;
}
