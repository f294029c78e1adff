//! A token server as registries are used with: users with passwords, who get
//! tokens for what they may do, signed by OpenSSL.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::basic;
use crate::scenario::Stage;

pub(super) const SERVICE: &str = "the registry";
pub(super) const ISSUER: &str = "the token server";
pub(super) const USER: &str = "jo";
pub(super) const PASSWORD: &str = "open sesame";

/// How the tokens are signed, and how the registry knows the key.
#[derive(Clone, Copy)]
pub(super) enum Signature {
    /// RS256 with a certificate, which each token carries.
    Rsa,
    /// ES256 with a key in a JWKS.
    Elliptic,
}

pub(super) struct TokenServer<'a> {
    stage: &'a Stage,
    listener: TcpListener,
    signature: Signature,
    key: PathBuf,
    /// The header of every token.
    header: Mutex<Value>,
    /// What is at `/keys`; nothing: it fails.
    published: Mutex<Option<Value>>,
    /// What each request asked for: user, then scopes.
    asked: Mutex<Vec<(Option<String>, Vec<String>)>>,
    /// The file that the registry is given: a certificate, or a JWKS.
    pub(super) trusted: PathBuf,
}

impl<'a> TokenServer<'a> {
    pub(super) fn new(stage: &'a Stage, signature: Signature) -> Result<Self> {
        let key = stage.path("token.key");
        let (header, trusted) = match signature {
            Signature::Rsa => rsa(stage, &key)?,
            Signature::Elliptic => {
                let (header, jwks) = elliptic(stage, &key, "first")?;
                (header, stage.file("jwks.json", jwks.to_string())?)
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(Self {
            stage,
            listener,
            signature,
            key,
            header: Mutex::new(header),
            published: Mutex::default(),
            asked: Mutex::default(),
            trusted,
        })
    }

    /// The URL of the JWKS, where there is nothing until [`Self::publish`].
    pub(super) fn keys(&self) -> Result<String> {
        Ok(format!("http://{}/keys", self.listener.local_addr()?))
    }

    /// Signs with a new ES256 key of this name from now on, which the JWKS shows, and no other.
    pub(super) fn publish(&self, name: &str) -> Result<()> {
        let (header, jwks) = elliptic(self.stage, &self.key, name)?;
        *lock(&self.header) = header;
        *lock(&self.published) = Some(jwks);
        Ok(())
    }

    /// From now on the JWKS can not be had.
    pub(super) fn withdraw(&self) {
        *lock(&self.published) = None;
    }

    /// By name, because crane follows no challenge to a private address.
    pub(super) fn realm(&self) -> Result<String> {
        Ok(format!("http://localhost:{}/token", self.listener.local_addr()?.port()))
    }

    /// `127.0.0.1:PORT`, for a proxy.
    pub(super) fn address(&self) -> Result<String> {
        Ok(self.listener.local_addr()?.to_string())
    }

    /// Every set of scopes that this user asked for.
    pub(super) fn asked(&self, user: Option<&str>) -> Vec<Vec<String>> {
        let asked = lock(&self.asked);
        let of_user = asked.iter().filter(|(who, _)| who.as_deref() == user);
        of_user.map(|(_, scopes)| scopes.clone()).collect()
    }

    /// Answers for as long as the play goes on.
    pub(super) fn serve(&self, play: impl FnOnce() -> Result<()>) -> Result<()> {
        let over = AtomicBool::new(false);
        let address = self.listener.local_addr()?;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for connection in self.listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    // A client that went away shows in what the client says.
                    let _ = connection.map(|connection| self.answer(connection));
                }
            });
            let outcome = play();
            over.store(true, Ordering::SeqCst);
            TcpStream::connect(address).context("cannot stop the token server")?;
            outcome
        })
    }

    fn answer(&self, mut connection: TcpStream) -> Result<()> {
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut lines = BufReader::new(connection.try_clone()?).lines();
        let request = lines.next().context("no request")??;
        let mut authorization = None;
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            match line.split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    authorization = Some(value.to_owned());
                }
                _ => {}
            }
        }
        let (status, body) = self.decide(&request, authorization.as_deref())?;
        let body = body.to_string();
        write!(
            connection,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )?;
        Ok(())
    }

    fn decide(&self, request: &str, authorization: Option<&str>) -> Result<(&'static str, Value)> {
        if request.starts_with("GET /keys ") {
            return Ok(match &*lock(&self.published) {
                Some(jwks) => ("200 OK", jwks.clone()),
                None => ("503 Service Unavailable", json!({})),
            });
        }
        let Some(query) = request.strip_prefix("GET /token?").and_then(|r| r.split(' ').next())
        else {
            return Ok(("404 Not Found", json!({})));
        };
        let user = match authorization {
            None => None,
            Some(given) if given == basic(USER, PASSWORD) => Some(USER),
            Some(_) => return Ok(("401 Unauthorized", json!({"details": "wrong password"}))),
        };
        let mut scopes = Vec::new();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8()?;
            match name {
                "service" if value != SERVICE => {
                    return Ok(("400 Bad Request", json!({"details": "unknown service"})));
                }
                "scope" => scopes.extend(value.split_whitespace().map(str::to_owned)),
                _ => {}
            }
        }
        let token = self.token(user, &scopes)?;
        lock(&self.asked).push((user.map(str::to_owned), scopes));
        Ok(("200 OK", json!({"token": token, "access_token": token, "expires_in": 300})))
    }

    pub(super) fn token(&self, user: Option<&str>, scopes: &[String]) -> Result<String> {
        let access: Vec<Value> = scopes.iter().filter_map(|scope| granted(user, scope)).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": ISSUER, "sub": user.unwrap_or_default(), "aud": SERVICE,
            "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1", "access": access,
        });
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&lock(&self.header)), encode(&claims));
        let outcome = self
            .stage
            .client("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .input(signed.as_bytes())
            .succeed()?;
        let signature = match self.signature {
            Signature::Rsa => outcome.stdout,
            Signature::Elliptic => fixed_width(&outcome.stdout)?,
        };
        Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everybody may pull below `public/`; the user may also push images there, and
/// whatever he has to `team/`. What is not granted is left out, as the
/// specification wants it.
fn granted(user: Option<&str>, scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let (kind, class) = kind.split_once('(').unwrap_or((kind, ""));
    let class = if name.starts_with("team/") { class.trim_end_matches(')') } else { "" };
    let may = |action: &&str| match kind {
        "repository" if name.starts_with("public/") => user.is_some() || *action == "pull",
        "repository" => user.is_some() && name.starts_with("team/"),
        _ => false,
    };
    let actions: Vec<&str> = actions.split(',').filter(may).collect();
    (!actions.is_empty())
        .then(|| json!({"type": kind, "class": class, "name": name, "actions": actions}))
}

fn rsa(stage: &Stage, key: &Path) -> Result<(Value, PathBuf)> {
    let certificate = stage.path("token.crt");
    stage
        .client("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=token server", "-keyout"])
        .arg(key)
        .arg("-out")
        .arg(&certificate)
        .succeed()?;
    let der = stage
        .client("openssl")
        .args(["x509", "-outform", "DER", "-in"])
        .arg(&certificate)
        .succeed()?
        .stdout;
    Ok((json!({"typ": "JWT", "alg": "RS256", "x5c": [BASE64.encode(&der)]}), certificate))
}

