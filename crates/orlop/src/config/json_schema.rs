//! The table of keys as JSON Schema (draft 2020-12), for editors.

use serde_json::{Map, Value, json};

use super::keys::State;
use super::kind::Kind;
use super::shape::{self, Shape};

/// The schema of a configuration file.
pub(crate) fn json_schema() -> Value {
    let mut schema = section(shape::root());
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("Configuration of Orlop"));
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("required".to_owned(), json!(["version"]));
    Value::Object(schema)
}

fn place(shape: &Shape) -> Value {
    let mut schema = if shape.is_leaf() {
        leaf(shape)
    } else if let Some(item) = shape.item() {
        let mut schema = Map::new();
        let list = json!({ "type": ["array", "null"], "items": place(item) });
        if item.is_leaf() {
            schema.insert("anyOf".to_owned(), json!([place(item), list]));
        } else if let Value::Object(list) = list {
            schema = list;
        }
        schema
    } else if matches!(shape.path, "storage" | "auth") {
        let names = shape.literals().filter(|(_, child)| child.is_optional());
        let names: Vec<_> = names.map(|(name, _)| name).collect();
        let mut schema = Map::new();
        schema.insert("anyOf".to_owned(), json!([{ "enum": names }, section(shape)]));
        schema
    } else {
        section(shape)
    };
    describe(shape, &mut schema);
    Value::Object(schema)
}

fn leaf(shape: &Shape) -> Map<String, Value> {
    let mut schema = match shape.kind().json_schema() {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    let default = match (shape.kind(), shape.default()) {
        (_, "") => None,
        (Kind::Boolean | Kind::Whole(..), text) => serde_json::from_str(text).ok(),
        (_, text) => Some(json!(text)),
    };
    if let Some(default) = default {
        schema.insert("default".to_owned(), default);
    }
    // YAML takes it for a number.
    if shape.path == "version" {
        schema.insert("enum".to_owned(), json!(["0.1", 0.1]));
    }
    schema
}

fn section(shape: &Shape) -> Map<String, Value> {
    let mut properties: Map<String, Value> =
        shape.literals().map(|(name, child)| (name.to_owned(), place(child))).collect();
    if let Some(s3) = properties.get("s3").filter(|_| shape.path == "storage").cloned() {
        properties.insert("s3aws".to_owned(), s3);
    }
    let required: Vec<_> =
        shape.literals().filter(|(_, child)| child.is_required()).map(|(name, _)| name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!(["object", "null"]));
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), Value::Object(properties));
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema.insert("additionalProperties".to_owned(), shape.any().map_or(json!(false), place));
    schema
}

fn describe(shape: &Shape, schema: &mut Map<String, Value>) {
    let Some(key) = shape.key else {
        return;
    };
    let mut meaning = key.meaning.to_owned();
    match key.state {
        State::Current => {}
        State::Later => meaning.push_str(" (comes with a later version)"),
        State::Older(new) => meaning = format!("An older name of `{new}`"),
        State::Foreign => meaning.push_str(" (not in Orlop)"),
        State::Removed => meaning.push_str(" (without effect)"),
    }
    if matches!(key.state, State::Older(_) | State::Removed) {
        schema.insert("deprecated".to_owned(), json!(true));
    }
    if !meaning.is_empty() {
        schema.insert("description".to_owned(), json!(meaning.trim_start()));
    }
}
