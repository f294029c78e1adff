//! Why a configuration was refused, and where in it the reason stands.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A configuration that the registry will not start with. Each text is one line: where, which
/// key, what was expected, what was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file that was asked for cannot be read.
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: io::Error },

    /// The file, or the value of a variable, is not YAML.
    #[error("{origin}: not valid YAML: {reason}")]
    NotYaml { origin: Origin, reason: String },

    /// The file does not start with the one version there is.
    #[error("{file}: version: expected a line `version: 0.1`, found none")]
    NoVersion { file: Arc<str> },

    /// A known key with a value that it cannot have.
    #[error("{origin}: {key}: expected {expected}, found {found}")]
    Wrong { origin: Origin, key: String, expected: String, found: String },

    /// A key that asks for something this version cannot do, where going on without it would be
    /// worse than not starting.
    #[error(
        "{origin}: {key}: not supported by this version of Orlop, and unsafe to leave out: {reason}"
    )]
    Refused { origin: Origin, key: String, reason: String },

    /// A name where only a fixed set can stand, such as a storage driver.
    #[error("{origin}: {key}: {reason}")]
    Unknown { origin: Origin, key: String, reason: String },
}

/// Where a value comes from: a place in the file, or an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    File {
        file: Arc<str>,
        /// Counted from 1; 0 when the parser does not know.
        line: u64,
        column: u64,
    },
    Variable(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line: 0, .. } => f.write_str(file),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}
