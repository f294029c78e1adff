//! `auth`: who somebody is, and what they may do.

use std::path::PathBuf;

use net::client::Url;

use super::super::error::ConfigError;
use super::section::Section;

/// `auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Auth {
    pub(crate) authenticator: Authenticator,
    /// What is allowed. Empty: everything, to everyone whom the authenticator lets in. Otherwise
    /// what no rule allows is denied.
    pub(crate) rules: Vec<Rule>,
}

/// How the registry finds out who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authenticator {
    /// Not at all: everyone is anonymous.
    None,
    /// Any `Authorization` header passes.
    Silly {
        realm: String,
        service: String,
    },
    /// Names and bcrypt hashes in a file.
    Htpasswd {
        realm: String,
        path: PathBuf,
    },
    Token(Token),
}

/// `auth.token`: tokens that a token server signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The URL of the token server.
    pub(crate) realm: String,
    pub(crate) service: String,
    pub(crate) issuer: String,
    /// One of this and `jwks` is given.
    pub(crate) root_cert_bundle: Option<PathBuf>,
    pub(crate) jwks: Option<Jwks>,
    /// As JSON Web Algorithms spells them (`RS256`, `EdDSA`); all that are known if empty.
    pub(crate) signing_algorithms: Vec<String>,
    /// The path of the token server, if it is to be found at the host that the client called.
    pub(crate) auto_redirect_path: Option<String>,
}

/// A JSON Web Key Set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Jwks {
    File(PathBuf),
    /// It is protected on its way.
    Url(Url),
}

/// One of `auth.rules`: each of these users may do each of these actions in each of these
/// repositories. No list is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Patterns: `*` is any part of a name without a slash, `**` any part.
    pub(crate) repositories: Vec<String>,
    pub(crate) users: Vec<User>,
    pub(crate) actions: Vec<Action>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum User {
    /// Those who did not sign in.
    Anonymous,
    /// Those who signed in.
    Authenticated,
    Named(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
    Delete,
    Admin,
}

pub(super) fn read(auth: &Section<'_>) -> Result<Auth, ConfigError> {
    let rules: Vec<_> =
        auth.sections("rules").iter().map(rule).collect::<Result<_, ConfigError>>()?;
    // An empty list would mean the opposite of what it looks like.
    if rules.is_empty() && auth.names("rules") {
        let reason =
            "expected a rule, found none; leave the key out if whoever is let in may do all";
        return Err(auth.unfit("rules", reason));
    }
    Ok(Auth { authenticator: authenticator(auth)?, rules })
}

fn authenticator(auth: &Section<'_>) -> Result<Authenticator, ConfigError> {
    let [silly, htpasswd, token] = ["silly", "htpasswd", "token"].map(|name| auth.section(name));
    if silly.is_set() {
        let (realm, service) = (silly.must_text("realm")?, silly.must_text("service")?);
        Ok(Authenticator::Silly { realm, service })
    } else if htpasswd.is_set() {
        let (realm, path) = (htpasswd.must_text("realm")?, htpasswd.must_text("path")?.into());
        Ok(Authenticator::Htpasswd { realm, path })
    } else if token.is_set() {
        Ok(Authenticator::Token(read_token(&token)?))
    } else if auth.section("none").is_set() {
        Ok(Authenticator::None)
    } else {
        // The defaults and the checks leave no other; nothing here may open the registry.
        Err(auth.unfit("", "names no access controller; write `none` if that is meant"))
    }
}

fn read_token(token: &Section<'_>) -> Result<Token, ConfigError> {
    let jwks = token.get("jwks", |place| {
        if place.contains("://") {
            place.parse().ok().filter(Url::is_protected).map(Jwks::Url)
        } else {
            Some(Jwks::File(place.into()))
        }
    })?;
    let root_cert_bundle = token.path("rootcertbundle")?;
    if jwks.is_none() && root_cert_bundle.is_none() {
        let reason = "needs rootcertbundle or jwks: without a key no token is good";
        return Err(token.unfit("", reason));
    }
    Ok(Token {
        realm: token.must_text("realm")?,
        service: token.must_text("service")?,
        issuer: token.must_text("issuer")?,
        root_cert_bundle,
        jwks,
        signing_algorithms: token.list("signingalgorithms", |text| Some(algorithm(text)))?,
        auto_redirect_path: if token.is_on("autoredirect")? {
            Some(token.must_text("autoredirectpath")?)
        } else {
            None
        },
    })
}

fn algorithm(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    if upper == "EDDSA" { "EdDSA".to_owned() } else { upper }
}

fn rule(rule: &Section<'_>) -> Result<Rule, ConfigError> {
    Ok(Rule {
        repositories: rule.texts("repositories")?,
        users: rule.list("users", |text| {
            Some(match text {
                "anonymous" => User::Anonymous,
                "*" => User::Authenticated,
                name => User::Named(name.to_owned()),
            })
        })?,
        actions: rule.list("actions", |text| match text.to_ascii_lowercase().as_str() {
            "pull" => Some(Action::Pull),
            "push" => Some(Action::Push),
            "delete" => Some(Action::Delete),
            "admin" => Some(Action::Admin),
            _ => None,
        })?,
    })
}
