//! From the configuration to the answer of who may do what.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use auth::{Access, Backend, CountAttempts, Pattern, Rules, Who, htpasswd, silly, token};
use http::StatusCode;
use net::client::{Client, Limits, Url};
use registry::Registry;

use crate::config::{self, Authenticator, Config, Jwks, Secret, User};

/// What the keys of a token server may cost. Those of the largest ones have some 10 KiB.
const KEY_LIMITS: Limits = Limits { time: Duration::from_secs(10), body: 1 << 20 };

/// What `auth` asks for. Files are read here, so that a mistake in them stops the start.
pub(crate) async fn open(config: &Config, registry: &Registry) -> anyhow::Result<Access> {
    let asked = &config.auth;
    let rules = (!asked.rules.is_empty()).then(|| rules(&asked.rules)).transpose()?;
    let backend = match &asked.authenticator {
        Authenticator::None if rules.is_none() => return Ok(Access::none()),
        authenticator => backend(authenticator, registry)?,
    };
    let secret = match config.http.secret.as_ref().map(Secret::expose) {
        // Everybody would know an empty one.
        None | Some("") => registry.shared_secret(auth::fresh_secret()?).await?,
        Some(secret) => secret.to_owned(),
    };
    Access::new(backend, rules, secret.as_bytes()).context("auth")
}

fn backend(authenticator: &Authenticator, registry: &Registry) -> anyhow::Result<Backend> {
    Ok(match authenticator {
        Authenticator::None => Backend::None,
        Authenticator::Silly { realm, service } => {
            silly::Silly { realm: realm.clone(), service: service.clone() }.into()
        }
        Authenticator::Htpasswd { realm, path } => {
            let count_attempts = registry.shares_attempts().then(|| count_attempts(registry));
            let config =
                htpasswd::Config { realm: realm.clone(), path: path.clone(), count_attempts };
            htpasswd::Htpasswd::new(config).context("auth.htpasswd")?.into()
        }
        Authenticator::Token(asked) => tokens(asked).context("auth.token")?.into(),
    })
}

/// Counts wrong passwords in the database, for all servers.
fn count_attempts(registry: &Registry) -> CountAttempts {
    let registry = registry.clone();
    Arc::new(move |attempts| {
        let registry = registry.clone();
        Box::pin(async move {
            let names = attempts.map(|attempt| (attempt.name, attempt.every));
            registry.count_attempts(names).await.map_err(|error| error.to_string())
        })
    })
}

fn tokens(asked: &config::Token) -> anyhow::Result<token::Token> {
    let (jwks, fetch_jwks) = match &asked.jwks {
        Some(Jwks::File(path)) => (Some(path.clone()), None),
        Some(Jwks::Url(url)) => (None, Some(fetch_keys(url).context("jwks")?)),
        None => (None, None),
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
        fetch_jwks,
        signing_algorithms: algorithms.collect::<anyhow::Result<_>>()?,
        auto_redirect: asked.auto_redirect_path.clone(),
    })?)
}

/// Gets the keys that a token server shows. It need not be there when the registry starts.
fn fetch_keys(url: &Url) -> anyhow::Result<token::FetchKeys> {
    let client = Client::new(KEY_LIMITS, None)?;
    let url = url.clone();
    Ok(Arc::new(move || {
        let (client, url) = (client.clone(), url.clone());
        Box::pin(async move {
            let answer = client.get(&url).await.map_err(|error| error.to_string())?;
            match answer.status() {
                StatusCode::OK => Ok(answer.into_body().into()),
                status => Err(format!("{url}: expected status 200, found {status}")),
            }
        })
    }))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn keys_are_what_the_server_shows() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in
                ["200 OK\r\ncontent-length: 2\r\n\r\n{}", "404 No\r\ncontent-length: 0\r\n\r\n"]
            {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
            }
        });
        let fetch = fetch_keys(&url.parse().unwrap()).unwrap();
        assert_eq!(fetch().await, Ok(b"{}".to_vec()));
        let missing = format!("{url}: expected status 200, found 404 Not Found");
        assert_eq!(fetch().await, Err(missing));
        assert!(fetch().await.unwrap_err().contains("refused"));
    }
}
