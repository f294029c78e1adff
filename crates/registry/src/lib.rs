//! The rules: what a push, a pull, a mount, a delete, a tag move or a referrer is.
//!
//! [`Registry`] has one method per verb of the protocol, each in the file of that name. It knows
//! no HTTP and no SQL: it composes transactions out of the functions of [`metadata`] and moves
//! bytes with [`blobs`].
//!
//! What holds at all times:
//! - An acknowledged blob or manifest is stored whole before the database says that it exists;
//!   if power could still take it from the store, the database has it, too.
//! - The bytes that were hashed are the bytes that are stored; one request at a time writes to an
//!   upload, among all servers that share the database.
//! - A tag, a manifest and all that was checked about them change in one transaction.

#![forbid(unsafe_code)]

mod adopt;
mod answers;
mod attempts;
mod blob;
mod catalog;
mod check;
mod clock;
mod collect;
mod contents;
mod delete;
mod error;
mod export;
mod facts;
mod journal;
mod manifest;
mod mount;
mod pull;
mod purge;
mod receive;
mod referrers;
mod relocate;
mod replica;
mod rules;
mod session;
mod session_ids;
mod sessions;
mod store;
mod strays;
mod suspects;
mod tags;
mod transfer;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blobs::Blobs;
use metadata::Metadata;
use oci::{Digest, Reference, RepositoryName};
use tokio::sync::{OnceCell, Semaphore};

use answers::Answers;
use contents::Contents;
use suspects::Suspects;

pub use adopt::{Adoption, AdoptionProgress, survey};
pub use blob::StoredBlob;
pub use catalog::{Place, RepositoriesPage};
pub use check::{Check, Finding};
pub use collect::Garbage;
pub use contents::SharedCache;
pub use error::Error;
pub use export::{ExportError, ExportProgress, Exported};
pub use manifest::{ManifestPush, Precondition, PushedManifest};
pub use metadata::Connections;
pub use metadata::adoption::Finding as AdoptionFinding;
pub use pull::{BlobPlace, PulledBlob, PulledManifest};
pub use purge::{IdleUpload, Purged};
pub use receive::{Chunks, Interrupted};
pub use referrers::{ReferrersPage, ReferrersQuery};
pub use rules::{Children, Class, ClassRefused, Config, LayerUrls, PatternError, Platform};
pub use sessions::MAX_WAIT as MAX_UPLOAD_WAIT;
pub use store::Owner;
pub use transfer::{
    ExportFailed, ExportImages, ImageName, ImportImages, Refusal, Selection, TransferProgress,
};
pub use upload::{ChunkRange, UploadProgress};

/// Work that runs to its end whether or not its client stays, at most at once.
const MAX_WORK: u32 = 1 << 20;

/// A registry over one database and one store. Clones share them.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    metadata: Metadata,
    blobs: Arc<dyn Blobs>,
    config: Config,
    read_only: AtomicBool,
    database_id: OnceCell<String>,
    session_ids: session_ids::SessionIds,
    sessions: sessions::Sessions,
    replica: replica::Replica,
    round: adopt::Round,
    journal: journal::Journal,
    /// A permit for each piece of work that must run to its end.
    work: Arc<Semaphore>,
    /// The manifests that references lead to.
    found_manifests: Answers<(RepositoryName, Reference), metadata::manifests::Manifest>,
    /// The blobs that repositories serve.
    found_blobs: Answers<(RepositoryName, Digest), metadata::blobs::Blob>,
    suspects: Suspects,
    contents: Contents,
}

impl Registry {
    /// A registry that keeps its facts in `metadata` and its bytes in `blobs`.
    pub fn new(metadata: Metadata, blobs: Arc<dyn Blobs>, config: Config) -> Self {
        Self::with_cache(metadata, blobs, config, None)
    }

    /// The same, with small content in a cache, which other servers may share.
    pub fn with_cache(
        metadata: Metadata,
        blobs: Arc<dyn Blobs>,
        config: Config,
        cache: Option<Arc<dyn SharedCache>>,
    ) -> Self {
        let sessions = sessions::Sessions::default();
        let round = adopt::Round::default();
        let work = Arc::new(Semaphore::new(MAX_WORK as usize));
        let read_only = AtomicBool::new(config.read_only);
        Self {
            shared: Arc::new(Shared {
                metadata,
                blobs,
                config,
                read_only,
                database_id: OnceCell::new(),
                session_ids: session_ids::SessionIds::default(),
                sessions,
                replica: replica::Replica::default(),
                round,
                journal: journal::Journal::default(),
                work,
                found_manifests: Answers::new(),
                found_blobs: Answers::new(),
                suspects: Suspects::default(),
                contents: Contents::new(cache),
            }),
        }
    }

    /// Refuses pushes and deletes from now on, or takes them again. What has begun goes on to its
    /// end; adoption goes on, too.
    pub fn set_read_only(&self, read_only: bool) {
        self.shared.read_only.store(read_only, Ordering::Relaxed);
    }

    /// Whether pushes and deletes are refused.
    pub fn is_read_only(&self) -> bool {
        self.shared.read_only.load(Ordering::Relaxed)
    }

    /// Refuses what changes something while nothing may be changed.
    pub(crate) fn check_read_write(&self) -> Result<(), Error> {
        if self.is_read_only() { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Waits until every upload that was being received is saved: after this the process may end.
    pub async fn quiesce(&self) {
        // It fails only when closed, which it never is.
        let _ = self.shared.work.acquire_many(MAX_WORK).await;
    }

    /// Whether the database answers and the store takes writes: whether work can be sent here.
    pub async fn check_ready(&self) -> Result<(), Error> {
        self.metadata().ping().await?;
        self.blobs().check_writable().await?;
        Ok(())
    }

    /// How the connections to PostgreSQL are used; `None` without it.
    pub fn database_connections(&self) -> Option<Connections> {
        self.metadata().connections()
    }

    fn metadata(&self) -> &Metadata {
        &self.shared.metadata
    }

    fn blobs(&self) -> &dyn Blobs {
        &*self.shared.blobs
    }
}
