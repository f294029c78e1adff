//! Why a configuration was refused, and where in it the reason stands.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A configuration that the registry will not start with. Each text is a line: where, which key,
/// what was expected, what was found.
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

    /// What is set here does not go with what is set elsewhere, or is the name of nothing.
    #[error("{origin}: {key}: {reason}")]
    Unfit { origin: Origin, key: String, reason: String },

    /// With `--strict`: what is else a warning.
    #[error("{0}")]
    Strict(String),

    /// More than one of these, a line each.
    #[error("{}", lines(.0))]
    Several(Vec<ConfigError>),
}

/// A refused configuration, and the warnings about it: a key that is missing may be there under a
/// name with a mistake.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: ConfigError,
    /// One line each.
    pub(crate) warnings: Vec<String>,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

impl ConfigError {
    /// All of these as one; nothing if there are none.
    pub(super) fn of(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.pop() {
            None => Ok(()),
            Some(only) if errors.is_empty() => Err(only),
            Some(last) => {
                errors.push(last);
                Err(Self::Several(errors))
            }
        }
    }
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody set it.
    Default,
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
            Self::Default => f.write_str("default"),
            Self::File { file, line: 0, .. } => f.write_str(file),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}
