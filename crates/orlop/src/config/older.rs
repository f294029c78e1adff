//! Older names of keys, made into the ones of today.

use super::Notes;
use super::error::ConfigError;
use super::keys::State;
use super::kind;
use super::shape::{self, Shape};
use super::tree::{Node, Step, Value};

/// Moves what stands under older names, with one warning each.
pub(super) fn modernize(root: &mut Node, notes: &mut Notes) -> Result<(), ConfigError> {
    let mut found = Vec::new();
    find(shape::root(), root, &mut Vec::new(), &mut found);
    for Old { steps, name, new } in found {
        let old = root.set(&steps, Node::null(root.origin.clone()))?;
        if name == "validation.enabled" {
            validation_enabled(root, &old, notes)?;
            continue;
        }
        let (origin, new_name) = (old.origin.clone(), new.replace(".[]", "[]"));
        let name = name.replace(".[]", "[]");
        let new_steps = steps_to(new, &steps);
        if is_set(root, &new_steps) {
            notes.warn(format!("{origin}: {name} has no effect beside {new_name}"));
        } else {
            notes.warn(format!("{origin}: {name} is an older name: write {new_name}"));
            root.set(&new_steps, old)?;
        }
    }
    Ok(())
}

struct Old {
    steps: Vec<Step>,
    name: &'static str,
    new: &'static str,
}

fn find(shape: &'static Shape, node: &Node, steps: &mut Vec<Step>, found: &mut Vec<Old>) {
    if let Some((key, State::Older(new))) = shape.key.map(|key| (key, key.state)) {
        if !node.is_empty() {
            found.push(Old { steps: steps.clone(), name: key.path, new });
        }
        return;
    }
    // A list of an older key is under the line of its items.
    if let Some(State::Older(new)) = shape.item().map(Shape::state) {
        if !node.is_empty() {
            found.push(Old { steps: steps.clone(), name: shape.path, new });
        }
        return;
    }
    match &node.value {
        Value::Map(entries) => {
            for (name, child) in entries {
                if let Some(known) = shape.child(name) {
                    steps.push(Step::Name(name.clone()));
                    find(known, child, steps, found);
                    steps.pop();
                }
            }
        }
        Value::List(items) => {
            for (index, child) in items.iter().enumerate() {
                if let Some(known) = shape.item() {
                    steps.push(Step::Item(index));
                    find(known, child, steps, found);
                    steps.pop();
                }
            }
        }
        Value::Null | Value::Scalar(_) => {}
    }
}

/// The way to `path` of the table, through the same items as `from`.
fn steps_to(path: &str, from: &[Step]) -> Vec<Step> {
    let mut items = from.iter().filter(|step| matches!(step, Step::Item(_)));
    path.split('.')
        .map(|name| match (name == "[]").then(|| items.next()).flatten() {
            Some(item) => item.clone(),
            None => Step::Name(name.to_owned()),
        })
        .collect()
}

fn is_set(root: &Node, steps: &[Step]) -> bool {
    let found = steps.iter().try_fold(root, |node, step| match (step, &node.value) {
        (Step::Name(name), _) => node.child(name),
        (Step::Item(index), Value::List(items)) => items.get(*index),
        (Step::Item(_), _) => None,
    });
    found.is_some_and(|node| !node.is_empty())
}

/// In `distribution`, `enabled: true` wins over `disabled: true`, and `enabled: false` does
/// nothing.
fn validation_enabled(root: &mut Node, old: &Node, notes: &mut Notes) -> Result<(), ConfigError> {
    let origin = &old.origin;
    match old.as_text().map(kind::boolean) {
        Some(Some(true)) => {
            notes.warn(format!(
                "{origin}: validation.enabled is an older name: write validation.disabled: false"
            ));
            let steps = ["validation", "disabled"].map(|name| Step::Name(name.to_owned()));
            root.set(&steps, Node::text("false", origin.clone()))?;
        }
        Some(Some(false)) => notes.warn(format!(
            "{origin}: validation.enabled: false has no effect, nor had it in distribution; write \
             validation.disabled: true to switch validation off"
        )),
        _ => {
            let expected = kind::Kind::Boolean.expected();
            return Err(old.wrong("validation.enabled", expected, false));
        }
    }
    Ok(())
}
