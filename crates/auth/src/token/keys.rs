//! The keys that tokens are checked with: certificates, a file of keys, and keys of a server.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::certificate::{self, Trusted};
use super::jwk::{Jwk, JwkSet};
use super::jws::{Header, Token};
use super::key::{Algorithm, Key};
use crate::Error;
use crate::watched::Watched;

/// Keys of a server are asked for again after this time.
const REFRESH: Duration = Duration::from_mins(5);

/// And when a token names an unknown one, or after a failure, but not before this time has passed.
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
            server: fetch.map(Server::start),
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
    // Without the parser's words, which quote what they find: it may be a secret.
    let set: JwkSet = serde_json::from_slice(content).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("expected a JSON Web Key Set, {{\"keys\": [...]}}; wrong at {line}:{column}")
    })?;
    let mut named = Named::new();
    for (index, value) in set.keys.into_iter().take(MAX_KEYS).enumerate() {
        let parsed = serde_json::from_value::<Jwk>(value).map_err(|_| {
            "expected an object with texts in kty, kid, alg, use, crv, n, e, x, y, k".to_owned()
        });
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
    if named.is_empty() {
        tracing::warn!("a JWKS has no key that can be used: no token is good by it");
    }
    Ok(named)
}

/// Keys that a server keeps. They are asked for in the background, so that a known key never waits
/// and no request that is broken off takes the answer with it.
struct Server {
    fetched: watch::Receiver<Fetched>,
    /// Somebody waits for a key that is not known.
    wanted: Arc<Notify>,
}

#[derive(Default)]
struct Fetched {
    keys: Named,
    /// When the server was last asked, with success or without.
    asked: Option<Instant>,
}

impl Server {
    /// Asks at once, and then for as long as this lives.
    fn start(fetch: FetchKeys) -> Self {
        let (sender, fetched) = watch::channel(Fetched::default());
        let wanted = Arc::new(Notify::new());
        tokio::spawn(keep_fresh(fetch, sender, Arc::clone(&wanted)));
        Self { fetched, wanted }
    }

    async fn find(&self, name: &str) -> Option<Known> {
        let mut fetched = self.fetched.clone();
        {
            let now = fetched.borrow_and_update();
            if let Some(known) = now.keys.get(name) {
                return Some(known.clone());
            }
            if now.asked.is_some_and(|asked| asked.elapsed() < RETRY) {
                return None;
            }
        }
        self.wanted.notify_one();
        fetched.changed().await.ok()?;
        fetched.borrow().keys.get(name).cloned()
    }
}

/// Asks for the keys until nobody needs them. What is known stays while the server fails.
async fn keep_fresh(fetch: FetchKeys, fetched: watch::Sender<Fetched>, wanted: Arc<Notify>) {
    let mut failures = 0;
    let mut is_known = false;
    // What stays the same is not parsed again, and not complained about again.
    let mut last = None;
    loop {
        let answer = timeout(FETCH_TIMEOUT, fetch()).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let answer = answer.and_then(|content| {
            if last.as_ref() != Some(&content) {
                let keys = parse_set(&content)?;
                fetched.send_if_modified(|fetched| {
                    fetched.keys = keys;
                    false
                });
                last = Some(content);
            }
            Ok(())
        });
        let pause = match &answer {
            Ok(()) if is_known && failures == 0 => REFRESH,
            Ok(()) => {
                let names = fetched.borrow().keys.len();
                if names == 0 {
                    tracing::warn!("the JWKS URL has no key that can be used: no token is good");
                } else {
                    tracing::info!(names, "the keys of the JWKS URL are known");
                }
                (is_known, failures) = (true, 0);
                REFRESH
            }
            Err(reason) => {
                let without = if is_known { "the old ones are used" } else { "no token is good" };
                tracing::error!(reason, "the keys of the JWKS URL can not be fetched; {without}");
                failures += 1;
                REFRESH.min(RETRY * 2_u32.saturating_pow(failures - 1))
            }
        };
        fetched.send_modify(|fetched| fetched.asked = Some(Instant::now()));
        let asked_again = async {
            sleep(RETRY).await;
            wanted.notified().await;
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = asked_again => {}
            () = fetched.closed() => return,
        }
    }
}

/// The algorithms that tokens may be signed with.
pub(crate) fn allowed(algorithms: &[Algorithm]) -> Vec<Algorithm> {
    if algorithms.is_empty() { Algorithm::ALL.to_vec() } else { algorithms.to_vec() }
}
