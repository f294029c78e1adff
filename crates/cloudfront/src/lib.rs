//! URLs of Amazon `CloudFront` that are good for a while for whoever has them.
//!
//! The signature is of a *canned policy*: one URL, and when it ends. Who is near the bucket needs
//! none: the networks that Amazon has are here, too.

mod key;
mod networks;

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;

pub use key::{Error, PrivateKey};
pub use networks::{ListError, Networks};

/// Signs URLs.
#[derive(Debug)]
pub struct Signer {
    key: PrivateKey,
    /// By which `CloudFront` knows the key.
    key_pair_id: String,
}

impl Signer {
    /// Signs with a private key that `CloudFront` has the public one of, under this id.
    pub fn new(key: PrivateKey, key_pair_id: String) -> Self {
        Self { key, key_pair_id }
    }

    /// The URL, good until `end`.
    pub fn sign(&self, url: &str, end: SystemTime) -> Result<String, Error> {
        let end = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let policy = format!(
            r#"{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{end}}}}}}}]}}"#
        );
        let signature = BASE64.encode(&self.key.sign(policy.as_bytes())?);
        // CloudFront's own alphabet.
        let signature = signature.replace('+', "-").replace('=', "_").replace('/', "~");
        let mut signed = url.to_owned();
        let first = if url.contains('?') { '&' } else { '?' };
        let id = &self.key_pair_id;
        // Writing to a string does not fail.
        let _ = write!(signed, "{first}Expires={end}&Signature={signature}&Key-Pair-Id={id}");
        Ok(signed)
    }
}
