//! For tests of clients: whoever says anything at all about himself may do everything.

use crate::challenge;
use crate::scope::Scope;

/// The name of everybody.
pub(crate) const USER: &str = "silly";

/// What clients are told.
#[derive(Clone, Debug)]
pub struct Silly {
    /// Where to get a token, says the challenge.
    pub realm: String,
    /// What the registry is called.
    pub service: String,
}

impl Silly {
    /// registry:2 does not join the actions on one repository here.
    pub(crate) fn challenge(&self, wanted: &[Scope]) -> String {
        let text = |scope: &Scope| format!("{}:{}:{}", scope.kind(), scope.name(), scope.action());
        let scope = wanted.iter().map(text).collect::<Vec<_>>().join(" ");
        challenge::bearer(&self.realm, &self.service, &scope, None)
    }
}
