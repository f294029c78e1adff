//! YAML as a tree whose every node knows where it comes from.
//!
//! Scalars keep their text as written (`0755` is not 755, `yes` is not `true`): which type a
//! scalar has is decided by the key that reads it, not by YAML.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::error::{ConfigError, Origin};

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

impl Node {
    /// Parses the text of a configuration file. `file` is its name in messages.
    pub(super) fn from_file(text: &str, file: &Arc<str>) -> Result<Self, ConfigError> {
        parse(text, &|location| Origin::File {
            file: file.clone(),
            line: location.line(),
            column: location.column(),
        })
    }

    /// Parses the value of an environment variable, which may be a whole section.
    pub(super) fn from_variable(text: &str, name: &Arc<str>) -> Result<Self, ConfigError> {
        parse(text, &|_| Origin::Variable(name.clone()))
    }

    /// The text of an environment variable as one scalar; nothing if it is empty.
    pub(super) fn from_text(text: &str, name: &Arc<str>) -> Self {
        let value = if text.is_empty() { Value::Null } else { Value::Scalar(text.to_owned()) };
        Self { value, origin: Origin::Variable(name.clone()) }
    }

    /// The node at `path` (`http.debug.addr`), unless it or a parent is absent or null.
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        let found = path.split('.').try_fold(self, |node, key| node.child(key))?;
        (!matches!(found.value, Value::Null)).then_some(found)
    }

    /// The node at the top-level `key`.
    pub(super) fn section_mut(&mut self, key: &str) -> Option<&mut Node> {
        let Value::Map(entries) = &mut self.value else {
            return None;
        };
        entries.iter_mut().find_map(|(name, node)| (name == key).then_some(node))
    }

    fn child(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries.iter().find_map(|(name, node)| (name == key).then_some(node))
    }

    /// The names in the section at `path`.
    pub(super) fn names(&self, path: &[String]) -> impl Iterator<Item = &str> {
        let section = path.iter().try_fold(self, |node, key| node.child(key));
        let entries = match section.map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(name, _)| name.as_str())
    }

    /// Puts `node` at `path`, making the sections on the way and replacing what was there.
    pub(super) fn set(&mut self, path: &[String], node: Node) -> Result<(), ConfigError> {
        let Some((key, rest)) = path.split_first() else {
            *self = node;
            return Ok(());
        };
        self.name_to_section();
        if matches!(self.value, Value::Null) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else {
            return Err(ConfigError::Wrong {
                origin: self.origin.clone(),
                key: key.clone(),
                expected: format!("a section, because {} sets a key in it", node.origin),
                found: "a list".to_owned(),
            });
        };
        if let Some((_, child)) = entries.iter_mut().find(|(name, _)| name == key) {
            return child.set(rest, node);
        }
        let mut child = Node { value: Value::Null, origin: node.origin.clone() };
        child.set(rest, node)?;
        entries.push((key.clone(), child));
        Ok(())
    }

    /// Makes `storage: inmemory` the same as `storage: {inmemory: }`.
    pub(super) fn name_to_section(&mut self) {
        if let Value::Scalar(name) = &mut self.value {
            let entry = Node { value: Value::Null, origin: self.origin.clone() };
            let name = std::mem::take(name);
            self.value = Value::Map(if name.is_empty() { Vec::new() } else { vec![(name, entry)] });
        }
    }

    /// Whether the node asks for nothing: empty, `false`, or made of such values only.
    pub(super) fn is_inert(&self) -> bool {
        match &self.value {
            Value::Null => true,
            // Not `n`, which is as good a name of something.
            Value::Scalar(text) => {
                text.is_empty() || (!text.eq_ignore_ascii_case("n") && as_bool(text) == Some(false))
            }
            Value::List(items) => items.iter().all(Node::is_inert),
            Value::Map(entries) => entries.iter().all(|(_, node)| node.is_inert()),
        }
    }
}

/// The truth values of YAML 1.1, which configurations in the field are written in.
pub(super) fn as_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

