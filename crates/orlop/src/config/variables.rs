//! `REGISTRY_*` environment variables, laid over the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{ConfigError, Origin};
use super::keys::{self, Target};
use super::schema;
use super::tree::Node;

const PREFIX: &str = "REGISTRY_";

/// Sets what the variables say, in the order of their names, so that `REGISTRY_HTTP` (a whole
/// section, as YAML) comes before `REGISTRY_HTTP_ADDR`.
pub(super) fn overlay(
    root: &mut Node,
    environment: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if name == "CONFIGURATION_PATH" || is_service_link(name) {
            continue;
        }
        let origin: Arc<str> = Arc::from(variable.as_str());
        match keys::find_variable(name) {
            Some(Target::Set { path, verbatim }) => {
                let node = parse(value, verbatim, &origin)?;
                root.set(&path, node)?;
            }
            Some(Target::SetFree { section, name, verbatim }) => {
                let node = parse(value, verbatim, &origin)?;
                // The file's `X-Frame-Options` is meant by any spelling of it.
                let spelled = root
                    .names(&section)
                    .find(|known| known.eq_ignore_ascii_case(&name))
                    .map_or(name.clone(), str::to_owned);
                root.set(&[section, vec![spelled]].concat(), node)?;
            }
            Some(Target::Inside(key)) => {
                let node = Node::from_text(value, &origin);
                schema::apply(key, key.path, &node, warnings)?;
            }
            Some(Target::Driver { section, name }) => {
                return Err(schema::unknown_driver(Origin::Variable(origin), section, &name));
            }
            None => warnings.push(unknown(variable, name)),
        }
    }
    Ok(())
}

fn parse(value: &str, verbatim: bool, origin: &Arc<str>) -> Result<Node, ConfigError> {
    if verbatim {
        Ok(Node::from_text(unquoted(value), origin))
    } else {
        Node::from_variable(value, origin)
    }
}

/// Kubernetes and `docker run --link` describe a service called `registry` to its neighbours in
/// variables of these names. They are nobody's configuration.
fn is_service_link(name: &str) -> bool {
    name == "PORT"
        || name == "NAME"
        || ["PORT_", "SERVICE_", "ENV_"].iter().any(|p| name.starts_with(p))
}

/// Without one pair of quotes around it, which YAML would also have taken away and which compose
/// files leave in place.
fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

fn unknown(variable: &str, name: &str) -> String {
    match keys::nearest_variable(name) {
        Some(near) => {
            format!("{variable} is not a known variable and is ignored; did you mean {near}?")
        }
        None => format!("{variable} is not a known variable and is ignored"),
    }
}
