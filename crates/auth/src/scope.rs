//! What a request wants to do, in the words of the token protocol
//! (<https://distribution.github.io/distribution/spec/auth/scope/>).

use std::fmt;
use std::str::FromStr;

use oci::RepositoryName;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};
use thiserror::Error;

/// What can be done to a repository.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Write manifests, blobs and tags.
    Push,
    /// Delete manifests, blobs and tags, and give up uploads.
    Delete,
    /// Change how the repository is kept. No request of the protocol needs it.
    Admin,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pull, Self::Push, Self::Delete, Self::Admin];

    /// As scopes and rules write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is not an action.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0:?} is not an action: use pull, push, delete or admin")]
pub struct UnknownAction(String);

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| UnknownAction(text.to_owned()))
    }
}

/// One thing that a request wants to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scope {
    /// To see which repositories there are: `registry:catalog:*`.
    Catalog,
    /// To do something to a repository: `repository:<name>:<action>`.
    Repository(RepositoryName, Action),
}

impl Scope {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Catalog => "registry",
            Self::Repository(..) => "repository",
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Catalog => "catalog",
            Self::Repository(name, _) => name.as_str(),
        }
    }

    pub(crate) fn action(&self) -> &'static str {
        match self {
            Self::Catalog => "*",
            Self::Repository(_, action) => action.as_str(),
        }
    }
}

/// As the `detail` of a refusal lists it; registry:2 spells the fields so.
impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Scope", 4)?;
        fields.serialize_field("Type", self.kind())?;
        fields.serialize_field("Class", "")?;
        fields.serialize_field("Name", self.name())?;
        fields.serialize_field("Action", self.action())?;
        fields.end()
    }
}

/// The `scope` of a challenge: `repository:a:pull,push repository:b:pull`, in the order in which
/// the request wants them.
pub(crate) fn joined(wanted: &[Scope]) -> String {
    let mut resources: Vec<(&Scope, Vec<&str>)> = Vec::new();
    for scope in wanted {
        let same = |(other, _): &&mut (&Scope, _)| {
            (other.kind(), other.name()) == (scope.kind(), scope.name())
        };
        match resources.iter_mut().find(same) {
            Some((_, actions)) if actions.contains(&scope.action()) => {}
            Some((_, actions)) => actions.push(scope.action()),
            None => resources.push((scope, vec![scope.action()])),
        }
    }
    let text = |(scope, actions): &(&Scope, Vec<&str>)| {
        format!("{}:{}:{}", scope.kind(), scope.name(), actions.join(","))
    };
    resources.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(name: &str, action: Action) -> Scope {
        Scope::Repository(name.parse().unwrap(), action)
    }

    #[test]
    fn actions_on_one_repository_share_a_scope() {
        assert_eq!(joined(&[]), "");
        assert_eq!(joined(&[Scope::Catalog]), "registry:catalog:*");
        let mount = [
            scope("a/b", Action::Pull),
            scope("a/b", Action::Push),
            scope("c", Action::Pull),
            scope("a/b", Action::Pull),
        ];
        assert_eq!(joined(&mount), "repository:a/b:pull,push repository:c:pull");
    }

    #[test]
    fn details_are_spelled_as_registry_2_does() {
        assert_eq!(
            serde_json::to_string(&[scope("a/b", Action::Delete), Scope::Catalog]).unwrap(),
            r#"[{"Type":"repository","Class":"","Name":"a/b","Action":"delete"},{"Type":"registry","Class":"","Name":"catalog","Action":"*"}]"#
        );
    }

    #[test]
    fn actions_are_read_as_they_are_written() {
        for action in Action::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        assert!("Pull".parse::<Action>().is_err());
    }
}
