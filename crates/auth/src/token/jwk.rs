//! JSON Web Keys (RFC 7517) as files, servers and tokens hold them.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::key::{Curve, Key};

/// A set of keys, as it is written.
#[derive(Deserialize)]
pub(crate) struct JwkSet {
    pub(crate) keys: Vec<serde_json::Value>,
}

/// A key, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Jwk {
    kty: String,
    pub(crate) kid: Option<String>,
    pub(crate) alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<Secret>,
    pub(crate) x5c: Option<Vec<String>>,
}

/// Text that no log shows.
#[derive(Deserialize)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("secret")
    }
}

impl Jwk {
    /// The key itself, or what is wrong with it.
    pub(crate) fn key(&self) -> Result<Key, String> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("the key is not for signatures".to_owned());
        }
        let curve = self.crv.as_deref().unwrap_or_default();
        match self.kty.as_str() {
            "RSA" => {
                let n = without_zeros(bytes("n", self.n.as_deref())?);
                let e = without_zeros(bytes("e", self.e.as_deref())?);
                if n.len() < 256 {
                    return Err("an RSA key must have 2048 bits or more".to_owned());
                }
                Ok(Key::Rsa { n, e })
            }
            "EC" => {
                let curve = [Curve::P256, Curve::P384, Curve::P521]
                    .into_iter()
                    .find(|known| known.name() == curve)
                    .ok_or_else(|| format!("crv {curve:?}: expected P-256, P-384 or P-521"))?;
                let coordinate = |name, text| of_size(name, bytes(name, text)?, curve.size());
                let x = coordinate("x", self.x.as_deref())?;
                let y = coordinate("y", self.y.as_deref())?;
                Ok(Key::Ec { curve, x, y })
            }
            "OKP" if curve == "Ed25519" => {
                Ok(Key::Ed25519(of_size("x", bytes("x", self.x.as_deref())?, 32)?))
            }
            "OKP" => Err(format!("crv {curve:?}: expected Ed25519")),
            "oct" => {
                let secret = bytes("k", self.k.as_ref().map(|secret| secret.0.as_str()))?;
                if secret.len() < 16 {
                    return Err("a secret must have 16 bytes or more".to_owned());
                }
                Ok(Key::Secret(secret))
            }
            other => Err(format!("kty {other:.40?}: expected RSA, EC, OKP or oct")),
        }
    }
}

fn bytes(name: &str, text: Option<&str>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("{name} is missing"))?;
    BASE64URL_NOPAD
        .decode(text.trim_end_matches('=').as_bytes())
        .map_err(|_| format!("{name} is not base64url"))
}

fn without_zeros(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

fn of_size(name: &str, bytes: Vec<u8>, size: usize) -> Result<Vec<u8>, String> {
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err(format!("{name} has {} bytes: expected {size}", bytes.len()))
    }
}
