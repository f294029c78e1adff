//! What can go wrong with an object store.

use std::fmt;

/// A request that an object store did not fulfil.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    /// What was being done, to what: for the log, not for clients.
    context: String,
    cause: String,
}

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// The store refuses: the credentials are wrong, or may not do this.
    Denied,
    /// It is not there.
    NotFound,
    /// Anything else, after it was tried several times where that made sense.
    Other,
}

impl Error {
    /// Stores answer with pages of XML, of which the log gets one line.
    pub(crate) fn new(kind: ErrorKind, context: String, cause: impl Into<String>) -> Self {
        let mut cause = cause.into();
        if cause.contains(['\n', '\r', '\t']) {
            cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        Self { kind, context, cause }
    }

    /// The same, when something else can be done about it.
    pub(crate) fn of(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was being done, to what.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// What the store, or the way to it, had against it.
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.context, self.cause)
    }
}

// The message has the cause in it, so there is no `source`.
impl std::error::Error for Error {}
