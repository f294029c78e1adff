//! Tokens that another server issues (the "token authentication specification" of distribution).

mod certificate;
mod claims;
mod jwk;
mod jws;
mod key;
mod keys;
mod remembered;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use claims::Granted;
pub use key::Algorithm;
use keys::Keys;
pub use keys::{FetchKeys, Fetching};
use remembered::Remembered;

use crate::scope::{Scope, joined};
use crate::{Error, Problem, challenge};

/// Tokens longer than this are refused.
const MAX_LENGTH: usize = 64 << 10;

/// Whose tokens are taken, and where clients get them.
#[derive(Clone)]
pub struct Config {
    /// The URL where clients get tokens.
    pub realm: String,
    /// What this registry is called; tokens must be for it (`aud`).
    pub service: String,
    /// Who issues tokens (`iss`).
    pub issuer: String,
    /// Certificates in PEM, whose keys and whose certificates may sign tokens.
    pub root_cert_bundle: Option<PathBuf>,
    /// A JSON Web Key Set in a file, which is read again when it changes.
    pub jwks: Option<PathBuf>,
    /// Where else keys come from: a JSON Web Key Set that a server keeps. It is asked in the
    /// background, at once and every 5 minutes, sooner when a token names an unknown key.
    pub fetch_jwks: Option<FetchKeys>,
    /// The algorithms that are taken; empty: all.
    pub signing_algorithms: Vec<Algorithm>,
    /// Set: clients are sent to this path on the host that they asked for, instead of to
    /// `realm`.
    pub auto_redirect: Option<String>,
}

/// Checks tokens.
pub struct Token {
    realm: String,
    service: String,
    issuer: String,
    auto_redirect: Option<String>,
    algorithms: Vec<Algorithm>,
    keys: Keys,
    remembered: Remembered,
}

/// What the address of the token server is made of when it follows the request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) forwarded_proto: Option<&'a str>,
}

impl Token {
    /// Reads the keys that there are. With `fetch_jwks` it must be called within a runtime of tokio.
    pub fn new(config: Config) -> Result<Self, Error> {
        let keys = Keys::open(
            config.root_cert_bundle.as_deref(),
            config.jwks.as_deref(),
            config.fetch_jwks,
        )?;
        Ok(Self {
            realm: config.realm,
            service: config.service,
            issuer: config.issuer,
            auto_redirect: config.auto_redirect,
            algorithms: keys::allowed(&config.signing_algorithms),
            keys,
            remembered: Remembered::new(),
        })
    }

    /// What the token grants; `None` if it can not be trusted. One that was good a moment ago is
    /// not checked again.
    pub(crate) async fn granted(&self, token: &str) -> Option<Arc<Granted>> {
        if let Some(granted) = self.remembered.get(token, now()?) {
            return Some(granted);
        }
        let granted = Arc::new(Box::pin(self.check(token)).await?);
        self.remembered.insert(token, &granted);
        Some(granted)
    }

    async fn check(&self, token: &str) -> Option<Granted> {
        if token.len() > MAX_LENGTH {
            return None;
        }
        let token = jws::Token::parse(token)?;
        if !self.algorithms.contains(&token.algorithm()) {
            return None;
        }
        let payload = self.keys.verify(&token).await?;
        claims::granted(&payload, &self.issuer, &self.service, now()?)
    }

    pub(crate) fn challenge(
        &self,
        wanted: &[Scope],
        problem: Problem,
        origin: Origin<'_>,
    ) -> String {
        challenge::bearer(&self.realm(origin), &self.service, &joined(wanted), problem.error())
    }

    fn realm(&self, origin: Origin<'_>) -> String {
        let is_host = |host: &&str| {
            !host.is_empty()
                && host.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']')
                })
        };
        match (&self.auto_redirect, origin.host.filter(is_host)) {
            (Some(path), Some(host)) => {
                let proto = origin.forwarded_proto.and_then(|list| list.split(',').next());
                let is_http = proto.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("http"));
                let scheme = if is_http { "http" } else { "https" };
                format!("{scheme}://{host}{path}")
            }
            _ => self.realm.clone(),
        }
    }
}

/// Seconds since the epoch.
fn now() -> Option<f64> {
    Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}
