//! YAML text to a tree.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::error::{ConfigError, Origin};
use super::tree::{Node, Value};

/// A tree, and the keys that are written twice in one section: where the later one stands, which
/// counts, and where the earlier.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) root: Node,
    pub(super) duplicates: Vec<Duplicate>,
}

#[derive(Debug)]
pub(super) struct Duplicate {
    pub(super) name: String,
    pub(super) used: Origin,
    pub(super) lost: Origin,
}

/// Parses the text of a configuration file. `file` is its name in messages.
pub(super) fn file(text: &str, file: &Arc<str>) -> Result<Parsed, ConfigError> {
    parse(text, &|location| Origin::File {
        file: file.clone(),
        line: location.line(),
        column: location.column(),
    })
}

/// Parses the value of an environment variable, which may be a whole section.
pub(super) fn variable(text: &str, name: &Arc<str>) -> Result<Parsed, ConfigError> {
    parse(text, &|_| Origin::Variable(name.clone()))
}

fn parse(text: &str, origin: &dyn Fn(Location) -> Origin) -> Result<Parsed, ConfigError> {
    let options = serde_saphyr::options! {
        with_snippet: false, // a snippet would put the lines around, secrets included, into a log
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        budget: serde_saphyr::budget! { max_depth: DEEPEST },
    };
    let raw =
        serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options).map_err(|error| {
            ConfigError::NotYaml {
                origin: origin(error.location().unwrap_or(Location::UNKNOWN)),
                reason: UserMessageFormatter.format_message(&error).into_owned(),
            }
        })?;
    let mut planting = Planting { source: text, origin, duplicates: Vec::new() };
    let root = Node::new(planting.value(raw.value, raw.defined), origin(raw.referenced));
    Ok(Parsed { root, duplicates: planting.duplicates })
}

/// How many sections and lists may stand in each other; the keys need seven.
const DEEPEST: usize = 64;

/// What the YAML library hands out, before a scalar's text is fetched from the source.
enum Raw {
    Null,
    /// Unquoted and not a string in YAML's eyes; with the library's own rendering.
    Plain(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

struct Planting<'a> {
    source: &'a str,
    origin: &'a dyn Fn(Location) -> Origin,
    duplicates: Vec<Duplicate>,
}

impl Planting<'_> {
    fn value(&mut self, raw: Raw, defined: Location) -> Value {
        match raw {
            Raw::Null => Value::Null,
            Raw::Plain(rendered) => {
                Value::Scalar(as_written(self.source, defined).map_or(rendered, str::to_owned))
            }
            Raw::Text(text) => Value::Scalar(text),
            Raw::List(items) => Value::List(
                items
                    .into_iter()
                    .map(|item| {
                        let origin = (self.origin)(item.referenced);
                        Node::new(self.value(item.value, item.defined), origin)
                    })
                    .collect(),
            ),
            Raw::Map(entries) => {
                let mut map: Vec<(String, Node)> = Vec::with_capacity(entries.len());
                for (key, item) in entries {
                    let origin = (self.origin)(key.referenced);
                    let node = Node::new(self.value(item.value, item.defined), origin);
                    self.put(&mut map, key.value, node);
                }
                Value::Map(map)
            }
        }
    }

    /// As in `distribution`, the last of two counts.
    fn put(&mut self, map: &mut Vec<(String, Node)>, name: String, node: Node) {
        if let Some((_, known)) = map.iter_mut().find(|(known, _)| *known == name) {
            let used = node.origin.clone();
            let lost = std::mem::replace(known, node).origin;
            self.duplicates.push(Duplicate { name, used, lost });
        } else {
            map.push((name, node));
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
        file(text, &Arc::from("c.yml")).expect("valid YAML").root
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
        for text in ["a: [1\nsecret: hunter2\n", "a: b: hunter2", "a: 'hunter2", "- a\nhunter2: 1"]
        {
            let error = file(text, &Arc::from("c.yml")).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("c.yml:"), "{message}");
            assert!(!message.contains('\n'), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn the_last_of_two_counts_and_both_places_are_known() {
        let parsed = file("a: {b: 1}\nc: 2\na: {d: 3}\n", &Arc::from("c.yml")).unwrap();
        assert_eq!(scalar(&parsed.root, "a.d"), "3");
        assert!(parsed.root.get("a.b").is_none());
        let [duplicate] = parsed.duplicates.as_slice() else {
            panic!("{:?}", parsed.duplicates);
        };
        assert_eq!(duplicate.name, "a");
        assert_eq!(duplicate.lost.to_string(), "c.yml:1:1");
        assert_eq!(duplicate.used.to_string(), "c.yml:3:1");
    }

    #[test]
    fn depth_and_growth_have_bounds() {
        let deep = "[".repeat(100_000);
        file(&deep, &Arc::from("c.yml")).expect_err("too deep");
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{},", level - 1).repeat(10);
            laughs = format!("{laughs}a{level}: &a{level} [{before}]\n");
        }
        file(&laughs, &Arc::from("c.yml")).expect_err("too large");
    }
}
