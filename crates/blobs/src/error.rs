//! What can go wrong between bytes and their place.

use std::fmt;
use std::io;
use std::path::Path;

/// A failed operation of a blob store.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    /// What was being done, to what: for the log, not for clients.
    context: String,
    cause: String,
}

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// It is there, but not what was stored.
    Damaged,
    /// No space (or quota, or inode) is left.
    Full,
    /// It is not there.
    NotFound,
    /// Anything else.
    Other,
    /// It can not be written.
    ReadOnly,
    /// The store can not be reached, or does not do as it is told, at present.
    Unavailable,
    /// This kind of store can not do that.
    Unsupported,
}

/// What is done without writing.
const READING: [&str; 4] = ["list", "look up", "open", "read"];

impl Error {
    pub(crate) fn new(action: &str, path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            io::ErrorKind::PermissionDenied if !READING.contains(&action) => ErrorKind::ReadOnly,
            _ => ErrorKind::Other,
        };
        Self::of(kind, format!("{action} {}", path.display()), source)
    }

    pub(crate) fn of(kind: ErrorKind, context: String, cause: impl fmt::Display) -> Self {
        Self { kind, context, cause: cause.to_string() }
    }

    pub(crate) fn not_found(context: String) -> Self {
        Self::of(ErrorKind::NotFound, context, "it is not there")
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the store does not have what was stored any more: nothing, or something else.
    pub fn is_loss(&self) -> bool {
        matches!(self.kind, ErrorKind::Damaged | ErrorKind::NotFound)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "storage: cannot {}: {}", self.context, self.cause)
    }
}

// The message has the cause in it, so there is no `source`.
impl std::error::Error for Error {}

impl From<objects::Error> for Error {
    fn from(error: objects::Error) -> Self {
        let kind = match error.kind() {
            objects::ErrorKind::NotFound => ErrorKind::NotFound,
            objects::ErrorKind::Denied => ErrorKind::Other,
            objects::ErrorKind::Other => ErrorKind::Unavailable,
        };
        Self::of(kind, error.context().to_owned(), error.cause())
    }
}
