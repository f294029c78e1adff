//! The configuration: a YAML file with the keys of `distribution`, then the `REGISTRY_*`
//! variables, then the defaults.
//!
//! Nothing is lost in silence: an unknown key is a warning, a wrong value is an error, and what
//! this version cannot do is named.
//!
//! The way of a configuration: text becomes a tree ([`yaml`]), variables are laid over it
//! ([`variables`]), older names become new ones ([`older`]), the tree is held against the table of
//! keys ([`check`]), defaults are filled in ([`defaults`]), and what the server acts on becomes
//! typed ([`settings`]).

mod changes;
mod check;
mod defaults;
mod duration;
mod error;
mod json_schema;
mod keys;
mod kind;
mod older;
mod settings;
mod shape;
mod show;
mod size;
#[cfg(test)]
mod tests;
mod tree;
mod variables;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use error::ConfigError;
pub(crate) use error::Refused;
pub(crate) use json_schema::json_schema;
#[allow(unused_imports)] // For those who take the settings.
pub(crate) use kind::Network;
#[allow(unused_imports)]
pub(crate) use settings::*;

use error::Origin;
use tree::{Node, Value};
use yaml::Duplicate;

/// What a mistake that could be passed over leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A warning.
    Lenient,
    /// An error: unknown keys and variables, keys that are written twice.
    Strict,
}

impl Mode {
    pub(crate) fn of(strict: bool) -> Self {
        if strict { Self::Strict } else { Self::Lenient }
    }
}

/// A configuration, and what its author should hear about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// One line each, to be logged as warnings.
    pub(crate) warnings: Vec<String>,
    /// What the configuration asks for and this version cannot do, one line each. A server must
    /// not start beside it.
    pub(crate) unsupported: Vec<String>,
    /// The file that was read, if any.
    pub(crate) source: Option<PathBuf>,
    tree: Node,
}

impl Loaded {
    /// The configuration as YAML, each value with the place where it was set. Without secrets.
    pub(crate) fn show(&self) -> String {
        show::show(&self.tree)
    }

    /// The keys of which `later` says something else, in order.
    pub(crate) fn changes(&self, later: &Self) -> Vec<String> {
        changes::between(&self.tree, &later.tree)
    }

    /// How many keys are set, by a file or a variable.
    pub(crate) fn count(&self) -> usize {
        show::count(&self.tree)
    }
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
        mode: Mode,
    ) -> Result<Loaded, Refused> {
        let mut notes = Notes::new(mode);
        let read = read(path, &environment.collect(), &mut notes);
        let Notes { warnings, unsupported, .. } = notes;
        match read {
            Ok((config, tree)) => {
                let source = path.map(Path::to_owned);
                Ok(Loaded { config, warnings, unsupported, source, tree })
            }
            Err(error) => Err(Refused { error, warnings }),
        }
    }
}

fn read(
    path: Option<&Path>,
    environment: &BTreeMap<String, String>,
    notes: &mut Notes,
) -> Result<(Config, Node), ConfigError> {
    let (mut tree, own_defaults) = match path {
        Some(path) => (read_file(path, notes)?, Vec::new()),
        None => (nothing(), defaults::of_a_first_start(environment).to_vec()),
    };
    normalize(&mut tree);
    variables::overlay(&mut tree, environment, notes)?;
    older::modernize(&mut tree, notes)?;
    check::check(&tree, notes);
    ConfigError::of(std::mem::take(&mut notes.errors))?;
    defaults::fill(&mut tree, &own_defaults)?;
    Ok((settings::read(&tree, notes)?, tree))
}

/// The variables of this process. What is not UTF-8 in them becomes U+FFFD, so that it is seen
/// rather than lost.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        (text(name), text(value))
    })
}

/// What is to be said of a configuration that is not wrong.
struct Notes {
    mode: Mode,
    warnings: Vec<String>,
    unsupported: Vec<String>,
    /// What is wrong, gathered so that all of it can be named at once.
    errors: Vec<ConfigError>,
}

impl Notes {
    fn new(mode: Mode) -> Self {
        Self { mode, warnings: Vec::new(), unsupported: Vec::new(), errors: Vec::new() }
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// A warning that is an error in [`Mode::Strict`].
    fn unknown(&mut self, text: String) {
        match self.mode {
            Mode::Strict => self.errors.push(ConfigError::Strict(text)),
            Mode::Lenient => self.warnings.push(text),
        }
    }

    fn duplicates(&mut self, duplicates: &[Duplicate]) {
        for Duplicate { name, used, lost } in duplicates {
            self.unknown(format!(
                "{used}: {name} is written twice in this section; this one counts, the one at \
                 {lost} does not"
            ));
        }
    }

    /// What is asked for at `key` comes with a later version.
    fn later(&mut self, origin: &Origin, key: &str) {
        self.unsupported.push(format!(
            "{origin}: {key} comes with a later version of Orlop; this one does not start with it"
        ));
    }

    /// What is asked for at `key` is no part of Orlop.
    fn foreign(&mut self, origin: &Origin, key: &str) {
        self.unsupported.push(format!(
            "{origin}: {key} names code that was compiled into another registry; Orlop has no such \
             code and does not start with it"
        ));
    }
}

fn read_file(path: &Path, notes: &mut Notes) -> Result<Node, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|reason| ConfigError::Unreadable { path: path.to_owned(), reason })?;
    let file: Arc<str> = Arc::from(path.to_string_lossy());
    let parsed = yaml::file(&text, &file)?;
    notes.duplicates(&parsed.duplicates);
    let is_section = matches!(parsed.root.value, Value::Map(_) | Value::Null);
    if is_section && parsed.root.get("version").is_none() {
        notes.errors.push(ConfigError::NoVersion { file });
    }
    Ok(parsed.root)
}

/// The tree of no file.
fn nothing() -> Node {
    Node::new(Value::Map(Vec::new()), Origin::Variable(Arc::from("the environment")))
}

/// Gives the sections of drivers one form: `storage: s3` and `storage: {s3aws: }` are
/// `storage: {s3: {}}`.
fn normalize(root: &mut Node) {
    for section in ["storage", "auth"] {
        let (Some(node), Some(shape)) = (root.child_mut(section), shape::find(section)) else {
            continue;
        };
        node.name_to_section();
        if node.child("s3").is_none()
            && let Some(entry) = node.entry_mut("s3aws").filter(|_| section == "storage")
        {
            "s3".clone_into(&mut entry.0);
        }
        if let Value::Map(entries) = &mut node.value {
            for (name, driver) in entries {
                if driver.is_empty() && shape.literal(name).is_some_and(shape::Shape::is_optional) {
                    driver.value = Value::Map(Vec::new());
                }
            }
        }
    }
}
