//! The `Authorization` header (RFC 7617, RFC 6750).

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD};

/// What a client says about itself.
#[derive(Debug)]
pub(crate) enum Credentials<'a> {
    /// Nothing.
    None,
    Basic(Basic),
    Bearer(&'a str),
    /// Something that nobody here can read.
    Other,
}

/// A name and a password.
pub(crate) struct Basic {
    pub(crate) user: String,
    pub(crate) password: Vec<u8>,
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Basic").field("user", &self.user).finish_non_exhaustive()
    }
}

impl<'a> Credentials<'a> {
    /// Reads the value of the header.
    pub(crate) fn parse(authorization: Option<&'a [u8]>) -> Self {
        let Some(value) = authorization.map(<[u8]>::trim_ascii).filter(|value| !value.is_empty())
        else {
            return Self::None;
        };
        let Some((scheme, value)) =
            std::str::from_utf8(value).ok().and_then(|value| value.split_once(' '))
        else {
            return Self::Other;
        };
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            Self::Bearer(value)
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic(value)
        } else {
            Self::Other
        }
    }
}

fn basic(value: &str) -> Credentials<'static> {
    let decoded = BASE64
        .decode(value.as_bytes())
        .or_else(|_| BASE64_NOPAD.decode(value.trim_end_matches('=').as_bytes()));
    let Ok(decoded) = decoded else {
        return Credentials::Other;
    };
    let mut halves = decoded.splitn(2, |byte| *byte == b':');
    let (Some(user), Some(password)) = (halves.next(), halves.next()) else {
        return Credentials::Other;
    };
    if user.is_empty() && password.is_empty() {
        // Podman and skopeo send this when they were asked for a password and know none.
        return Credentials::None;
    }
    match str::from_utf8(user) {
        Ok(user) => Credentials::Basic(Basic { user: user.to_owned(), password: password.into() }),
        Err(_) => Credentials::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(value: &str) -> String {
        match Credentials::parse(Some(value.as_bytes())) {
            Credentials::None => "none".to_owned(),
            Credentials::Basic(basic) => {
                format!("basic {} {}", basic.user, String::from_utf8_lossy(&basic.password))
            }
            Credentials::Bearer(token) => format!("bearer {token}"),
            Credentials::Other => "other".to_owned(),
        }
    }

    #[test]
    fn what_clients_send() {
        for (value, expected) in [
            ("", "none"),
            ("  ", "none"),
            ("Basic dXNlcjpwYXNz", "basic user pass"),
            ("basic  dXNlcjpwYXNz ", "basic user pass"),
            ("Basic dXNlcjpwOmE6c3M=", "basic user p:a:ss"),
            ("Basic dXNlcjpwOmE6c3M", "basic user p:a:ss"),
            ("Basic dXNlcjo=", "basic user "),
            ("Basic Og==", "none"),
            ("Basic dXNlcg==", "other"),
            ("Basic !", "other"),
            ("Basic", "other"),
            ("Bearer a.b.c", "bearer a.b.c"),
            ("BEARER a", "bearer a"),
            ("Negotiate x", "other"),
            ("ü x", "other"),
        ] {
            assert_eq!(kind(value), expected, "{value:?}");
        }
        assert!(matches!(Credentials::parse(None), Credentials::None));
        assert!(matches!(Credentials::parse(Some(b"Basic \xff")), Credentials::Other));
    }

    #[test]
    fn passwords_are_not_printed() {
        let credentials = Credentials::parse(Some(b"Basic dXNlcjpwYXNz"));
        let text = format!("{credentials:?}");
        assert!(text.contains("user") && !text.contains("pass"), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn no_header_is_too_odd(value in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = Credentials::parse(Some(&value));
        }
    }
}
