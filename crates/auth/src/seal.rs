//! Texts that a client may carry, but neither read nor make.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;

use crate::Error;

/// Texts longer than this were not made here.
const MAX_LENGTH: usize = 1024;

/// A secret that nobody knows yet.
pub fn fresh_secret() -> Result<String, Error> {
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::Random)?;
    Ok(BASE64URL_NOPAD.encode(&random))
}

/// Hides texts from everybody who does not know the secret.
pub(crate) struct Seal(RandomizedNonceKey);

impl Seal {
    /// A seal for one `purpose`.
    pub(crate) fn new(secret: &[u8], purpose: &str) -> Result<Self, Error> {
        // What was sealed for one purpose must not be taken for another.
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose.as_bytes());
        RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).map(Self).map_err(|_| Error::Random)
    }

    /// `None` if it can not be done.
    pub(crate) fn seal(&self, text: &str) -> Option<String> {
        let mut bytes = text.as_bytes().to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::empty(), &mut bytes).ok()?;
        bytes.extend_from_slice(nonce.as_ref());
        Some(BASE64URL_NOPAD.encode(&bytes))
    }

    /// `None` if nobody with the same secret has made it.
    pub(crate) fn unseal(&self, text: &str) -> Option<String> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let end = bytes.len().checked_sub(NONCE_LEN)?;
        let (sealed, nonce) = bytes.split_at_mut_checked(end)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.0.open_in_place(nonce, Aad::empty(), sealed).ok()?;
        str::from_utf8(opened).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_opens_it() {
        let seal = |secret: &str, purpose| Seal::new(secret.as_bytes(), purpose).unwrap();
        let first = seal("secret", "a");
        let text = first.seal("team/app").unwrap();
        assert!(!text.contains("team"));
        assert_ne!(first.seal("team/app").unwrap(), text);
        assert_eq!(seal("secret", "a").unseal(&text).as_deref(), Some("team/app"));
        assert_eq!(seal("other", "a").unseal(&text), None);
        assert_eq!(seal("", "a").unseal(&text), None);
        assert_eq!(seal("secret", "b").unseal(&text), None, "for something else");
        for odd in ["", "a", "team/app", &text[1..], &"A".repeat(5000)] {
            assert_eq!(first.unseal(odd), None, "{odd}");
        }
    }
}
