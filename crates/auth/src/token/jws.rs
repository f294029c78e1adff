//! Signed tokens in their compact form (RFC 7515 §7.1).

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::jwk::Jwk;
use super::key::{Algorithm, Key};

/// A token whose signature nobody has looked at yet.
pub(crate) struct Token<'a> {
    pub(crate) header: Header,
    algorithm: Algorithm,
    payload: &'a str,
    signed: &'a str,
    signature: Vec<u8>,
}

/// What a token says about its signature.
#[derive(Deserialize)]
pub(crate) struct Header {
    alg: String,
    pub(crate) kid: Option<String>,
    pub(crate) jwk: Option<Jwk>,
    pub(crate) x5c: Option<Vec<String>>,
    /// Extensions that must be understood (RFC 7515 §4.1.11). None is.
    crit: Option<serde_json::Value>,
}

impl<'a> Token<'a> {
    /// Takes a token apart. `None` if it is none, or is signed in a way that is not understood.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        if header.crit.is_some() {
            return None;
        }
        let algorithm = header.alg.parse().ok()?;
        Some(Self { header, algorithm, payload, signed, signature: decode(signature)? })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The payload, if `key` has signed the token.
    pub(crate) fn payload(&self, key: &Key) -> Option<Vec<u8>> {
        let verified = key.verifies(self.algorithm, self.signed.as_bytes(), &self.signature);
        if verified { decode(self.payload) } else { None }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok()
}
