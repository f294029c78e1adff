//! The effective configuration as YAML, each value with the place where it was set.

use super::error::Origin;
use super::kind::Kind;
use super::shape::{self, Shape};
use super::tree::{MASK, Node, Value, without_password};

/// Writes what is known of the tree, in the order of the table of keys.
pub(super) fn show(root: &Node) -> String {
    let mut text = String::new();
    for line in section(shape::root(), root) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// How many values are set, by a file or a variable.
pub(super) fn count(root: &Node) -> usize {
    fn below(shape: &Shape, node: &Node) -> usize {
        match &node.value {
            _ if node.is_empty() => 0,
            Value::Map(entries) if !shape.is_leaf() => entries
                .iter()
                .filter_map(|(name, child)| Some(below(shape.child(name)?, child)))
                .sum(),
            Value::List(items) if !shape.is_leaf() => {
                items.iter().filter_map(|item| Some(below(shape.item()?, item))).sum()
            }
            _ => usize::from(node.origin != Origin::Default),
        }
    }
    below(shape::root(), root)
}

/// What stands behind `key:`.
enum Written {
    /// On the same line.
    Value(String),
    /// On the lines below.
    Lines(Vec<String>),
}

fn section(shape: &Shape, node: &Node) -> Vec<String> {
    let mut lines = Vec::new();
    let known = shape.literals().filter_map(|(name, child)| Some((name, child, node.child(name)?)));
    let own = node.entries().iter().filter_map(|(name, node)| {
        let any = shape.any().filter(|_| shape.literal(name).is_none())?;
        Some((name.as_str(), any, node))
    });
    for (name, child, node) in known.chain(own).filter(|(_, _, node)| !node.is_empty()) {
        let name = scalar(name, Kind::Text);
        match write(child, node) {
            Written::Value(value) => lines.push(format!("{name}: {value}  # {}", node.origin)),
            Written::Lines(below) => {
                lines.push(format!("{name}:"));
                lines.extend(below.iter().map(|line| format!("  {line}")));
            }
        }
    }
    lines
}

fn write(shape: &Shape, node: &Node) -> Written {
    match &node.value {
        Value::Scalar(text) => {
            let kind = shape.item().unwrap_or(shape).kind();
            Written::Value(scalar(&shown(text, kind), kind))
        }
        Value::List(items) if !items.is_empty() => {
            let item = shape.item();
            Written::Lines(items.iter().flat_map(|node| list_item(item, node)).collect())
        }
        Value::Map(_) if shape.kind() == Kind::Section => {
            let lines = section(shape, node);
            if lines.is_empty() { Written::Value("{}".to_owned()) } else { Written::Lines(lines) }
        }
        // Nobody knows what is secret in there.
        Value::Map(_) => Written::Value(scalar(MASK, Kind::Text)),
        Value::Null | Value::List(_) => Written::Value("[]".to_owned()),
    }
}

fn list_item(shape: Option<&Shape>, node: &Node) -> Vec<String> {
    let written = shape.map(|shape| write(shape, node));
    match written {
        Some(Written::Value(value)) => vec![format!("- {value}  # {}", node.origin)],
        Some(Written::Lines(lines)) => lines
            .iter()
            .enumerate()
            .map(|(index, line)| format!("{} {line}", if index == 0 { "-" } else { " " }))
            .collect(),
        None => vec![format!("- {}", scalar(MASK, Kind::Text))],
    }
}

/// The text without what must not be seen.
fn shown(text: &str, kind: Kind) -> String {
    match kind {
        Kind::Database => without_query(&without_password(text)),
        _ if kind.is_secret() => MASK.to_owned(),
        Kind::Free => MASK.to_owned(),
        Kind::Url | Kind::PathOrUrl => without_query(&without_password(text)),
        _ => without_password(text),
    }
}

/// A query may hold a key. In other texts a question mark may be anything.
fn without_query(url: &str) -> String {
    match url.split_once('?') {
        Some((url, _)) if url.contains("://") => format!("{url}?{MASK}"),
        _ => url.to_owned(),
    }
}

/// The text as a scalar of YAML, in quotes where it would be something else without.
fn scalar(text: &str, kind: Kind) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/')
        && !text.ends_with(':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:+@*".contains(c));
    let is_text = kind.is_verbatim();
    let other = is_text && (is_word_of_yaml(text) || text.parse::<f64>().is_ok());
    if plain && !other {
        text.to_owned()
    } else {
        // A text in JSON is one in YAML.
        serde_json::Value::from(text).to_string()
    }
}

fn is_word_of_yaml(text: &str) -> bool {
    super::kind::boolean(text).is_some() || text.eq_ignore_ascii_case("null")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_stay_what_they_are() {
        for (text, kind, written) in [
            ("info", Kind::Text, "info"),
            ("https://example.com:8443", Kind::Host, "https://example.com:8443"),
            (":5000", Kind::Address, "\":5000\""),
            ("0123", Kind::Text, "\"0123\""),
            ("168h", Kind::Duration, "168h"),
            ("true", Kind::Boolean, "true"),
            ("true", Kind::Text, "\"true\""),
            ("a: b #c", Kind::Text, "\"a: b #c\""),
            ("a\"b\n", Kind::Text, "\"a\\\"b\\n\""),
            ("*", Kind::Text, "\"*\""),
        ] {
            assert_eq!(scalar(text, kind), written);
        }
    }

    #[test]
    fn passwords_in_urls_are_secrets() {
        assert_eq!(shown("https://ada:word@h/p", Kind::Url), "https://********@h/p");
        assert_eq!(shown("https://ada:w@rd@h/p", Kind::Text), "https://********@h/p");
        assert_eq!(shown("https://h/p?key=word", Kind::PathOrUrl), "https://h/p?********");
        assert_eq!(shown("/a?b", Kind::PathOrUrl), "/a?b");
        assert_eq!(shown("a@b", Kind::Text), "a@b");
        let url = "postgres://ada:word@h/d?sslmode=require";
        assert_eq!(shown(url, Kind::Database), "postgres://********@h/d?********");
        assert_eq!(shown("x", Kind::Secret), "********");
    }
}
