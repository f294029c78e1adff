//! What can be wrong with images in files.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;

/// Why images can not be read or written. Each message is one line that names the place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is something else.
    #[error(
        "expected an OCI image layout (a folder or tar with the files oci-layout and index.json) \
         or an archive of `docker save` (a tar with the file manifest.json), found {found}"
    )]
    NotImages {
        /// What it is instead.
        found: String,
    },
    /// A file of the folder or tar is not what it should be.
    #[error("{path}: {problem}")]
    Member {
        /// Its name there.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The tar itself is not what it should be.
    #[error("the tar is damaged: {problem}")]
    Tar {
        /// What is wrong.
        problem: String,
    },
    /// A document is longer than a registry takes.
    #[error(
        "{digest}: a manifest of {size} bytes, but at most {} are allowed",
        oci::MAX_MANIFEST_SIZE
    )]
    TooLarge {
        /// Which.
        digest: Digest,
        /// Its bytes.
        size: u64,
    },
    /// Content has more or fewer bytes than its descriptor says.
    #[error("{digest}: expected {expected} bytes, found {found}")]
    Size {
        /// Which.
        digest: Digest,
        /// What the descriptor says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// Content is not that of its digest.
    #[error("{expected}: its bytes have the digest {found}")]
    Digest {
        /// What the content should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob is not what it should be, and what was written of it stays.
    #[error("{wrong}; {error}")]
    Spoiled {
        /// What is wrong with the blob.
        wrong: Box<Error>,
        /// Why it could not be taken back.
        error: Box<Error>,
    },
    /// Two write to one place.
    #[error("another export is writing to {}", path.display())]
    Busy {
        /// The place.
        path: PathBuf,
    },
    /// The disk failed.
    #[error("{action}: {error}")]
    Io {
        /// What was being done, to what.
        action: String,
        /// Why it failed. (The message has it in it, so it is no `source`.)
        error: io::Error,
    },
}

impl Error {
    pub(crate) fn member(path: &str, problem: impl Into<String>) -> Self {
        Self::Member { path: shorten(path), problem: problem.into() }
    }

    pub(crate) fn io(action: &str, path: &Path, error: io::Error) -> Self {
        Self::Io { action: format!("cannot {action} {}", path.display()), error }
    }
}

/// A stranger's text, as far as a line of a message should show it.
pub(crate) fn shorten(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut short: String = plain.take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
