//! The configuration: a YAML file with the keys of `distribution`, then the `REGISTRY_*`
//! variables, then the defaults.
//!
//! Nothing is lost in silence: an unknown key is a warning, a wrong value is an error, and so is
//! a key whose absence would open the registry or move its data.

mod duration;
mod error;
mod keys;
mod schema;
mod settings;
#[cfg(test)]
mod tests;
mod tree;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use error::ConfigError;

use error::Origin;
use settings::Defaults;
use tree::{Node, Value};

/// All that can be set, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) log: Log,
    pub(crate) http: Http,
    pub(crate) storage: Storage,
    pub(crate) validation: Validation,
    /// The most repositories in one page of the catalogue (`catalog.maxentries`).
    pub(crate) catalog_max_entries: u32,
    /// The most tags in one page (`tags.maxtags`).
    pub(crate) tags_max: u32,
}

/// `log`: what is written to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_field_names)] // "access log" is the term.
pub(crate) struct Log {
    pub(crate) level: Level,
    pub(crate) formatter: Formatter,
    /// Whether each request is a line of its own, whatever the level.
    pub(crate) access_log: bool,
    /// Added to every line.
    pub(crate) fields: BTreeMap<String, String>,
}

/// The least important lines that are still written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Formatter {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// `http`: where the registry listens and what it answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    /// `host:port`; an empty host is every address of the machine. The port is a number.
    pub(crate) addr: String,
    /// What instances behind one load balancer share. `distribution` signs the state of uploads
    /// with it; Orlop keeps that state in the database.
    pub(crate) secret: Option<Secret>,
    /// `https://name[:port]`, the start of every absolute URL in an answer; no slash at the end.
    pub(crate) host: Option<String>,
    /// Whether `Location` holds a path only.
    pub(crate) relative_urls: bool,
    /// Added to every answer of the API. Valid names and values, in the order of the file; a name
    /// occurs once per value.
    pub(crate) headers: Vec<(String, String)>,
    /// How long running requests may take after a SIGTERM.
    pub(crate) drain_timeout: Duration,
    /// Where health and metrics are served; of the form of `addr`.
    pub(crate) debug_addr: Option<String>,
    /// The path of the metrics on `debug_addr`; none without `debug_addr`. Starts with `/`.
    pub(crate) prometheus_path: Option<String>,
}

/// `storage`: where the bytes are and how long leftovers stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) root_directory: PathBuf,
    /// Whether clients may delete.
    pub(crate) delete_enabled: bool,
    /// How long an upload may lie untouched before it is removed; above zero.
    pub(crate) upload_age: Duration,
    /// How often such uploads are looked for; above zero.
    pub(crate) upload_purge_interval: Duration,
    /// Whether they are looked for at all.
    pub(crate) upload_purging: bool,
}

/// `validation`: what a manifest refers to and must be there before it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validation {
    /// The manifests that an index lists.
    pub(crate) index_children: Require,
    /// The configuration and the layers of an image.
    pub(crate) image_blobs: Require,
}

/// How much of what is referred to must exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Require {
    All,
    None,
}

/// A text that no log line or message shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself: for use, never for output. Nothing outside the tests needs it yet.
    #[cfg(test)]
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// A configuration, and what its author should hear about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// One line each, to be logged as warnings.
    pub(crate) warnings: Vec<String>,
    /// The file that was read, if any.
    pub(crate) source: Option<PathBuf>,
}

impl Config {
    /// Reads the file, if one is given, and lays the variables over it.
    ///
    /// Of `environment`, `REGISTRY_*`, `XDG_DATA_HOME` and `HOME` count; the last two only
    /// without a file, for the place of the data. A variable sets its own key only: it does not
    /// change what "without a file" means for the others.
    pub(crate) fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let environment: BTreeMap<String, String> = environment.collect();
        let mut warnings = Vec::new();
        let (mut root, defaults) = match path {
            Some(path) => (read_file(path)?, Defaults::of_distribution()),
            None => (nothing(), Defaults::of_a_first_start(&environment)),
        };
        variables::overlay(&mut root, &environment, &mut warnings)?;
        for section in ["storage", "auth"] {
            if let Some(node) = root.section_mut(section) {
                node.name_to_section();
            }
        }
        schema::check(&root, &mut warnings)?;
        let config = settings::read(&root, defaults, &mut warnings)?;
        Ok(Loaded { config, warnings, source: path.map(Path::to_owned) })
    }
}

/// The variables of this process. What is not UTF-8 in them becomes U+FFFD, so that it is seen
/// rather than lost.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        (text(name), text(value))
    })
}

fn read_file(path: &Path) -> Result<Node, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })?;
    let file: Arc<str> = Arc::from(path.to_string_lossy());
    let root = Node::from_file(&text, &file)?;
    if root.get("version").is_none() {
        return Err(ConfigError::NoVersion { file });
    }
    Ok(root)
}

/// The tree of no file.
fn nothing() -> Node {
    Node { value: Value::Null, origin: Origin::Variable(Arc::from("the environment")) }
}
