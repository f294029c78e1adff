//! A configuration as a tree whose every node knows where it comes from.
//!
//! Scalars keep their text as written (`0755` is not 755, `yes` is not `true`): which type a
//! scalar has is decided by the key that it stands under, not by YAML.

use super::error::{ConfigError, Origin};
use super::kind;

/// One value of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Where the key is written; for the top and for the items of a list, the value.
    pub(super) origin: Origin,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(String, Node)>),
}

/// One step of the way from the top to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Name(String),
    Item(usize),
}

impl Node {
    pub(super) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// What is not set.
    pub(super) fn null(origin: Origin) -> Self {
        Self::new(Value::Null, origin)
    }

    /// A text as it is; nothing if it is empty.
    pub(super) fn text(text: &str, origin: Origin) -> Self {
        let value = if text.is_empty() { Value::Null } else { Value::Scalar(text.to_owned()) };
        Self { value, origin }
    }

    /// The node under `name`, also if it holds nothing.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find_map(|(known, node)| (known == name).then_some(node))
    }

    pub(super) fn child_mut(&mut self, name: &str) -> Option<&mut Self> {
        self.entry_mut(name).map(|(_, node)| node)
    }

    /// The entry of a section, to be called otherwise.
    pub(super) fn entry_mut(&mut self, name: &str) -> Option<&mut (String, Self)> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|(known, _)| known == name),
            Value::Null | Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// The node at `path` (`http.debug.addr`), unless it or a section around holds nothing.
    pub(super) fn get(&self, path: &str) -> Option<&Self> {
        let found = path.split('.').try_fold(self, |node, name| node.child(name))?;
        (!found.is_empty()).then_some(found)
    }

    /// The entries of a section; none of anything else.
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// Puts `node` at the end of `steps`, making what is missing on the way and replacing what was
    /// there, which is returned.
    pub(super) fn set(&mut self, steps: &[Step], node: Self) -> Result<Self, ConfigError> {
        let Some((step, rest)) = steps.split_first() else {
            return Ok(std::mem::replace(self, node));
        };
        match step {
            Step::Name(name) => self.section_for(name, &node)?.set(rest, node),
            Step::Item(index) => self.item_for(*index, &node)?.set(rest, node),
        }
    }

    fn section_for(&mut self, name: &str, setter: &Self) -> Result<&mut Self, ConfigError> {
        self.name_to_section();
        if matches!(self.value, Value::Null) {
            self.value = Value::Map(Vec::new());
        }
        let origin = self.origin.clone();
        let Value::Map(entries) = &mut self.value else {
            let expected = format!("a section, because {} sets a key in it", setter.origin);
            return Err(unfit(origin, name, expected, "a list"));
        };
        let known = entries.iter().position(|(known, _)| known == name);
        let index = known.unwrap_or_else(|| {
            entries.push((name.to_owned(), Self::null(setter.origin.clone())));
            entries.len() - 1
        });
        let entry = entries.get_mut(index).map(|(_, node)| node);
        entry.ok_or_else(|| unfit(origin, name, "a section".to_owned(), "nothing"))
    }

    fn item_for(&mut self, index: usize, setter: &Self) -> Result<&mut Self, ConfigError> {
        self.value_to_list();
        if matches!(self.value, Value::Null) {
            self.value = Value::List(Vec::new());
        }
        let origin = self.origin.clone();
        let Value::List(items) = &mut self.value else {
            let expected = format!("a list, because {} sets an item of it", setter.origin);
            return Err(unfit(origin, &index.to_string(), expected, "a section"));
        };
        if index == items.len() {
            items.push(Self::null(setter.origin.clone()));
        }
        let count = items.len();
        items.get_mut(index).ok_or_else(|| {
            let expected = format!("a number up to {count}, which would be a new item");
            unfit(setter.origin.clone(), "the list", expected, &index.to_string())
        })
    }

    /// Makes `storage: inmemory` the same as `storage: {inmemory: }`.
    pub(super) fn name_to_section(&mut self) {
        if let Value::Scalar(name) = &mut self.value {
            let entry = Self::null(self.origin.clone());
            let name = std::mem::take(name);
            self.value = Value::Map(if name.is_empty() { Vec::new() } else { vec![(name, entry)] });
        }
    }

    /// Makes `hosts: a` the same as `hosts: [a]`.
    pub(super) fn value_to_list(&mut self) {
        if let Value::Scalar(text) = &mut self.value {
            let item = Self::text(text, self.origin.clone());
            self.value = Value::List(if text.is_empty() { Vec::new() } else { vec![item] });
        }
    }

    /// Whether nothing is set here. An empty section is something: a driver without parameters.
    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Scalar(text) => text.is_empty(),
            Value::List(_) | Value::Map(_) => false,
        }
    }

    /// Whether the node asks for nothing: empty, `false`, or made of such values only.
    pub(super) fn is_inert(&self) -> bool {
        match &self.value {
            Value::Null => true,
            // Not `n`, which is as good a name of something.
            Value::Scalar(text) => {
                text.is_empty()
                    || (!text.eq_ignore_ascii_case("n") && kind::boolean(text) == Some(false))
            }
            Value::List(items) => items.iter().all(Node::is_inert),
            Value::Map(entries) => entries.iter().all(|(_, node)| node.is_inert()),
        }
    }

    /// The text of a single value.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The error for a value that a key cannot have. What was found is not said of a secret.
    pub(super) fn wrong(&self, key: &str, expected: String, secret: bool) -> ConfigError {
        const LONGEST: usize = 60;
        let found = match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar(_) if secret => "a secret that is none".to_owned(),
            Value::Scalar(text) => {
                let text = without_password(text);
                let start: String = text.chars().take(LONGEST).collect();
                format!("{start:?}{}", if start == text { "" } else { "…" })
            }
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a section".to_owned(),
        };
        ConfigError::Wrong {
            origin: self.origin.clone(),
            key: if key.is_empty() { "the file".to_owned() } else { key.to_owned() },
            expected,
            found,
        }
    }
}

/// What stands for a secret.
pub(super) const MASK: &str = "********";

/// The text as it may be shown: a URL can hold a name and a password, and any text a URL.
pub(super) fn without_password(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((before, rest))) if before.len() > scheme.len() => {
            format!("{scheme}://{MASK}@{rest}")
        }
        _ => text.to_owned(),
    }
}

fn unfit(origin: Origin, key: &str, expected: String, found: &str) -> ConfigError {
    ConfigError::Wrong { origin, key: key.to_owned(), expected, found: found.to_owned() }
}
