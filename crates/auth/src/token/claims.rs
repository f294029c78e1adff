//! What a token says, and whether it holds here and now.

use std::collections::HashMap;
use std::sync::Arc;

use oci::RepositoryName;
use serde::{Deserialize, Deserializer};

use crate::scope::Scope;

/// Clocks differ by so many seconds.
const LEEWAY: f64 = 60.0;

/// The claims of RFC 7519 §4.1, and the access that the token grants.
#[derive(Deserialize)]
struct Claims {
    #[serde(default, deserialize_with = "or_empty")]
    iss: String,
    #[serde(default, deserialize_with = "or_empty")]
    sub: String,
    #[serde(default, deserialize_with = "or_empty")]
    aud: Audience,
    /// Seconds since the epoch.
    exp: Option<f64>,
    nbf: Option<f64>,
    access: Option<Vec<Access>>,
}

/// One service, or several.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Audience {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn contains(&self, service: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => one == service,
            Self::Many(many) => many.iter().any(|one| one == service),
        }
    }
}

#[derive(Deserialize)]
struct Access {
    #[serde(rename = "type", default, deserialize_with = "or_empty")]
    kind: String,
    #[serde(default, deserialize_with = "or_empty")]
    name: String,
    /// What kind of content a repository is for, such as `plugin`; empty: `image`.
    #[serde(default, deserialize_with = "or_empty")]
    class: String,
    actions: Option<Vec<String>>,
}

/// `null` is as good as nothing: token servers in Go write and read it so.
fn or_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    claim: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(claim)?.unwrap_or_default())
}

/// The class of content of a repository for which none is named.
const DEFAULT_CLASS: &str = "image";

/// Who a token is for, and what it lets them do.
#[derive(Debug)]
pub(crate) struct Granted {
    /// `sub`, if it says anything.
    pub(crate) user: Option<Arc<str>>,
    /// Seconds since the epoch; from then on it is not good any more.
    pub(crate) until: f64,
    /// By kind, then by name.
    grants: HashMap<String, HashMap<String, Grant>>,
}

/// What a token lets its bearer do with one thing.
#[derive(Debug, Default)]
struct Grant {
    actions: Vec<String>,
    /// Classes have no part in whether an action is allowed, as in registry:2.
    classes: Vec<String>,
}

impl Granted {
    /// Whether the token lets its bearer do this.
    pub(crate) fn allows(&self, scope: &Scope) -> bool {
        self.has(scope.kind(), scope.name(), scope.action())
    }

    /// The same of pulling.
    pub(crate) fn allows_pull(&self, name: &RepositoryName) -> bool {
        self.has("repository", name.as_str(), "pull")
    }

    /// Whether content of this class may be pushed there, if anything may.
    pub(crate) fn allows_class(&self, name: &RepositoryName, class: &str) -> bool {
        self.grant("repository", name.as_str())
            .is_some_and(|grant| grant.classes.iter().any(|granted| granted == class))
    }

    fn has(&self, kind: &str, name: &str, action: &str) -> bool {
        self.grant(kind, name).is_some_and(|grant| {
            grant.actions.iter().any(|granted| granted == action || granted == "*")
        })
    }

    fn grant(&self, kind: &str, name: &str) -> Option<&Grant> {
        self.grants.get(kind)?.get(name)
    }
}

