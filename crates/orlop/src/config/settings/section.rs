//! A section of the tree, for reading.

use std::path::PathBuf;
use std::time::Duration;

use super::super::duration;
use super::super::error::{ConfigError, Origin};
use super::super::kind;
use super::super::shape;
use super::super::size;
use super::super::tree::{Node, Value};

/// A section that was checked: what is of the wrong type in it is still an error, never a default.
pub(super) struct Section<'a> {
    /// None if the section is not set.
    node: Option<&'a Node>,
    /// As in messages: `health.http[0]`.
    path: String,
    /// As in the table: `health.http.[]`.
    shape: String,
}

impl<'a> Section<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self { node: Some(node), path: String::new(), shape: String::new() }
    }

    /// The section at `path` below this one.
    pub(super) fn section(&self, path: &str) -> Self {
        Self {
            node: self.node.and_then(|node| node.get(path)),
            path: join(&self.path, path),
            shape: join(&self.shape, path),
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.node.is_some()
    }

    /// Whether the key `name` is there, also if it holds nothing.
    pub(super) fn names(&self, name: &str) -> bool {
        self.node.is_some_and(|node| node.child(name).is_some())
    }

    /// Where it is written.
    pub(super) fn origin(&self) -> Origin {
        self.node.map_or(Origin::Default, |node| node.origin.clone())
    }

    /// Where the key at `path` is written.
    pub(super) fn origin_of(&self, path: &str) -> Origin {
        let node = self.node.and_then(|node| node.get(path));
        node.map_or_else(|| self.origin(), |node| node.origin.clone())
    }

    /// The single value at `path`, if it is set.
    pub(super) fn get<T>(
        &self,
        path: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(node) = self.node.and_then(|node| node.get(path)) else {
            return Ok(None);
        };
        let parsed = node.as_text().and_then(parse);
        parsed.map_or_else(|| Err(self.wrong(node, path)), |value| Ok(Some(value)))
    }

    /// The single value at `path`, which is required or has a default.
    pub(super) fn must<T>(
        &self,
        path: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let missing = || Node::null(self.origin());
        self.get(path, parse)?.ok_or_else(|| self.wrong(&missing(), path))
    }

    pub(super) fn text(&self, path: &str) -> Result<Option<String>, ConfigError> {
        self.get(path, |text| Some(text.to_owned()))
    }

    pub(super) fn must_text(&self, path: &str) -> Result<String, ConfigError> {
        self.must(path, |text| Some(text.to_owned()))
    }

    pub(super) fn path(&self, path: &str) -> Result<Option<PathBuf>, ConfigError> {
        self.get(path, |text| Some(PathBuf::from(text)))
    }

    /// Whether it is `true`.
    pub(super) fn is_on(&self, path: &str) -> Result<bool, ConfigError> {
        Ok(self.get(path, kind::boolean)?.unwrap_or(false))
    }

    pub(super) fn must_duration(&self, path: &str) -> Result<Duration, ConfigError> {
        self.must(path, duration::parse)
    }

    /// The number of bytes at `path`.
    pub(super) fn must_size(&self, path: &str) -> Result<u64, ConfigError> {
        self.must(path, size::parse)
    }

    /// The whole number at `path`, of a size that the table has checked.
    pub(super) fn must_number<T: TryFrom<i64>>(&self, path: &str) -> Result<T, ConfigError> {
        self.must(path, |text| T::try_from(kind::whole(text)?).ok())
    }

    /// The single values of the list at `path`; a value without a list is a list of one.
    pub(super) fn list<T>(
        &self,
        path: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let items = self.nodes(path).iter().enumerate().filter(|(_, node)| !node.is_empty());
        items
            .map(|(index, node)| {
                let kind = self.kind(&format!("{path}.[]"));
                let wrong = || self.unlike(kind, node, &format!("{path}[{index}]"));
                node.as_text().and_then(&parse).ok_or_else(wrong)
            })
            .collect()
    }

    pub(super) fn texts(&self, path: &str) -> Result<Vec<String>, ConfigError> {
        self.list(path, |text| Some(text.to_owned()))
    }

    /// The sections of the list at `path`.
    pub(super) fn sections(&self, path: &str) -> Vec<Self> {
        let nodes = self.nodes(path).iter().enumerate();
        nodes
            .map(|(index, node)| Self {
                node: Some(node),
                path: join(&self.path, &format!("{path}[{index}]")),
                shape: join(&self.shape, &format!("{path}.[]")),
            })
            .collect()
    }

    /// The names and values of the section at `path`; a name with a list occurs once per item.
    pub(super) fn pairs(&self, path: &str) -> Vec<(String, String)> {
        let section = self.node.and_then(|node| node.get(path));
        let mut pairs = Vec::new();
        for (name, node) in section.map(Node::entries).unwrap_or_default() {
            let values = match &node.value {
                Value::List(items) => items.as_slice(),
                _ => std::slice::from_ref(node),
            };
            pairs.extend(
                values.iter().filter_map(|value| Some((name.clone(), value.as_text()?.to_owned()))),
            );
        }
        pairs
    }

    fn nodes(&self, path: &str) -> &'a [Node] {
        let node = self.node.and_then(|node| node.get(path));
        match node {
            Some(Node { value: Value::List(items), .. }) => items,
            Some(node) => std::slice::from_ref(node),
            None => &[],
        }
    }

    /// The error for a value at `path` that does not go with others.
    pub(super) fn unfit(&self, path: &str, reason: &str) -> ConfigError {
        ConfigError::Unfit {
            origin: self.origin_of(path),
            key: join(&self.path, path),
            reason: reason.to_owned(),
        }
    }

    fn wrong(&self, node: &Node, path: &str) -> ConfigError {
        self.unlike(self.kind(path), node, path)
    }

    fn kind(&self, path: &str) -> Option<kind::Kind> {
        shape::find(&join(&self.shape, path)).map(shape::Shape::kind)
    }

    /// The error for a value at `path` that is not of its kind.
    fn unlike(&self, kind: Option<kind::Kind>, node: &Node, path: &str) -> ConfigError {
        let expected = kind.map(kind::Kind::expected).unwrap_or_default();
        node.wrong(&join(&self.path, path), expected, kind.is_none_or(kind::Kind::is_secret))
    }
}

fn join(section: &str, path: &str) -> String {
    match (section, path) {
        ("", path) => path.to_owned(),
        (section, "") => section.to_owned(),
        (section, path) => format!("{section}.{path}"),
    }
}