fn parse(text: &str, origin: &dyn Fn(Location) -> Origin) -> Result<Node, ConfigError> {
    let options = serde_saphyr::options! {
        with_snippet: false, // a snippet would put the lines around, secrets included, into a log
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
    };
    let raw =
        serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options).map_err(|error| {
            ConfigError::NotYaml {
                origin: origin(error.location().unwrap_or(Location::UNKNOWN)),
                reason: UserMessageFormatter.format_message(&error).into_owned(),
            }
        })?;
    Ok(Node { origin: origin(raw.referenced), value: raw.value.value(raw.defined, text, origin) })
}

/// What the YAML library hands out, before a scalar's text is fetched from the source.
enum Raw {
    Null,
    /// Unquoted and not a string in YAML's eyes; with the library's own rendering.
    Plain(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl Raw {
    fn value(self, defined: Location, source: &str, origin: &dyn Fn(Location) -> Origin) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Plain(rendered) => {
                Value::Scalar(as_written(source, defined).map_or(rendered, str::to_owned))
            }
            Self::Text(text) => Value::Scalar(text),
            Self::List(items) => Value::List(
                items
                    .into_iter()
                    .map(|item| Node {
                        origin: origin(item.referenced),
                        value: item.value.value(item.defined, source, origin),
                    })
                    .collect(),
            ),
            Self::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, item)| {
                        let node = Node {
                            origin: origin(key.referenced),
                            value: item.value.value(item.defined, source, origin),
                        };
                        (key.value, node)
                    })
                    .collect(),
            ),
        }
    }
}

/// The text of a plain scalar, which ends where its span does.
fn as_written(source: &str, place: Location) -> Option<&str> {
    let start = usize::try_from(place.span().byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(place.span().byte_len()?).ok()?)?;
    let text = source.get(start..end)?.trim();
    let plain = !text.is_empty() && !text.starts_with(['"', '\'', '!', '&', '*']);
    plain.then_some(text)
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        Node::from_file(text, &Arc::from("c.yml")).expect("valid YAML")
    }

    fn scalar<'a>(node: &'a Node, path: &str) -> &'a str {
        match &node.get(path).expect(path).value {
            Value::Scalar(text) => text,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn scalars_keep_their_text() {
        let node = tree(
            "a: 0755\nb: yes\nc: 1e3  # comment\nd: '007'\ne: é ü\nf: {g: 0x10, h: \"5\"}\ni: .inf\n",
        );
        for (path, text) in [
            ("a", "0755"),
            ("b", "yes"),
            ("c", "1e3"),
            ("d", "007"),
            ("f.g", "0x10"),
            ("f.h", "5"),
            ("i", ".inf"),
        ] {
            assert_eq!(scalar(&node, path), text, "{path}");
        }
    }

    #[test]
    fn anchors_and_merges_keep_text_too() {
        let node = tree("x: &x {age: 007}\ny:\n  <<: *x\n  z: 1\nv: &v 010\nw: *v\n");
        assert_eq!(scalar(&node, "y.age"), "007");
        assert_eq!(scalar(&node, "v"), "010");
        assert_eq!(scalar(&node, "w"), "010");
    }

    #[test]
    fn a_node_knows_the_place_of_its_key() {
        let node = tree("log:\n  level: info\nhttp:\n  addr:\n");
        let origin = &node.get("log.level").unwrap().origin;
        assert_eq!(origin.to_string(), "c.yml:2:3");
        assert!(node.get("http.addr").is_none(), "null is absent");
    }

    #[test]
    fn broken_yaml_is_one_line_with_a_place_and_without_the_text() {
        for text in [
            "a: [1\nsecret: hunter2\n",
            "a: 1\na: hunter2\n",
            "a: b: hunter2",
            "a: 'hunter2",
            "- a\nhunter2: 1",
        ] {
            let error = Node::from_file(text, &Arc::from("c.yml")).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("c.yml:"), "{message}");
            assert!(!message.contains('\n'), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
