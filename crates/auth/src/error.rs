//! Why access could not be set up.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A part of the configuration that can not be used.
#[derive(Debug, Error)]
pub enum Error {
    /// A file can not be read or made.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why. (The message has it in it, so it is no `source`.)
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", .path.display())]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing says which tokens to trust.
    #[error("no key to check tokens with: set rootcertbundle, jwks, or the URL of a JWKS")]
    NoKeys,
    /// Not the name of a signature algorithm.
    #[error(
        "{0:?} is not a signature algorithm: use EdDSA, or HS, RS, ES or PS with 256, 384 or 512"
    )]
    Algorithm(String),
    /// The system has no random bytes.
    #[error("the system gives no random bytes to make keys of")]
    Random,
}
