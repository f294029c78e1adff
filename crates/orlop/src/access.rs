//! From the configuration to the answer of who may do what.

use anyhow::Context as _;
use auth::{Access, Backend, Pattern, Rules, Who, htpasswd, silly, token};

use crate::config::{self, Authenticator, Config, Jwks, User};

/// What `auth` asks for. Files are read here, so that a mistake in them stops the start.
pub(crate) fn open(config: &Config) -> anyhow::Result<Access> {
    let asked = &config.auth;
    let rules = (!asked.rules.is_empty()).then(|| rules(&asked.rules)).transpose()?;
    let backend = match &asked.authenticator {
        Authenticator::None if rules.is_none() => return Ok(Access::none()),
        authenticator => backend(authenticator)?,
    };
    let secret = config.http.secret.as_ref().map(|secret| secret.expose().as_bytes());
    Access::new(backend, rules, secret.unwrap_or_default()).context("auth")
}

fn backend(authenticator: &Authenticator) -> anyhow::Result<Backend> {
    Ok(match authenticator {
        Authenticator::None => Backend::None,
        Authenticator::Silly { realm, service } => {
            silly::Silly { realm: realm.clone(), service: service.clone() }.into()
        }
        Authenticator::Htpasswd { realm, path } => {
            let config = htpasswd::Config { realm: realm.clone(), path: path.clone() };
            htpasswd::Htpasswd::new(config).context("auth.htpasswd")?.into()
        }
        Authenticator::Token(asked) => tokens(asked).context("auth.token")?.into(),
    })
}

fn tokens(asked: &config::Token) -> anyhow::Result<token::Token> {
    let jwks = match &asked.jwks {
        Some(Jwks::File(path)) => Some(path.clone()),
        Some(Jwks::Url(_)) | None => None,
    };
    let algorithms = asked.signing_algorithms.iter().map(|name| {
        name.parse().map_err(|error| anyhow::anyhow!("signingalgorithms: {name}: {error}"))
    });
    Ok(token::Token::new(token::Config {
        realm: asked.realm.clone(),
        service: asked.service.clone(),
        issuer: asked.issuer.clone(),
        root_cert_bundle: asked.root_cert_bundle.clone(),
        jwks,
        fetch_jwks: None,
        signing_algorithms: algorithms.collect::<anyhow::Result<_>>()?,
        auto_redirect: asked.auto_redirect_path.clone(),
    })?)
}

fn rules(asked: &[config::Rule]) -> anyhow::Result<Rules> {
    let rules = asked.iter().map(|rule| {
        let patterns = rule.repositories.iter().map(|text| {
            text.parse::<Pattern>().map_err(|error| anyhow::anyhow!("auth.rules: {text}: {error}"))
        });
        Ok(auth::Rule {
            repositories: patterns.collect::<anyhow::Result<_>>()?,
            users: rule.users.iter().map(who).collect(),
            actions: rule.actions.iter().map(|action| action_of(*action)).collect(),
        })
    });
    Ok(Rules::new(rules.collect::<anyhow::Result<Vec<_>>>()?))
}

fn who(user: &User) -> Who {
    match user {
        User::Anonymous => Who::Anyone,
        User::Authenticated => Who::AnyUser,
        User::Named(name) => Who::User(name.clone()),
    }
}

fn action_of(action: config::Action) -> auth::Action {
    match action {
        config::Action::Pull => auth::Action::Pull,
        config::Action::Push => auth::Action::Push,
        config::Action::Delete => auth::Action::Delete,
        config::Action::Admin => auth::Action::Admin,
    }
}
