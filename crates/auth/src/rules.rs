//! Who may do what where, as the configuration says it.
//!
//! What no rule allows is denied.

use std::collections::HashSet;

use oci::RepositoryName;

use crate::pattern::Pattern;
use crate::scope::Action;

/// One rule: these users may do this to these repositories.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Repositories; a rule without any allows nothing.
    pub repositories: Vec<Pattern>,
    /// Users.
    pub users: Vec<Who>,
    /// What they may do. `push` includes `pull`: a push looks at what is there.
    pub actions: Vec<Action>,
}

/// Somebody a rule is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Who {
    /// Everybody, logged in or not. Written `anonymous`.
    Anyone,
    /// Everybody who is logged in. Written `*`.
    AnyUser,
    /// The user of this name.
    User(String),
}

impl From<&str> for Who {
    fn from(text: &str) -> Self {
        match text {
            "anonymous" => Self::Anyone,
            "*" => Self::AnyUser,
            name => Self::User(name.to_owned()),
        }
    }
}

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Compiled>);

#[derive(Clone, Debug)]
struct Compiled {
    repositories: Vec<Pattern>,
    users: HashSet<Who>,
    actions: HashSet<Action>,
}

impl Rules {
    /// The order of rules does not matter: each one only adds to what is allowed.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let compile = |rule: Rule| {
            let mut actions = rule.actions.into_iter().collect::<HashSet<_>>();
            if actions.contains(&Action::Push) {
                actions.insert(Action::Pull);
            }
            let users = rule.users.into_iter().collect();
            Compiled { repositories: rule.repositories, users, actions }
        };
        Self(rules.into_iter().map(compile).collect())
    }

    /// Whether `user` (`None`: who is not logged in) may do `action` to the repository.
    pub fn allow(&self, user: Option<&str>, action: Action, repository: &RepositoryName) -> bool {
        self.about(user, action).any(|pattern| pattern.matches(repository))
    }

    /// Whether who is not logged in may do anything at all.
    pub(crate) fn allow_strangers(&self) -> bool {
        Action::ALL.into_iter().any(|action| self.about(None, action).next().is_some())
    }

    /// Whether there may be a repository that `user` may pull from.
    pub(crate) fn allow_some_pull(&self, user: Option<&str>) -> bool {
        self.about(user, Action::Pull).next().is_some()
    }

    /// Whether a name after `last` can be one that `user` may pull from; and if no name before it
    /// can, the text that comes just before all that can.
    pub(crate) fn next_pull(&self, user: Option<&str>, last: &str) -> Next {
        let mut nearest: Option<&str> = None;
        for pattern in self.about(user, Action::Pull) {
            let prefix = pattern.prefix();
            if last.starts_with(prefix) {
                return Next::Anywhere;
            }
            if prefix > last && nearest.is_none_or(|nearest| prefix < nearest) {
                nearest = Some(prefix);
            }
        }
        nearest.map_or(Next::Nowhere, |prefix| Next::After(before(prefix)))
    }

    fn about<'a>(
        &'a self,
        user: Option<&'a str>,
        action: Action,
    ) -> impl Iterator<Item = &'a Pattern> {
        let applies = move |rule: &&Compiled| {
            rule.actions.contains(&action) && rule.users.iter().any(|who| who.is(user))
        };
        self.0.iter().filter(applies).flat_map(|rule| &rule.repositories)
    }
}

/// Where to go on with looking for repositories.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// With the next name.
    Anywhere,
    /// After this text. It is no name, and says nothing but what the rules say.
    After(String),
    /// There are none.
    Nowhere,
}

impl Who {
    fn is(&self, user: Option<&str>) -> bool {
        match self {
            Self::Anyone => true,
            Self::AnyUser => user.is_some(),
            Self::User(name) => user == Some(name),
        }
    }
}

/// A text that is smaller than `prefix` and larger than every name that is.
fn before(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    let Some(last) = text.pop() else {
        return text;
    };
    // Names have no character above `z`.
    if let Some(lower) = char::from_u32(u32::from(last).saturating_sub(1)) {
        text.push(lower);
        text.push('~');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let rule = |repositories: &[&str], users: &[&str], actions: &[Action]| Rule {
            repositories: repositories.iter().map(|text| text.parse().unwrap()).collect(),
            users: users.iter().map(|text| Who::from(*text)).collect(),
            actions: actions.to_vec(),
        };
        Rules::new([
            rule(&["library/**"], &["anonymous"], &[Action::Pull]),
            rule(&["team/**", "library/**"], &["*"], &[Action::Pull]),
            rule(&["**"], &["ci"], &[Action::Push]),
            rule(&["team/app"], &["jo"], &[Action::Delete]),
            rule(&[], &["jo"], &[Action::Push]),
        ])
    }

    #[test]
    fn what_no_rule_allows_is_denied() {
        let rules = rules();
        let may = |user, action, name: &str| rules.allow(user, action, &name.parse().unwrap());
        assert!(may(None, Action::Pull, "library/alpine"));
        assert!(!may(None, Action::Pull, "team/app"));
        assert!(!may(None, Action::Push, "library/alpine"));
        assert!(may(Some("jo"), Action::Pull, "library/alpine"), "who is logged in is anybody");
        assert!(may(Some("jo"), Action::Pull, "team/app"));
        assert!(may(Some("jo"), Action::Delete, "team/app"));
        assert!(!may(Some("jo"), Action::Delete, "team/other"));
        assert!(!may(Some("jo"), Action::Push, "team/app"), "a rule without repositories");
        assert!(may(Some("ci"), Action::Push, "other") && may(Some("ci"), Action::Pull, "other"));
        assert!(!may(Some("ci"), Action::Delete, "other"));
        assert!(!may(Some("ci"), Action::Admin, "other"));
        assert!(!may(Some("anonymous"), Action::Pull, "x") && !may(Some("*"), Action::Pull, "x"));
        assert!(!Rules::default().allow(Some("jo"), Action::Pull, &"a".parse().unwrap()));
    }

    #[test]
    fn the_next_name_that_can_be_pulled() {
        let rules = rules();
        let next = |user, last| rules.next_pull(user, last);
        assert_eq!(next(Some("ci"), "x"), Next::Anywhere);
        assert_eq!(next(None, ""), Next::After("library.~".to_owned()));
        assert_eq!(next(None, "library/a"), Next::Anywhere);
        assert_eq!(next(None, "library0"), Next::Nowhere);
        assert_eq!(next(Some("jo"), "library0"), Next::After("team.~".to_owned()));
    }

    proptest::proptest! {
        /// No name lies between the text and the prefix, and none with the prefix before it.
        #[test]
        fn nothing_is_left_out(prefix in "[a-z0-9._/-]{1,6}", name in "[a-z0-9._/-]{1,6}") {
            let before = before(&prefix);
            proptest::prop_assert!(before < prefix);
            proptest::prop_assert_eq!(name < prefix, name < before, "{} {} {}", prefix, name, before);
        }
    }
}
