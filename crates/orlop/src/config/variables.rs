//! `REGISTRY_*` environment variables, laid over the file.
//!
//! `distribution` splits a variable's name at each `_` and goes by the names of the fields in its
//! program. Here the name is held against the table of keys, so that keys with a `_` are found,
//! and the names of the YAML file count as well as those of the fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{ConfigError, Origin};
use super::kind::Kind;
use super::shape::{self, Shape};
use super::tree::{Node, Step};
use super::{Notes, normalize, yaml};

const PREFIX: &str = "REGISTRY_";

/// Sets what the variables say, in the order of their names, so that `REGISTRY_HTTP` (a whole
/// section, as YAML) comes before `REGISTRY_HTTP_ADDR`.
pub(super) fn overlay(
    root: &mut Node,
    environment: &BTreeMap<String, String>,
    notes: &mut Notes,
) -> Result<(), ConfigError> {
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if name == "CONFIGURATION_PATH" || is_service_link(name) {
            continue;
        }
        match resolve(name, shape::root(), root) {
            Some(target) => set(root, &target, variable, value, notes)?,
            None => match names_a_driver(name) {
                Some(error) => return Err(error(Origin::Variable(Arc::from(variable.as_str())))),
                None => notes.unknown(unknown(variable, name)),
            },
        }
        normalize(root);
    }
    Ok(())
}

/// What a variable sets.
struct Target {
    steps: Vec<Step>,
    shape: &'static Shape,
}

impl Target {
    fn at(step: Step, shape: &'static Shape) -> Self {
        Self { steps: vec![step], shape }
    }

    fn below(mut self, step: Step) -> Self {
        self.steps.insert(0, step);
        self
    }
}

/// Finds what `name`, the rest of a variable's name, means at this place. `node` is what is set
/// there so far, for the spelling of names that are the user's own.
fn resolve(name: &str, shape: &'static Shape, node: &Node) -> Option<Target> {
    if shape.is_leaf() && shape.kind() == Kind::Free && !name.is_empty() {
        return Some(Target::at(Step::Name(name.to_ascii_lowercase()), shape));
    }
    let nothing = Node::null(Origin::Default);
    for (key, child) in shape.literals() {
        for known in child.variable_names() {
            let step = || Step::Name(key.to_owned());
            match name.strip_prefix(&known) {
                Some("") => return Some(Target::at(step(), child)),
                Some(rest) => {
                    let node = node.child(key).unwrap_or(&nothing);
                    let found = rest.strip_prefix('_').and_then(|rest| resolve(rest, child, node));
                    if let Some(target) = found {
                        return Some(target.below(step()));
                    }
                }
                None => {}
            }
        }
    }
    if let Some(item) = shape.item() {
        let (number, rest) = name.split_once('_').unwrap_or((name, ""));
        let step = Step::Item(parse_index(number)?);
        return if rest.is_empty() {
            Some(Target::at(step, item))
        } else {
            resolve(rest, item, &nothing).map(|target| target.below(step))
        };
    }
    shape.any().and_then(|any| own_name(name, any, node))
}

/// A name of the user's own (a header, a log field): all of `name`, or all but what leads deeper.
fn own_name(name: &str, any: &'static Shape, section: &Node) -> Option<Target> {
    if name.is_empty() {
        return None;
    }
    // The file's `X-Frame-Options` is meant by any spelling of it.
    let spelled = |name: &str| {
        let known = section.entries().iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        Step::Name(known.map_or(name.to_ascii_lowercase(), |(known, _)| known.clone()))
    };
    if any.item().is_some()
        && let Some((own, number)) = name.rsplit_once('_')
        && !own.is_empty()
        && let Some(target) = resolve(number, any, &Node::null(Origin::Default))
    {
        return Some(target.below(spelled(own)));
    }
    Some(Target::at(spelled(name), any))
}

fn parse_index(number: &str) -> Option<usize> {
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten()
}

fn set(
    root: &mut Node,
    target: &Target,
    variable: &str,
    value: &str,
    notes: &mut Notes,
) -> Result<(), ConfigError> {
    let name: Arc<str> = Arc::from(variable);
    let node = if target.shape.is_leaf() && target.shape.kind().is_verbatim() {
        Node::text(unquoted(value), Origin::Variable(name))
    } else {
        let parsed = yaml::variable(value, &name)?;
        notes.duplicates(&parsed.duplicates);
        parsed.root
    };
    let replacement = node.clone();
    let replaced = root.set(&target.steps, node)?;
    let path = target.shape.path;
    if path == "auth" {
        guard(&replaced, &replacement)?;
    }
    warn_of_lost(target, path, &replaced, &replacement, notes);
    Ok(())
}

