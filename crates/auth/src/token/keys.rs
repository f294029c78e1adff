//! The keys that tokens are checked with: certificates, a file of keys, and keys of a server.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::certificate::{self, Trusted};
use super::jwk::{Jwk, JwkSet};
use super::jws::{Header, Token};
use super::key::{Algorithm, Key};
use crate::Error;
use crate::watched::Watched;

/// Keys of a server are asked for again after this time.
const REFRESH: Duration = Duration::from_mins(5);

/// And when a token names an unknown one, but not more often than this.
const RETRY: Duration = Duration::from_secs(10);

/// A server must answer in this time.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Keys of one set, at most.
const MAX_KEYS: usize = 1000;

/// Gets a JSON Web Key Set from where it is kept: its bytes, or why there are none.
pub type FetchKeys = Arc<dyn Fn() -> Fetching + Send + Sync>;

/// A key set on its way.
pub type Fetching = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;

/// A key and the only algorithm that it may be used with, if it says so.
#[derive(Clone, Debug)]
struct Known {
    key: Key,
    algorithm: Option<String>,
}

type Named = HashMap<String, Known>;

/// All keys that tokens may be signed with.
pub(crate) struct Keys {
    certificates: Option<Watched<Certificates>>,
    file: Option<Watched<Named>>,
    server: Option<Server>,
}

struct Certificates {
    trusted: Vec<Trusted>,
    named: Named,
}

impl Keys {
    pub(crate) fn open(
        certificates: Option<&Path>,
        file: Option<&Path>,
        fetch: Option<FetchKeys>,
    ) -> Result<Self, Error> {
        if certificates.is_none() && file.is_none() && fetch.is_none() {
            return Err(Error::NoKeys);
        }
        Ok(Self {
            certificates: certificates
                .map(|path| Watched::open(path, parse_certificates))
                .transpose()?,
            file: file.map(|path| Watched::open(path, parse_set)).transpose()?,
            server: fetch.map(Server::new),
        })
    }

    /// The payload of the token, if one of the keys has signed it.
    pub(crate) async fn verify(&self, token: &Token<'_>) -> Option<Vec<u8>> {
        let known = self.find(&token.header).await?;
        let algorithm = token.algorithm().as_str();
        if known.algorithm.is_some_and(|only| only != algorithm) {
            return None;
        }
        token.payload(&known.key)
    }

    /// The key that the header points to. A key in the header itself only says which of the
    /// trusted ones is meant.
    async fn find(&self, header: &Header) -> Option<Known> {
        let certificates = self.certificates.as_ref().map(Watched::get);
        let of_chain = |chain: &[String]| {
            let trusted = &certificates.as_ref()?.trusted;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            let key = certificate::verified_key(chain, trusted, now)?;
            Some(Known { key, algorithm: None })
        };
        if let Some(chain) = header.x5c.as_deref().filter(|chain| !chain.is_empty())
            && certificates.is_some()
        {
            return of_chain(chain);
        }
        let name = match &header.jwk {
            Some(Jwk { x5c: Some(chain), .. }) if !chain.is_empty() => return of_chain(chain),
            Some(jwk) => jwk.key().ok().filter(|key| !matches!(key, Key::Secret(_)))?.thumbprint(),
            None => header.kid.clone()?,
        };
        if let Some(known) = certificates.as_ref().and_then(|some| some.named.get(&name)) {
            return Some(known.clone());
        }
        if let Some(known) = self.file.as_ref().and_then(|file| file.get().get(&name).cloned()) {
            return Some(known);
        }
        match &self.server {
            Some(server) => server.find(&name).await,
            None => None,
        }
    }
}

fn parse_certificates(content: &[u8]) -> Result<Certificates, String> {
    let trusted = certificate::parse_bundle(content)?;
    let mut named = Named::new();
    for certificate in &trusted {
        let known = Known { key: certificate.key.clone(), algorithm: None };
        named.insert(known.key.thumbprint(), known.clone());
        named.insert(certificate.fingerprint.clone(), known);
    }
    Ok(Certificates { trusted, named })
}

/// A JSON Web Key Set. Keys that are not understood are left out with a warning.
fn parse_set(content: &[u8]) -> Result<Named, String> {
    let set: JwkSet = serde_json::from_slice(content)
        .map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
    let mut named = Named::new();
    for (index, value) in set.keys.into_iter().take(MAX_KEYS).enumerate() {
        let parsed = serde_json::from_value::<Jwk>(value).map_err(|error| error.to_string());
        let parsed = parsed.and_then(|jwk| Ok((jwk.key()?, jwk)));
        match parsed {
            Ok((key, jwk)) => {
                let known = Known { key, algorithm: jwk.alg };
                if !matches!(known.key, Key::Secret(_)) {
                    named.insert(known.key.thumbprint(), known.clone());
                }
                if let Some(kid) = jwk.kid {
                    named.insert(kid, known);
                }
            }
            Err(reason) => {
                tracing::warn!(key = index + 1, reason, "a key of a JWKS is left out");
            }
        }
    }
    Ok(named)
}

/// Keys that a server keeps.
struct Server {
    fetch: FetchKeys,
    fetched: RwLock<Fetched>,
    /// When the server was last asked. Whoever holds it may ask.
    asked: Mutex<Option<Instant>>,
}

#[derive(Clone, Default)]
struct Fetched {
    keys: Arc<Named>,
    at: Option<Instant>,
}

impl Server {
    fn new(fetch: FetchKeys) -> Self {
        Self { fetch, fetched: RwLock::default(), asked: Mutex::default() }
    }

    async fn find(&self, name: &str) -> Option<Known> {
        let fetched = self.fetched();
        if let Some(known) = fetched.keys.get(name) {
            if fetched.at.is_some_and(|at| at.elapsed() < REFRESH) {
                return Some(known.clone());
            }
            // One request asks again; the others go on with what is known.
            let Ok(mut asked) = self.asked.try_lock() else {
                return Some(known.clone());
            };
            self.ask(&mut asked).await;
        } else {
            let mut asked = self.asked.lock().await;
            if !self.fetched().keys.contains_key(name) {
                self.ask(&mut asked).await;
            }
        }
        self.fetched().keys.get(name).cloned()
    }

    /// Asks the server, unless it has just been asked. What is known stays if it fails.
    async fn ask(&self, asked: &mut Option<Instant>) {
        if asked.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        *asked = Some(Instant::now());
        let answer = tokio::time::timeout(FETCH_TIMEOUT, (self.fetch)()).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match answer.and_then(|content| parse_set(&content)) {
            Ok(keys) => {
                let fetched = Fetched { keys: Arc::new(keys), at: Some(Instant::now()) };
                *self.fetched.write().unwrap_or_else(PoisonError::into_inner) = fetched;
            }
            Err(reason) => tracing::error!(reason, "the keys of the JWKS URL can not be fetched"),
        }
    }

    fn fetched(&self) -> Fetched {
        self.fetched.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The algorithms that tokens may be signed with.
pub(crate) fn allowed(algorithms: &[Algorithm]) -> Vec<Algorithm> {
    if algorithms.is_empty() { Algorithm::ALL.to_vec() } else { algorithms.to_vec() }
}
