//! Tokens that this registry gives to clients by itself, so that they can say "nobody in
//! particular".
//!
//! Where passwords and rules for everybody meet, clients need to be told both that they can log in
//! and that they need not. The Docker Engine takes a challenge of `Basic` for "log in or give up",
//! and no challenge for "never log in". A challenge of `Bearer` leaves it the choice: it asks for a
//! token, with a password or without. The token says only who its bearer is; what he may do is
//! decided by the rules at each request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Error;
use crate::seal::Seal;

/// How long a token is good.
pub(crate) const LIFETIME: Duration = Duration::from_mins(5);

/// Makes tokens, and reads them again.
pub(crate) struct OwnTokens(Seal);

/// Whom a token is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Bearer {
    Nobody,
    /// A user, and the fingerprint of the password's hash: with the password the token ends.
    User {
        name: String,
        fingerprint: String,
    },
}

impl OwnTokens {
    pub(crate) fn new(secret: &[u8]) -> Result<Self, Error> {
        Seal::new(secret, "token").map(Self)
    }

    /// `None` if it can not be done.
    pub(crate) fn issue(&self, bearer: &Bearer, now: SystemTime) -> Option<String> {
        let end = now.checked_add(LIFETIME)?.duration_since(UNIX_EPOCH).ok()?.as_secs();
        self.0.seal(&match bearer {
            Bearer::Nobody => format!("{end}"),
            Bearer::User { name, fingerprint } => format!("{end} {fingerprint} {name}"),
        })
    }

    /// Whom the token is for, if it is one of ours and still good.
    pub(crate) fn read(&self, token: &str, now: SystemTime) -> Option<Bearer> {
        let text = self.0.unseal(token)?;
        let mut parts = text.splitn(3, ' ');
        let end = Duration::from_secs(parts.next()?.parse().ok()?);
        if now.duration_since(UNIX_EPOCH).ok()? >= end {
            return None;
        }
        match (parts.next(), parts.next()) {
            (None, _) => Some(Bearer::Nobody),
            (Some(fingerprint), Some(name)) => {
                Some(Bearer::User { name: name.to_owned(), fingerprint: fingerprint.to_owned() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_who_and_ends() {
        let tokens = OwnTokens::new(b"").unwrap();
        let now = SystemTime::now();
        let user = Bearer::User { name: "jo the first".to_owned(), fingerprint: "f".to_owned() };
        for bearer in [Bearer::Nobody, user] {
            let token = tokens.issue(&bearer, now).unwrap();
            assert_eq!(tokens.read(&token, now), Some(bearer));
            assert_eq!(tokens.read(&token, now + LIFETIME), None);
            assert_eq!(OwnTokens::new(b"other").unwrap().read(&token, now), None);
        }
        assert_eq!(tokens.read("", now), None);
    }
}
