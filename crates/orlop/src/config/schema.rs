//! The tree held against the table of known keys: what is unknown, ignored or refused.

use super::error::{ConfigError, Origin};
use super::keys::{self, Key, Known, Support};
use super::tree::{Node, Value};

/// Warns of every key that has no effect; fails at the first that must not be passed over.
pub(super) fn check(root: &Node, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    check_section(root, &mut Vec::new(), warnings)
}

fn check_section(
    node: &Node,
    path: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let entries = match &node.value {
        Value::Null => return Ok(()),
        Value::Map(entries) => entries,
        Value::Scalar(_) | Value::List(_) => {
            let key = path.join(".");
            return Err(wrong(node, &key, "a section (`key: value` lines below it)"));
        }
    };
    for (name, child) in entries {
        let section = path.join(".");
        path.push(name.clone());
        match keys::find(path) {
            Some(Known::Key(key)) => apply(key, &path.join("."), child, warnings)?,
            Some(Known::Section) => check_section(child, path, warnings)?,
            None if keys::names_a_driver(&section).is_some() => {
                return Err(unknown_driver(child.origin.clone(), &section, name));
            }
            None => warnings.push(unknown(&child.origin, &section, name)),
        }
        path.pop();
    }
    Ok(())
}

/// What a key's mere presence means. `path` is its name in messages.
pub(super) fn apply(
    key: &Key,
    path: &str,
    node: &Node,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let origin = &node.origin;
    match key.support {
        Support::Used | Support::Unneeded => {}
        Support::Ignored(_) | Support::Refused(_) if node.is_inert() => {}
        Support::Ignored("") => {
            warnings.push(format!("{origin}: {path} has no effect in this version of Orlop"));
        }
        Support::Ignored(advice) => warnings
            .push(format!("{origin}: {path} has no effect in this version of Orlop: {advice}")),
        Support::Refused(reason) | Support::Forbidden(reason) => {
            return Err(ConfigError::Refused {
                origin: origin.clone(),
                key: path.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
    Ok(())
}

/// The refusal of a name that is no known driver of its section.
pub(super) fn unknown_driver(origin: Origin, section: &str, name: &str) -> ConfigError {
    let key = format!("{section}.{name}");
    let kind = keys::names_a_driver(section).unwrap_or("a key");
    let advice = match keys::nearest(&key) {
        Some(near) => format!("; did you mean {near}?"),
        None => format!("; `{section}` may hold {}", keys::names_in(section).join(", ")),
    };
    ConfigError::Unknown { origin, key, reason: format!("not the name of {kind}{advice}") }
}

fn unknown(origin: &Origin, section: &str, name: &str) -> String {
    let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
    let advice = match keys::nearest(&key) {
        Some(near) => format!("did you mean {near}?"),
        None if section.is_empty() => format!("known are {}", keys::names_in("").join(", ")),
        None => format!("`{section}` may hold {}", keys::names_in(section).join(", ")),
    };
    format!("{origin}: {key} is not a known key and is ignored; {advice}")
}

/// The error for a value that a key cannot have.
pub(super) fn wrong(node: &Node, key: &str, expected: &str) -> ConfigError {
    const LONGEST: usize = 60;
    let found = match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Scalar(text) if text.chars().count() > LONGEST => {
            let start: String = text.chars().take(LONGEST).collect();
            format!("{start:?}…")
        }
        Value::Scalar(text) => format!("{text:?}"),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a section".to_owned(),
    };
    ConfigError::Wrong {
        origin: node.origin.clone(),
        key: if key.is_empty() { "the file".to_owned() } else { key.to_owned() },
        expected: expected.to_owned(),
        found,
    }
}