/// What the payload of a token grants at `now` (seconds since the epoch), if it was issued by
/// `issuer` for `service`.
pub(crate) fn granted(payload: &[u8], issuer: &str, service: &str, now: f64) -> Option<Granted> {
    let claims: Claims = serde_json::from_slice(payload).ok()?;
    let until = claims.exp? + LEEWAY;
    let holds = claims.iss == issuer
        && claims.aud.contains(service)
        && now < until
        && claims.nbf.is_none_or(|since| now >= since - LEEWAY);
    if !holds {
        return None;
    }
    let mut grants: HashMap<_, HashMap<_, Grant>> = HashMap::new();
    for access in claims.access.unwrap_or_default() {
        let grant = grants.entry(access.kind).or_default().entry(access.name).or_default();
        grant.actions.extend(access.actions.unwrap_or_default());
        let class = Some(access.class).filter(|class| !class.is_empty());
        grant.classes.push(class.unwrap_or_else(|| DEFAULT_CLASS.to_owned()));
    }
    let user = Some(claims.sub).filter(|sub| !sub.is_empty()).map(Arc::from);
    Some(Granted { user, until, grants })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Action;

    const NOW: f64 = 1_000_000.0;

    fn check(json: &str) -> Option<Granted> {
        granted(json.as_bytes(), "issuer", "service", NOW)
    }

    #[test]
    fn every_claim_must_hold() {
        for (json, expected) in [
            (r#"{"iss":"issuer","aud":"service","exp":1000001}"#, true),
            (r#"{"iss":"issuer","aud":["a","service"],"exp":1000001.5}"#, true),
            (r#"{"iss":"issuer","aud":"service","exp":999941}"#, true),
            (r#"{"iss":"issuer","aud":"service","exp":999940}"#, false),
            (r#"{"iss":"issuer","aud":"service","exp":1000001,"nbf":1000060}"#, true),
            (r#"{"iss":"issuer","aud":"service","exp":1000001,"nbf":1000061}"#, false),
            (r#"{"iss":"issuer","aud":"service","exp":1000001,"access":null}"#, true),
            (r#"{"iss":"issuer","sub":null,"aud":"service","exp":1000001,"nbf":null}"#, true),
            (r#"{"iss":"issuer","aud":null,"exp":1000001}"#, false),
            (r#"{"iss":null,"aud":"service","exp":1000001}"#, false),
            (r#"{"iss":"other","aud":"service","exp":1000001}"#, false),
            (r#"{"iss":"issuer","aud":"other","exp":1000001}"#, false),
            (r#"{"iss":"issuer","aud":[],"exp":1000001}"#, false),
            (r#"{"iss":"issuer","exp":1000001}"#, false),
            (r#"{"iss":"issuer","aud":"service"}"#, false),
            (r#"{"aud":"service","exp":1000001}"#, false),
            (r#"{"iss":"issuer","aud":"service","exp":"1000001"}"#, false),
            (r#"{"iss":"issuer","aud":"service","exp":-1}"#, false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(check(json).is_some(), expected, "{json}");
        }
    }

    #[test]
    fn access_is_by_kind_name_and_action() {
        let granted = check(
            r#"{"iss":"issuer","sub":"jo","aud":"service","exp":2000000,"access":[
                {"type":"repository","name":"a","actions":["pull"]},
                {"type":"repository","class":"plugin","name":"a","actions":["push"]},
                {"type":"repository","name":"b/c","actions":["*"]},
                {"type":"repository","name":"*","actions":["pull"]},
                {"type":"repository","name":"d","actions":null},
                {"type":"repository","class":null,"name":"f","actions":["push"]},
                {"type":"registry","name":"catalog","actions":["*"]}]}"#,
        )
        .unwrap();
        assert_eq!(granted.user.as_deref(), Some("jo"));
        let may =
            |name: &str, action| granted.allows(&Scope::Repository(name.parse().unwrap(), action));
        assert!(may("a", Action::Pull) && may("a", Action::Push) && !may("a", Action::Delete));
        assert!(may("b/c", Action::Delete) && !may("b", Action::Pull) && !may("d", Action::Pull));
        assert!(may("f", Action::Push));
        assert!(granted.allows(&Scope::Catalog));
        let class = |name: &str, class| granted.allows_class(&name.parse().unwrap(), class);
        assert!(class("a", "image") && class("a", "plugin") && !class("a", "Plugin"));
        assert!(class("b/c", "image") && !class("b/c", "plugin") && !class("e", "image"));
        assert!(
            check(r#"{"iss":"issuer","aud":"service","exp":2000000}"#).is_some_and(|granted| {
                granted.user.is_none() && !granted.allows(&Scope::Catalog)
            })
        );
    }
}
