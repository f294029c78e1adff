//! The table of keys as a tree, for everything that walks along a configuration.

use std::sync::LazyLock;

use super::keys::{FIELD_NAMES, KEYS, Key, State};
use super::kind::Kind;

/// A place where a value, a list or a section can stand.
#[derive(Debug)]
pub(super) struct Shape {
    /// As in the table; empty for the top.
    pub(super) path: &'static str,
    /// The line of the table, if this place has one.
    pub(super) key: Option<&'static Key>,
    /// In the order of the table. `*` is any name, `[]` any item.
    children: Vec<(&'static str, Shape)>,
}

const ANY: &str = "*";
const ITEM: &str = "[]";

/// The whole configuration.
pub(super) fn root() -> &'static Shape {
    static ROOT: LazyLock<Shape> = LazyLock::new(|| {
        let mut root = Shape { path: "", key: None, children: Vec::new() };
        for key in KEYS {
            root.add(key);
        }
        root
    });
    &ROOT
}

impl Shape {
    fn add(&mut self, key: &'static Key) {
        let mut place = self;
        let mut end = 0;
        for name in key.path.split('.') {
            end += name.len();
            let path = key.path.get(..end).unwrap_or(key.path);
            end += 1;
            place = place.child_or_insert(name, path);
        }
        place.key = Some(key);
    }

    fn child_or_insert(&mut self, name: &'static str, path: &'static str) -> &mut Self {
        let known = self.children.iter().position(|(known, _)| *known == name);
        let index = known.unwrap_or_else(|| {
            self.children.push((name, Self { path, key: None, children: Vec::new() }));
            self.children.len() - 1
        });
        #[expect(clippy::indexing_slicing)] // Found or put there just now.
        &mut self.children[index].1
    }

    /// What stands under `name` in this section.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.literal(name).or_else(|| self.any())
    }

    /// The same, without the names that are the user's own.
    pub(super) fn literal(&self, name: &str) -> Option<&Self> {
        self.children.iter().find_map(|(known, shape)| {
            (*known == name && name != ANY && name != ITEM).then_some(shape)
        })
    }

    /// What stands under names that are the user's own.
    pub(super) fn any(&self) -> Option<&Self> {
        self.children.iter().find_map(|(known, shape)| (*known == ANY).then_some(shape))
    }

    /// What the items of this list are.
    pub(super) fn item(&self) -> Option<&Self> {
        self.children.iter().find_map(|(known, shape)| (*known == ITEM).then_some(shape))
    }

    /// The names of this section that are not the user's own.
    pub(super) fn literals(&self) -> impl Iterator<Item = (&'static str, &Self)> {
        self.children
            .iter()
            .filter(|(name, _)| *name != ANY && *name != ITEM)
            .map(|(name, shape)| (*name, shape))
    }

    /// Whether a single value stands here.
    pub(super) fn is_leaf(&self) -> bool {
        self.children.is_empty() && self.kind() != Kind::Section
    }

    pub(super) fn kind(&self) -> Kind {
        self.key.map_or(Kind::Section, |key| key.kind)
    }

    pub(super) fn state(&self) -> State {
        self.key.map_or(State::Current, |key| key.state)
    }

    pub(super) fn default(&self) -> &'static str {
        self.key.map_or("", |key| key.default)
    }

    pub(super) fn is_optional(&self) -> bool {
        self.key.is_some_and(|key| key.optional)
    }

    /// Whether this, or the values of the list that this is, are required.
    pub(super) fn is_required(&self) -> bool {
        self.key.is_some_and(|key| key.required)
            || self.item().is_some_and(|item| item.is_leaf() && item.is_required())
    }

    /// Whether the user's own names in this section are names of headers.
    pub(super) fn holds_headers(&self) -> bool {
        let value = self.any().and_then(|any| any.item());
        value.is_some_and(|value| value.kind().is_header())
    }

    /// How the names of variables call this place, below its parent's name.
    pub(super) fn variable_names(&self) -> impl Iterator<Item = String> {
        let name = self.path.rsplit('.').next().unwrap_or_default();
        let field = FIELD_NAMES.iter().filter(|(path, _)| *path == self.path);
        // The longer one first: `REDIS` is the start of `REDIS_OPTIONS`.
        field.map(|(_, name)| (*name).to_owned()).chain([name.to_ascii_uppercase()])
    }
}

