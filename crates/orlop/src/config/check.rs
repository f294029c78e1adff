//! The tree held against the table of keys: what is unknown, wrong, gone or yet to come.

use super::Notes;
use super::error::{ConfigError, Origin};
use super::keys::State;
use super::kind::{self, Kind};
use super::shape::{self, Shape};
use super::tree::{Node, Value};

/// Notes what has no effect, what this version cannot do, and every value that is wrong.
pub(super) fn check(root: &Node, notes: &mut Notes) {
    let mut check = Check { notes };
    check.drivers(root);
    check.visit(shape::root(), root, "");
}

struct Check<'a> {
    notes: &'a mut Notes,
}

impl Check<'_> {
    /// `path` is the name of the node in messages, with numbers in the place of `[]`.
    fn visit(&mut self, shape: &'static Shape, node: &Node, path: &str) {
        if node.is_empty() {
            return;
        }
        match shape.state() {
            State::Removed => {
                if !node.is_inert() {
                    let meaning = shape.key.map_or("", |key| key.meaning);
                    self.notes.warn(format!("{}: {path} has no effect: {meaning}", node.origin));
                }
                return;
            }
            State::Later if !is_switched_off(node) => self.notes.later(&node.origin, path),
            State::Foreign if !is_switched_off(node) => self.notes.foreign(&node.origin, path),
            State::Later | State::Foreign | State::Current | State::Older(_) => {}
        }
        if shape.is_leaf() {
            self.value(shape, node, path);
        } else if let Some(item) = shape.item() {
            self.list(item, node, path);
        } else {
            self.section(shape, node, path);
        }
    }

    fn value(&mut self, shape: &Shape, node: &Node, path: &str) {
        let kind = shape.kind();
        let fits = kind == Kind::Free || node.as_text().is_some_and(|text| kind.accepts(text));
        if !fits {
            self.notes.errors.push(node.wrong(path, kind.expected(), kind.is_secret()));
        }
    }

    fn list(&mut self, item: &'static Shape, node: &Node, path: &str) {
        match &node.value {
            Value::List(items) => {
                for (index, node) in items.iter().enumerate() {
                    self.visit(item, node, &format!("{path}[{index}]"));
                }
            }
            Value::Scalar(_) if item.is_leaf() => self.value(item, node, path),
            Value::Null | Value::Scalar(_) | Value::Map(_) => {
                let expected = "a list (`- item` lines below it)".to_owned();
                self.notes.errors.push(node.wrong(path, expected, item.kind().is_secret()));
            }
        }
    }

    fn section(&mut self, shape: &'static Shape, node: &Node, path: &str) {
        let Value::Map(entries) = &node.value else {
            self.notes.errors.push(node.wrong(path, Kind::Section.expected(), false));
            return;
        };
        for (name, child) in entries {
            let child_path = join(path, name);
            if shape.holds_headers() && !kind::is_header_name(name) {
                let expected = "a header's name (letters, digits and `-`) as the key".to_owned();
                self.notes.errors.push(child.wrong(&child_path, expected, true));
            } else if let Some(known) = shape.child(name) {
                self.visit(known, child, &child_path);
            } else if driver_kind(path).is_some() {
                self.notes.errors.push(unknown_driver(child.origin.clone(), path, name));
            } else {
                self.notes.unknown(unknown(shape, &child.origin, path, name));
            }
        }
        if is_switched_off(node) {
            return;
        }
        for (name, child) in shape.literals().filter(|(_, child)| child.is_required()) {
            let set = node.child(name);
            if set.is_none_or(Node::is_blank) {
                let kind = child.item().unwrap_or(child).kind();
                self.notes.errors.push(ConfigError::Wrong {
                    origin: set.unwrap_or(node).origin.clone(),
                    key: join(path, name),
                    expected: kind.expected(),
                    found: "nothing".to_owned(),
                });
            }
        }
    }

    /// One store and one way to find out who somebody is.
    fn drivers(&mut self, root: &Node) {
        for section in ["storage", "auth"] {
            let (Some(node), Some(shape)) = (root.child(section), shape::find(section)) else {
                continue;
            };
            let mut chosen = node.entries().iter().filter(|(name, _)| {
                shape.literal(name).is_none_or(|shape| shape.key.is_some_and(|key| key.optional))
            });
            if let (Some((one, first)), Some((other, second))) = (chosen.next(), chosen.next()) {
                let kind = driver_kind(section).unwrap_or_default();
                let advice = match second.origin {
                    Origin::Variable(_) => {
                        let variable = section.to_ascii_uppercase();
                        format!(
                            "; REGISTRY_{variable}={other} would put one in the place of the other"
                        )
                    }
                    Origin::File { .. } | Origin::Default => {
                        ", and there can be only one".to_owned()
                    }
                };
                self.notes.errors.push(ConfigError::Unfit {
                    origin: second.origin.clone(),
                    key: format!("{section}.{other}"),
                    reason: format!(
                        "there is {kind} already, {section}.{one} ({}){advice}",
                        first.origin
                    ),
                });
            }
        }
    }
}

impl Node {
    /// Whether nothing is set here, or a list of nothing.
    fn is_blank(&self) -> bool {
        match &self.value {
            Value::List(items) => items.iter().all(Node::is_empty),
            _ => self.is_empty(),
        }
    }
}

/// What an unknown name in these sections would be: a driver or an access controller that nobody
/// has heard of, which must not be passed over.
fn driver_kind(section: &str) -> Option<&'static str> {
    match section {
        "storage" => Some("a storage driver"),
        "auth" => Some("an access controller"),
        _ => None,
    }
}

/// The refusal of a name that is no known driver of its section.
pub(super) fn unknown_driver(origin: Origin, section: &str, name: &str) -> ConfigError {
    // Something else may have come here by mistake, perhaps a secret.
    let is_name = name.len() <= 40
        && name.chars().all(|letter| letter.is_alphanumeric() || "-_.".contains(letter));
    let name = if is_name { name } else { "…" };
    let key = format!("{section}.{name}");
    let kind = driver_kind(section).unwrap_or("a key");
    let advice = match (shape::nearest(&key), shape::find(section)) {
        (Some(near), _) => format!("; did you mean {near}?"),
        (None, Some(shape)) => format!("; `{section}` may hold {}", names(shape)),
        (None, None) => String::new(),
    };
    ConfigError::Unfit { origin, key, reason: format!("not the name of {kind}{advice}") }
}

fn unknown(shape: &Shape, origin: &Origin, section: &str, name: &str) -> String {
    let key = join(section, name);
    let advice = match shape::nearest(&join(shape.path, name)) {
        Some(near) => format!("did you mean {}?", near.replace(".[]", "[]")),
        None if section.is_empty() => format!("known are {}", names(shape)),
        None => format!("`{section}` may hold {}", names(shape)),
    };
    format!("{origin}: {key} is not a known key and has no effect; {advice}")
}

/// The names that may stand in a section, without the older ones.
fn names(shape: &Shape) -> String {
    let known = shape.literals().filter(|(_, shape)| shape.state() == State::Current);
    known.map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

fn is_switched_off(node: &Node) -> bool {
    node.get("disabled").and_then(Node::as_text).and_then(kind::boolean) == Some(true)
}
