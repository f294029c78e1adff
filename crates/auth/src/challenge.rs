//! `WWW-Authenticate` (RFC 9110 §11.6.1), spelled as registry:2 does: clients compare it.

use std::fmt::Write;

/// `Basic realm="…"`
pub(crate) fn basic(realm: &str) -> String {
    format!("Basic realm={}", quoted(realm))
}

/// `Bearer realm="…",service="…"[,scope="…"][,error="…"]`
pub(crate) fn bearer(realm: &str, service: &str, scope: &str, error: Option<&str>) -> String {
    let mut text = format!("Bearer realm={},service={}", quoted(realm), quoted(service));
    for (name, value) in [("scope", scope), ("error", error.unwrap_or(""))] {
        if !value.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(text, ",{name}={}", quoted(value));
        }
    }
    text
}

/// A quoted string (RFC 9110 §5.6.4). What a header can not hold is left out.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars().filter(|character| !character.is_control()) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_to_the_byte() {
        assert_eq!(basic("Registry Realm"), r#"Basic realm="Registry Realm""#);
        assert_eq!(basic("a \"b\" \\\r\n"), r#"Basic realm="a \"b\" \\""#);
        assert_eq!(
            bearer("https://a/token", "r", "", None),
            r#"Bearer realm="https://a/token",service="r""#
        );
        assert_eq!(
            bearer("https://a/token", "r", "repository:a:pull,push", Some("invalid_token")),
            r#"Bearer realm="https://a/token",service="r",scope="repository:a:pull,push",error="invalid_token""#
        );
    }
}
