//! Why the registry did not do what it was asked.

use metadata::Retry;
use oci::{Digest, ManifestError, Reference, RepositoryName};
use thiserror::Error;

use crate::ClassRefused;

/// A refusal, or a failure of what the registry stands on.
#[derive(Debug, Error)]
pub enum Error {
    /// A chunk does not begin where the upload stands.
    #[error("the upload stands at {received}, but the chunk begins at {start}")]
    ChunkOutOfOrder {
        /// Bytes that have arrived.
        received: u64,
        /// Where the chunk wanted to begin.
        start: u64,
    },
    /// A chunk has more or fewer bytes than it announced.
    #[error("the chunk announced {expected} bytes, but {found} came")]
    ChunkSize {
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The manifest is of a class that may not be pushed.
    #[error("{0}")]
    ClassRefused(#[from] ClassRefused),
    /// Deletes are switched off.
    #[error("deletes are disabled in the configuration of this registry")]
    DeletesDisabled,
    /// The content does not have the digest that the client gave.
    #[error("the content has the digest {found}, not {expected}")]
    DigestMismatch {
        /// What the client said.
        expected: Digest,
        /// What the content has.
        found: Digest,
    },
    /// The client went away before the end of what it was sending.
    #[error("the request ended before all its bytes had come")]
    Interrupted,
    /// The manifest breaks the rules of its kind.
    #[error("{0}")]
    ManifestInvalid(#[from] ManifestError),
    /// The manifest refers to what it may not refer to.
    #[error(
        "the manifest names {} URLs that are not allowed, and {} digests that are not in the \
         repository", .urls.len(), .missing.len()
    )]
    ManifestReferences {
        /// URLs of layers that are not allowed.
        urls: Vec<String>,
        /// Content that the repository does not have.
        missing: Vec<Digest>,
    },
    /// No manifest goes by this tag or digest.
    #[error("no manifest {reference} in {repository}")]
    ManifestUnknown {
        /// Where it was looked for.
        repository: RepositoryName,
        /// What was looked for.
        reference: Reference,
    },
    /// The database failed.
    #[error(transparent)]
    Metadata(#[from] metadata::Error),
    /// The tag or manifest is not in the state that the client made a condition.
    #[error("the condition does not hold: {}", match .current {
        Some(digest) => format!("it is {digest} now"),
        None => "it does not exist".to_owned(),
    })]
    PreconditionFailed {
        /// What it is now.
        current: Option<Digest>,
    },
    /// No blob of this digest is in the repository.
    #[error("no blob {digest} in {repository}")]
    BlobUnknown {
        /// Where it was looked for.
        repository: RepositoryName,
        /// What was looked for.
        digest: Digest,
    },
    /// Pushes and deletes are refused at present.
    #[error("this registry is read-only at present: pulls work, pushes and deletes do not")]
    ReadOnly,
    /// No such repository.
    #[error("no repository {0}")]
    RepositoryUnknown(RepositoryName),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] blobs::Error),
    /// Another request is writing to the upload and did not end in time.
    #[error("another request is writing to this upload")]
    UploadBusy,
    /// No such upload in the repository.
    #[error("no upload {id} in {repository}")]
    UploadUnknown {
        /// Where it was looked for.
        repository: RepositoryName,
        /// What was looked for.
        id: String,
    },
}

impl Retry for Error {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Metadata(error) if error.is_conflict())
    }
}