/// The place under these names, all of them known.
pub(super) fn find(path: &str) -> Option<&'static Shape> {
    path.split('.').filter(|name| !name.is_empty()).try_fold(root(), |shape, name| match name {
        ITEM => shape.item(),
        ANY => shape.any(),
        name => shape.literal(name),
    })
}

/// The key that someone who wrote `path` may have meant, if one is near. Both are in the form of
/// the table.
pub(super) fn nearest(path: &str) -> Option<&'static str> {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let limit = (name.len() / 3).max(1);
    named()
        .filter_map(|known| {
            let (known_parent, known_name) = known.rsplit_once('.').unwrap_or(("", known));
            let elsewhere = usize::from(known_parent != parent);
            let distance = edits(&name.to_ascii_lowercase(), known_name) + elsewhere;
            (distance <= limit).then_some(((distance, elsewhere), known))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The variable that someone who set `REGISTRY_<name>` may have meant, if one is near.
pub(super) fn nearest_variable(name: &str) -> Option<String> {
    let limit = (name.len() / 4).clamp(1, 4);
    let name = name.to_ascii_uppercase();
    named()
        .filter(|known| !known.contains(ITEM))
        .filter_map(|known| {
            let known = known.to_ascii_uppercase().replace('.', "_");
            let distance = edits(&name, &known);
            (distance <= limit).then_some((distance, known))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| format!("REGISTRY_{known}"))
}

/// Keys and sections that can be suggested.
fn named() -> impl Iterator<Item = &'static str> {
    fn collect(shape: &'static Shape, names: &mut Vec<&'static str>) {
        for (_, child) in shape.literals() {
            if !matches!(child.state(), State::Older(_) | State::Removed) {
                names.push(child.path);
                collect(child, names);
            }
        }
        if let Some(item) = shape.item() {
            collect(item, names);
        }
    }
    static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let mut names = Vec::new();
        collect(root(), &mut names);
        names
    });
    NAMES.iter().copied()
}

/// How many characters must be put in, taken out or exchanged to make one text of the other.
fn edits(left: &str, right: &str) -> usize {
    // Nobody means a key by a text of this length.
    const LONGEST: usize = 100;
    if left.len() > LONGEST {
        return left.len();
    }
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, character) in left.chars().enumerate() {
        let mut next = vec![index + 1];
        for ((other, above), diagonal) in right.iter().zip(row.iter().skip(1)).zip(&row) {
            let before = next.last().copied().unwrap_or_default();
            let exchanged = diagonal + usize::from(character != *other);
            next.push(exchanged.min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_has_its_place() {
        for key in KEYS {
            let shape = find(key.path).expect(key.path);
            assert!(std::ptr::eq(shape.key.expect(key.path), key), "{} is there twice", key.path);
            if key.kind != Kind::Section {
                assert!(shape.is_leaf(), "{}", key.path);
            }
            assert!(key.default.is_empty() || key.kind.accepts(key.default), "{}", key.path);
            if let State::Older(new) = key.state {
                assert!(find(new).is_some(), "{} is replaced by {new}", key.path);
            }
        }
        for (path, _) in FIELD_NAMES {
            assert!(find(path).is_some(), "{path}");
        }
    }

    #[test]
    fn nearest_is_what_was_meant() {
        for (written, meant) in [
            ("http.adr", Some("http.addr")),
            ("http.Addr", Some("http.addr")),
            ("htpp", Some("http")),
            ("rootdirectory", Some("storage.filesystem.rootdirectory")),
            ("storage.filesystem.rootdir", None),
            ("delete", Some("storage.delete")),
            ("http.relativeurl", Some("http.relativeurls")),
            ("log.level2", Some("log.level")),
            ("health.http.[].url", Some("health.http.[].uri")),
            ("http.port", None),
            ("unrelated", None),
        ] {
            assert_eq!(nearest(written), meant, "{written}");
        }
        assert_eq!(nearest_variable("HTTP_ADR").as_deref(), Some("REGISTRY_HTTP_ADDR"));
        assert_eq!(
            nearest_variable("STORAGE_DELETE_ENABLE").as_deref(),
            Some("REGISTRY_STORAGE_DELETE_ENABLED")
        );
        assert_eq!(nearest_variable("SOMETHING_ELSE_ENTIRELY"), None);
    }

    #[test]
    fn edits_are_counted() {
        for (left, right, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(edits(left, right), count, "{left} {right}");
        }
    }
}
