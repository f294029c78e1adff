//! What can go wrong between a fact and its database.

use std::fmt;
use std::path::Path;

/// A failed statement, transaction or start-up.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// A competing transaction won; run this one again. Only PostgreSQL says so.
    Conflict,
    /// The file is not an Orlop database, is damaged, or belongs to a newer version.
    Damaged,
    /// No space is left for the database.
    Full,
    /// The disk does not do as it is told.
    Io,
    /// Anything else: a lost connection, a defect of ours.
    Other,
    /// The database can be read, but not written.
    ReadOnly,
    /// The database can not be reached, or not used, at present; it may be soon.
    Unavailable,
}

impl Error {
    /// An error of `kind` that explains itself with `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What happened, without saying that it was the database.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database: {}", self.message)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What SQLite says of the file at `path`.
    pub(crate) fn from_sqlite(error: &rusqlite::Error, path: &Path) -> Self {
        use rusqlite::ErrorCode;
        let (kind, meaning) = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                (ErrorKind::Damaged, "is damaged or not a database of Orlop")
            }
            Some(ErrorCode::DiskFull) => (ErrorKind::Full, "has no space to grow"),
            Some(ErrorCode::ReadOnly) => (ErrorKind::ReadOnly, "cannot be written"),
            Some(ErrorCode::SystemIoFailure) => (ErrorKind::Io, "cannot be read or written"),
            _ => return Self::new(ErrorKind::Other, error.to_string()),
        };
        Self::new(kind, format!("{} {meaning}: {error}", path.display()))
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        use tokio_postgres::error::SqlState;
        let kind = match error.code() {
            Some(
                &SqlState::T_R_SERIALIZATION_FAILURE
                | &SqlState::T_R_DEADLOCK_DETECTED
                // Two servers that make the schema at once see this.
                | &SqlState::DUPLICATE_TABLE
                | &SqlState::UNIQUE_VIOLATION,
            ) => ErrorKind::Conflict,
            Some(&SqlState::DISK_FULL) => ErrorKind::Full,
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => ErrorKind::ReadOnly,
            Some(
                &SqlState::ADMIN_SHUTDOWN
                | &SqlState::CRASH_SHUTDOWN
                | &SqlState::CANNOT_CONNECT_NOW
                | &SqlState::TOO_MANY_CONNECTIONS,
            ) => ErrorKind::Unavailable,
            None if error.is_closed() || has_io_source(&error) => ErrorKind::Unavailable,
            _ => ErrorKind::Other,
        };
        if kind == ErrorKind::ReadOnly {
            return Self::new(
                kind,
                format!(
                    "it takes no writes, as a standby does: name the primary in database.url: {}",
                    describe(&error)
                ),
            );
        }
        Self::new(kind, describe(&error))
    }
}

fn has_io_source(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// The error and what caused it. PostgreSQL's own words are enough where it has some.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
