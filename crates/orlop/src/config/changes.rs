//! Which keys differ between two configurations.

use std::collections::BTreeSet;

use super::tree::{Node, Value};

/// The keys of which one configuration says something else than the other, in order. A list is one
/// value.
pub(super) fn between(before: &Node, after: &Node) -> Vec<String> {
    let mut keys = BTreeSet::new();
    compare("", Some(before), Some(after), &mut keys);
    keys.into_iter().collect()
}

fn compare(key: &str, before: Option<&Node>, after: Option<&Node>, keys: &mut BTreeSet<String>) {
    let before = before.filter(|node| !node.is_empty());
    let after = after.filter(|node| !node.is_empty());
    let is_section = |node: Option<&Node>| {
        node.is_none_or(|node| matches!(&node.value, Value::Map(entries) if !entries.is_empty()))
    };
    if (before.is_some() || after.is_some()) && is_section(before) && is_section(after) {
        let entries = [before, after].into_iter().flatten().flat_map(Node::entries);
        for (name, _) in entries {
            let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let child = |node: Option<&'_ Node>| node.and_then(|node| node.child(name)).cloned();
            compare(&below, child(before).as_ref(), child(after).as_ref(), keys);
        }
    } else if !same(before, after) {
        keys.insert(key.to_owned());
    }
}

fn same(before: Option<&Node>, after: Option<&Node>) -> bool {
    match (before.map(|node| &node.value), after.map(|node| &node.value)) {
        (None, None) => true,
        (Some(Value::Scalar(before)), Some(Value::Scalar(after))) => before == after,
        (Some(Value::List(before)), Some(Value::List(after))) => {
            before.len() == after.len()
                && before.iter().zip(after).all(|(before, after)| alike(before, after))
        }
        (Some(Value::Map(before)), Some(Value::Map(after))) => {
            before.is_empty() && after.is_empty()
        }
        _ => false,
    }
}

fn alike(before: &Node, after: &Node) -> bool {
    between(before, after).is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Loaded, Mode};

    fn load(folder: &Path, text: &str) -> Loaded {
        let path = folder.join("c.yml");
        std::fs::write(&path, format!("version: 0.1\n{text}")).unwrap();
        Config::load(Some(&path), std::iter::empty(), Mode::Lenient).unwrap()
    }

    #[test]
    fn keys_with_another_value_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let changed = |before: &str, after: &str| {
            load(folder.path(), before).changes(&load(folder.path(), after))
        };
        let none: [&str; 0] = [];
        assert_eq!(changed("", "# more\n"), none);
        assert_eq!(changed("", "log: {level: info}"), none, "the default");
        assert_eq!(changed("", "log: {level: debug}"), ["log.level"]);
        assert_eq!(
            changed("http: {addr: ':1', prefix: /a/}", "http: {addr: ':2', secret: x}"),
            ["http.addr", "http.prefix", "http.secret"]
        );
        let tcp = |addr| format!("health: {{tcp: [{{addr: '{addr}', interval: 1s}}]}}");
        assert_eq!(changed(&tcp("a:1"), &tcp("a:1")), none);
        assert_eq!(changed(&tcp("a:1"), &tcp("a:2")), ["health.tcp"]);
    }
}