/// The header of tokens and the JWKS for them.
fn elliptic(stage: &Stage, key: &Path, name: &str) -> Result<(Value, Value)> {
    stage
        .client("openssl")
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
        .arg(key)
        .succeed()?;
    let der = stage
        .client("openssl")
        .args(["pkey", "-pubout", "-outform", "DER", "-in"])
        .arg(key)
        .succeed()?
        .stdout;
    // The point is the end of a SubjectPublicKeyInfo: 4, then x and y.
    let point = der.last_chunk::<64>().context("a public key that is none")?;
    let (x, y) = point.split_at(32);
    let jwks = json!({"keys": [{
        "kty": "EC", "crv": "P-256", "kid": name, "use": "sig", "alg": "ES256",
        "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y),
    }]});
    Ok((json!({"typ": "JWT", "alg": "ES256", "kid": name}), jwks))
}

/// r and s of an ECDSA signature in 32 bytes each (RFC 7518 section 3.4), from
/// the DER that OpenSSL writes.
fn fixed_width(der: &[u8]) -> Result<Vec<u8>> {
    let mut rest = der.get(2..).context("a signature that is none")?;
    let mut joined = Vec::new();
    for _ in 0..2 {
        let (head, after) = rest.split_at_checked(2).context("a signature cut short")?;
        let length = usize::from(*head.last().unwrap_or(&0));
        let (number, after) = after.split_at_checked(length).context("a signature cut short")?;
        let digits = number.strip_prefix(&[0]).unwrap_or(number);
        ensure!(digits.len() <= 32, "a number of {} bytes in a signature", digits.len());
        joined.resize(joined.len() + 32 - digits.len(), 0);
        joined.extend_from_slice(digits);
        rest = after;
    }
    Ok(joined)
}
