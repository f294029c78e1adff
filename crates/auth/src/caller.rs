//! Whoever was let in.

use std::sync::Arc;

use oci::RepositoryName;

use crate::Access;
use crate::rules::{Next, Rules};
use crate::scope::{Action, Scope};
use crate::token::Granted;

/// Somebody who was let in, and what else he may see.
#[derive(Clone)]
pub struct Caller {
    pub(crate) user: Option<Arc<str>>,
    pub(crate) granted: Option<Arc<Granted>>,
    /// `None`: there is nothing for him.
    pub(crate) access: Option<Access>,
}

impl Caller {
    /// Somebody who may not see or do anything.
    pub fn nobody() -> Self {
        Self { user: None, granted: None, access: None }
    }

    /// The user's name; `None`: nobody in particular.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// A word for statistics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self { access: None, .. } => "open",
            Self { user: None, granted: None, .. } => "anonymous",
            _ => "admitted",
        }
    }

    /// Whether he may pull from this repository, which he did not have to name.
    pub fn may_pull(&self, repository: &RepositoryName) -> bool {
        self.granted.as_ref().is_none_or(|granted| granted.allows_pull(repository))
            && self.may_see(repository)
    }

    /// Whether his token is for content of this class (`image`, `plugin`) in this repository; always
    /// without a token. What he may do there is another question.
    pub fn may_handle_class(&self, repository: &RepositoryName, class: &str) -> bool {
        self.granted.as_ref().is_none_or(|granted| granted.allows_class(repository, class))
    }

    /// Whether lists of repositories show him this one. Who may read the catalogue by the word of
    /// a token server may read all of it, as far as rules allow.
    pub fn may_see(&self, repository: &RepositoryName) -> bool {
        match &self.access {
            None => false,
            Some(access) => access
                .rules()
                .is_none_or(|rules| rules.allow(self.user(), Action::Pull, repository)),
        }
    }

    /// Whether lists of repositories show him all of them.
    pub fn sees_all(&self) -> bool {
        self.access.as_ref().is_some_and(|access| access.rules().is_none())
    }

    /// Where, after `last`, the next repository can be that lists show him.
    pub fn next_seen(&self, last: &str) -> Next {
        match &self.access {
            None => Next::Nowhere,
            Some(access) => {
                access.rules().map_or(Next::Anywhere, |rules| rules.next_pull(self.user(), last))
            }
        }
    }

    /// Hides a name that he may not see, so that he can carry it: a place in a list.
    pub fn seal(&self, name: &str) -> Option<String> {
        self.access.as_ref()?.places()?.seal(name)
    }

    /// What was hidden in `text`, if this or a server of the same secret has hidden it.
    pub fn unseal(&self, text: &str) -> Option<String> {
        self.access.as_ref()?.places()?.unseal(text)
    }

    /// Whether the rules let him do this.
    pub(crate) fn is_allowed_by(&self, rules: &Rules, scope: &Scope) -> bool {
        match scope {
            // What the catalogue shows is decided name by name.
            Scope::Catalog => self.user.is_some() || rules.allow_some_pull(None),
            Scope::Repository(name, action) => rules.allow(self.user(), *action, name),
        }
    }
}