/// Nobody loses an access control by a variable that is empty by mistake, or its rules by one that
/// only names another.
fn guard(before: &Node, after: &Node) -> Result<(), ConfigError> {
    if after.as_text() == Some("none") || after.child("none").is_some() {
        return Ok(());
    }
    let lost = before.entries().iter().find(|(name, node)| match name.as_str() {
        "none" => false,
        "rules" => !node.is_inert() && after.child("rules").is_none(),
        _ => after.is_inert(),
    });
    let Some((name, node)) = lost else {
        return Ok(());
    };
    Err(ConfigError::Unfit {
        origin: after.origin.clone(),
        key: "auth".to_owned(),
        reason: format!(
            "would take away auth.{name} ({}); write `none` for no access control, or set \
             variables of single keys",
            node.origin
        ),
    })
}

/// A variable replaces all that was there: says what of the file is thereby gone.
fn warn_of_lost(target: &Target, path: &str, before: &Node, after: &Node, notes: &mut Notes) {
    if target.shape.is_leaf() {
        if after.is_empty() && !before.is_empty() && text(before) != target.shape.default() {
            notes.warn(format!(
                "{} is empty: without effect is now {path} ({})",
                after.origin, before.origin
            ));
        }
        return;
    }
    let mut gone = Vec::new();
    lost(target.shape, path, before, after, &mut gone);
    // What `distribution` needs and Orlop does not.
    gone.retain(|entry| !entry.starts_with("storage.cache") && !entry.starts_with("storage.tag"));
    if !gone.is_empty() {
        notes.warn(format!(
            "{} replaces all of `{path}`: without effect is now {}",
            after.origin,
            gone.join(", ")
        ));
    }
}

/// What is in a section before and not after.
fn lost(shape: &Shape, path: &str, before: &Node, after: &Node, gone: &mut Vec<String>) {
    for (name, old) in before.entries() {
        let Some(known) = shape.child(name) else { continue };
        let matters = !old.is_inert() && (!known.is_leaf() || known.default() != text(old));
        // Another driver takes the place of this one. None, or this one once more, does not.
        let is_replaced = known.is_optional()
            && matches!(path, "storage" | "auth")
            && !after.is_empty()
            && after.as_text() != Some(name)
            && after.child(name).is_none();
        if !matters || is_replaced {
            continue;
        }
        match after.child(name) {
            None => gone.push(format!("{path}.{name} ({})", old.origin)),
            Some(new) if !known.is_leaf() => lost(known, &format!("{path}.{name}"), old, new, gone),
            Some(_) => {}
        }
    }
}

fn text(node: &Node) -> &str {
    node.as_text().unwrap_or_default()
}

/// Kubernetes and `docker run --link` describe a service called `registry` to its neighbours in
/// variables of these names. They are nobody's configuration.
fn is_service_link(name: &str) -> bool {
    name == "PORT"
        || name == "NAME"
        || ["PORT_", "SERVICE_", "ENV_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Without one pair of quotes around it, which YAML would also have taken away and which compose
/// files leave in place.
fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

/// An unknown first name below `storage` or `auth` is a driver that nobody has heard of, which
/// must not be passed over; a misspelt `STORAGE_MAINTENANCE_…` is none.
fn names_a_driver(name: &str) -> Option<impl FnOnce(Origin) -> ConfigError> {
    ["storage", "auth"].into_iter().find_map(|section| {
        let below = name.strip_prefix(&section.to_ascii_uppercase())?.strip_prefix('_')?;
        let first = below.split('_').next()?.to_ascii_lowercase();
        let shape = shape::find(section)?;
        let is_known = first.is_empty()
            || shape.literals().any(|(_, child)| {
                child.variable_names().any(|known| known.eq_ignore_ascii_case(&first))
            });
        (!is_known).then_some(move |origin| super::check::unknown_driver(origin, section, &first))
    })
}

fn unknown(variable: &str, name: &str) -> String {
    match shape::nearest_variable(name) {
        Some(near) => {
            format!("{variable} is not a known variable and has no effect; did you mean {near}?")
        }
        None => format!("{variable} is not a known variable and has no effect"),
    }
}

/// Every name by which a variable can set this key, for a key without lists and own names.
#[cfg(test)]
pub(super) fn names(path: &str) -> Vec<String> {
    let mut names = vec![PREFIX.to_owned()];
    for (index, _) in path.match_indices('.').chain([(path.len(), "")]) {
        let Some(shape) = shape::find(path.split_at(index).0) else {
            return Vec::new();
        };
        names = names
            .iter()
            .flat_map(|start| {
                shape.variable_names().map(move |name| {
                    let gap = if start.ends_with('_') { "" } else { "_" };
                    format!("{start}{gap}{name}")
                })
            })
            .collect();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::keys::KEYS;
    use super::*;

    #[test]
    fn every_key_is_found_by_each_of_its_variables() {
        let nothing = Node::null(Origin::Default);
        for key in KEYS.iter().filter(|key| !key.path.contains(['*', '['])) {
            for variable in names(key.path) {
                let name = variable.strip_prefix(PREFIX).unwrap();
                let target = resolve(name, shape::root(), &nothing).expect(&variable);
                assert_eq!(target.shape.path, key.path, "{variable}");
            }
        }
    }
}
