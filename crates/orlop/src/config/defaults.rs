//! What holds where nothing is set, put into the tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin};
use super::shape::{self, Shape};
use super::tree::{Node, Step, Value};

/// Where `registry:2` keeps its data.
const SYSTEM_DATA: &str = "/var/lib/registry";

/// Where no configuration file is given: a registry for the person at this machine.
pub(super) fn of_a_first_start(
    environment: &BTreeMap<String, String>,
) -> [(&'static str, String); 4] {
    [
        ("http.addr", "127.0.0.1:5000".to_owned()),
        ("storage.filesystem.rootdirectory", user_data(environment).display().to_string()),
        ("storage.delete.enabled", "true".to_owned()),
        ("validation.manifests.urls.allow", "^https?://".to_owned()),
    ]
}

/// The folder for this user's data (XDG Base Directory Specification), or the system's folder for
/// a user without a home.
fn user_data(environment: &BTreeMap<String, String>) -> PathBuf {
    let absolute = |name: &str| {
        let path = environment.get(name).map(Path::new)?;
        path.is_absolute().then(|| path.to_owned())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .map_or_else(|| PathBuf::from(SYSTEM_DATA), |data| data.join("orlop"))
}

/// Sets what is not set: the drivers, then `own`, then the defaults of the table.
pub(super) fn fill(root: &mut Node, own: &[(&'static str, String)]) -> Result<(), ConfigError> {
    for (section, driver) in [("storage", "filesystem"), ("auth", "none")] {
        if !has_driver(root, section) {
            set(root, &format!("{section}.{driver}"), Value::Map(Vec::new()))?;
        }
    }
    for (path, text) in own {
        let (section, _) = path.rsplit_once('.').unwrap_or_default();
        let belongs = section != "storage.filesystem" || root.get(section).is_some();
        if belongs && root.get(path).is_none() {
            set(root, path, Value::Scalar(text.clone()))?;
        }
    }
    fill_in(shape::root(), root);
    Ok(())
}

fn has_driver(root: &Node, section: &str) -> bool {
    let (Some(node), Some(shape)) = (root.child(section), shape::find(section)) else {
        return false;
    };
    node.entries().iter().any(|(name, _)| shape.literal(name).is_some_and(Shape::is_optional))
}

fn set(root: &mut Node, path: &str, value: Value) -> Result<(), ConfigError> {
    let steps: Vec<Step> = path.split('.').map(|name| Step::Name(name.to_owned())).collect();
    root.set(&steps, Node::new(value, Origin::Default)).map(drop)
}

fn fill_in(shape: &'static Shape, node: &mut Node) {
    match &mut node.value {
        Value::List(items) => {
            if let Some(item) = shape.item() {
                for node in items {
                    fill_in(item, node);
                }
            }
        }
        Value::Map(entries) => {
            for (name, child) in entries.iter_mut() {
                if let Some(known) = shape.child(name) {
                    fill_in(known, child);
                }
            }
            for (name, known) in shape.literals().filter(|(_, known)| !known.is_optional()) {
                let entry = entries.iter_mut().find(|(set, _)| set == name);
                if entry.as_ref().is_some_and(|(_, node)| !node.is_empty()) {
                    continue;
                }
                let Some(value) = of(known) else {
                    continue;
                };
                let node = Node::new(value, Origin::Default);
                match entry {
                    Some((_, empty)) => *empty = node,
                    None => entries.push((name.to_owned(), node)),
                }
            }
        }
        Value::Null | Value::Scalar(_) => {}
    }
}

/// The default of a key, or of the keys in a section.
fn of(shape: &Shape) -> Option<Value> {
    if shape.is_leaf() {
        let default = shape.default();
        return (!default.is_empty()).then(|| Value::Scalar(default.to_owned()));
    }
    let entries: Vec<_> = shape
        .literals()
        .filter(|(_, known)| !known.is_optional())
        .filter_map(|(name, known)| Some((name.to_owned(), Node::new(of(known)?, Origin::Default))))
        .collect();
    (!entries.is_empty()).then_some(Value::Map(entries))
}
