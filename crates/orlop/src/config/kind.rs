//! The types that a single value can have. Lists and sections follow from a key's path.

use super::settings::SQLITE_SCHEME;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use net::client::Url;
use serde_json::json;
use web::urls::Prefix;

use super::{duration, size};

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No value: a section or a list, of which the table has something to say.
    Section,
    /// Whatever is written there.
    Free,
    Text,
    /// A text that is never shown.
    Secret,
    Boolean,
    /// A whole number within these bounds, both included.
    Whole(i64, i64),
    /// As Go writes them; zero or more.
    Duration,
    /// A duration above zero.
    Period,
    /// A duration that may be negative.
    SignedDuration,
    /// A number of bytes above zero, with or without a unit.
    Size,
    /// One of these words, in any case.
    OneOf(&'static [&'static str]),
    /// `host:port`.
    Address,
    /// `host:port`, or the path of a socket.
    Listen,
    /// `https://name[:port]`.
    Host,
    /// An absolute `http` or `https` URL.
    Url,
    /// A file or folder.
    Path,
    /// A file, or an `https` URL.
    PathOrUrl,
    /// A path of a URL, with a slash at its start.
    UrlPath,
    /// A path below which the registry answers.
    Prefix,
    /// The name of a host.
    HostName,
    /// `host` or `host:port`.
    Authority,
    /// A pattern of repository names.
    Repositories,
    /// A value of an HTTP header; the key is the header's name.
    Header,
    /// A header's value that is never shown.
    SecretHeader,
    /// A regular expression.
    Pattern,
    /// An address, or a network as `10.0.0.0/8`.
    Network,
    /// A `postgres://` URL.
    Database,
}

/// The most memory that a regular expression may take.
const PATTERN_LIMIT: usize = 1 << 20;

impl Kind {
    /// Whether `text`, which is not empty, is such a value.
    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Self::Section => false,
            Self::Free | Self::Text | Self::Secret => true,
            Self::Boolean => boolean(text).is_some(),
            Self::Whole(least, most) => {
                whole(text).is_some_and(|number| (least..=most).contains(&number))
            }
            Self::Duration => duration::parse(text).is_some(),
            Self::Period => duration::parse(text).is_some_and(|length| !length.is_zero()),
            Self::SignedDuration => duration::parse(unsigned(text)).is_some(),
            Self::Size => size::parse(text).is_some(),
            Self::OneOf(words) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
            Self::Address => is_address(text),
            Self::Listen => is_address(text) || text.contains('/'),
            Self::Host => host(text).is_some(),
            Self::Url => is_url(text),
            Self::Path => !text.contains('\0'),
            Self::PathOrUrl => {
                // Whoever can change keys on their way can make tokens.
                let is_safe = |url: Url| url.is_protected();
                !text.contains("://") || text.parse().is_ok_and(is_safe)
            }
            Self::UrlPath => {
                text.starts_with('/') && !text.contains(['?', '#']) && is_visible_ascii(text)
            }
            Self::Prefix => Prefix::parse(text).is_some(),
            Self::HostName => net::acme::is_host(text),
            Self::Authority => !text.contains('@') && text.parse::<http::uri::Authority>().is_ok(),
            Self::Repositories => text.parse::<auth::Pattern>().is_ok(),
            Self::Header | Self::SecretHeader => is_header_value(text),
            Self::Pattern => pattern(text),
            Self::Network => network(text).is_some(),
            Self::Database => match text.strip_prefix(SQLITE_SCHEME) {
                Some(file) => file.starts_with('/') && file.len() > 1,
                // What else may be wrong with it, whoever reads it tells.
                None => metadata::Address::is_one(text),
            },
        }
    }

    /// What a message says was expected.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Section => "a section (`key: value` lines below it)".to_owned(),
            Self::Free => "anything".to_owned(),
            Self::Text | Self::Secret => "a text".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Whole(least, i64::MAX) if least > i64::MIN => {
                format!("a whole number, {least} or more")
            }
            Self::Whole(i64::MIN, _) => "a whole number".to_owned(),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Duration => "a duration such as 8s, 1m30s or 168h".to_owned(),
            Self::Period => "a duration above zero, such as 8s, 1m30s or 168h".to_owned(),
            Self::SignedDuration => "a duration such as 8s, 1m30s or -1s".to_owned(),
            Self::Size => "a number of bytes, such as 500MB, 20GiB or 1000000000".to_owned(),
            Self::OneOf(words) => choice(words),
            Self::Address => "host:port, or :port for all addresses, such as 127.0.0.1:5000, \
                              [::1]:5000, :5000"
                .to_owned(),
            Self::Listen => "host:port, or :port for all addresses, such as 127.0.0.1:5000, \
                             [::1]:5000, :5000; a path with `http.net: unix`"
                .to_owned(),
            Self::Host => "the URL that clients begin theirs with, such as \
                           https://registry.example.com"
                .to_owned(),
            Self::Url => "a URL such as https://example.com/path".to_owned(),
            Self::Path => "the path of a file or folder".to_owned(),
            Self::PathOrUrl => {
                "the path of a file, or an https:// URL (http:// to this machine only) \
                                without user and password"
                    .to_owned()
            }
            Self::UrlPath => "a path that starts with `/`".to_owned(),
            Self::Prefix => {
                "a path such as /registry/, of letters, digits, `-`, `.`, `_` and `~`, \
                             with nothing to resolve or decode"
                    .to_owned()
            }
            Self::HostName => "the name of a host, such as registry.example.com".to_owned(),
            Self::Authority => "a host, or host:port".to_owned(),
            Self::Repositories => "a repository's name (of a-z, 0-9, `.`, `_`, `-` and `/`), or a \
                                   pattern: `*` is any part of a name up to a slash, `**` goes \
                                   over slashes"
                .to_owned(),
            Self::Header | Self::SecretHeader => {
                "a header's value (one line of ASCII), or a list of them".to_owned()
            }
            Self::Pattern => "a regular expression".to_owned(),
            Self::Database => "the URL of a PostgreSQL database, such as \
                               postgres://user:password@host:5432/database, or of a file of SQLite, \
                               such as sqlite:///var/lib/orlop.sqlite (docs/database.md)"
                .to_owned(),
            Self::Network => {
                "an address or a network, such as 10.0.0.0/8 or fd00::/8, or `unix`".to_owned()
            }
        }
    }

    /// The name of the type in the reference.
    #[cfg(test)]
    pub(super) fn name(self) -> String {
        match self {
            Self::Section => "section".to_owned(),
            Self::Free => "anything".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Secret => "secret".to_owned(),
            Self::Boolean => "boolean".to_owned(),
            Self::Whole(i64::MIN, _) => "number".to_owned(),
            Self::Whole(least, i64::MAX) => format!("number ≥ {least}"),
            Self::Whole(least, most) => format!("number {least} … {most}"),
            Self::Duration | Self::SignedDuration => "duration".to_owned(),
            Self::Period => "duration > 0".to_owned(),
            Self::Size => "size".to_owned(),
            Self::OneOf(words) if words.len() > 8 => "one of a list".to_owned(),
            Self::OneOf(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            Self::Address => "address".to_owned(),
            Self::Listen => "address or path".to_owned(),
            Self::Host | Self::Url => "URL".to_owned(),
            Self::Path => "path".to_owned(),
            Self::PathOrUrl => "path or URL".to_owned(),
            Self::UrlPath | Self::Prefix => "URL path".to_owned(),
            Self::HostName => "host".to_owned(),
            Self::Authority => "host, or host:port".to_owned(),
            Self::Repositories => "name or pattern".to_owned(),
            Self::Header => "header".to_owned(),
            Self::SecretHeader => "header, secret".to_owned(),
            Self::Pattern => "regular expression".to_owned(),
            Self::Network => "address, network or `unix`".to_owned(),
            Self::Database => "URL, secret".to_owned(),
        }
    }

    /// The type in JSON Schema (draft 2020-12).
    pub(super) fn json_schema(self) -> serde_json::Value {
        match self {
            Self::Section => json!({ "type": ["object", "null"] }),
            Self::Free => json!({}),
            Self::Boolean => json!({ "anyOf": [
                { "type": "boolean" },
                { "type": "string", "pattern": any_case(&BOOLEANS.map(|(word, _)| word)) },
            ] }),
            Self::Whole(least, most) => {
                let mut schema =
                    json!({ "type": ["integer", "string"], "pattern": "^[-+]?[0-9_]+$" });
                for (name, bound, none) in
                    [("minimum", least, i64::MIN), ("maximum", most, i64::MAX)]
                {
                    if let Some(fields) = schema.as_object_mut().filter(|_| bound != none) {
                        fields.insert(name.to_owned(), json!(bound));
                    }
                }
                schema
            }
            Self::Duration | Self::Period | Self::SignedDuration => json!({
                "type": ["string", "integer"],
                "pattern": r"^[-+]?([0-9]+|([0-9]*\.?[0-9]*(ns|us|µs|μs|ms|s|m|h))+)$",
            }),
            Self::Size => json!({
                "type": ["string", "integer"],
                "pattern": "^[0-9]+ *([kKmMgGtT]?[iI]?[bB])?$",
            }),
            // Editors propose the words of an `enum`.
            Self::OneOf(words) => json!({ "anyOf": [
                { "enum": words },
                { "type": "string", "pattern": any_case(words) },
            ] }),
            Self::Host | Self::Url => json!({ "type": "string", "pattern": "^https?://" }),
            Self::UrlPath | Self::Prefix => json!({ "type": "string", "pattern": "^/" }),
            Self::Database => json!({ "type": "string", "pattern": "^(postgres(ql)?|sqlite)://" }),
            // Editors take `0123` for a number where a text is meant.
            Self::Text | Self::Secret => json!({ "type": ["string", "number", "boolean"] }),
            Self::Address
            | Self::Listen
            | Self::Path
            | Self::PathOrUrl
            | Self::HostName
            | Self::Authority
            | Self::Repositories
            | Self::Header
            | Self::SecretHeader
            | Self::Pattern
            | Self::Network => json!({ "type": "string" }),
        }
    }

    /// Whether a variable's value is taken as it is, not parsed as YAML: an address such as
    /// `[::]:5000` or a secret with a `#` is a text whatever YAML makes of it.
    pub(super) fn is_verbatim(self) -> bool {
        !matches!(
            self,
            Self::Section
                | Self::Free
                | Self::Boolean
                | Self::Whole(..)
                | Self::Duration
                | Self::Period
                | Self::SignedDuration
                | Self::OneOf(_)
        )
    }

    /// Whether the value must not be shown.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::SecretHeader | Self::Database)
    }

    /// Whether the names of the section around are names of headers.
    pub(super) fn is_header(self) -> bool {
        matches!(self, Self::Header | Self::SecretHeader)
    }
}

/// `a, b or c`.
fn choice(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [word] => (*word).to_owned(),
        [start @ .., last] => format!("{} or {last}", start.join(", ")),
    }
}

/// The regular expression of these words in any case. Those of JSON Schema have no flag for it.
fn any_case(words: &[&str]) -> String {
    let letter = |letter: char| match (letter.to_ascii_uppercase(), letter.to_ascii_lowercase()) {
        (upper, lower) if upper != lower => format!("[{upper}{lower}]"),
        (same, _) => regex::escape(&same.to_string()),
    };
    let words = words.iter().map(|word| word.chars().map(letter).collect::<String>());
    format!("^({})$", words.collect::<Vec<_>>().join("|"))
}

/// The truth values of YAML 1.1, which configurations in the field are written in.
const BOOLEANS: [(&str, bool); 8] = [
    ("true", true),
    ("yes", true),
    ("on", true),
    ("y", true),
    ("false", false),
    ("no", false),
    ("off", false),
    ("n", false),
];

/// A truth value, in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    BOOLEANS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value)
}

/// A whole number, decimal; `1_000` is one in YAML 1.1.
pub(super) fn whole(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let grouped =
            text.starts_with(|first: char| first.is_ascii_digit()) && !text.ends_with('_');
        grouped.then(|| text.replace('_', "").parse().ok()).flatten()
    })
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix('-').filter(|rest| !rest.starts_with('+')).unwrap_or(text)
}

/// Go's form of an address: an empty host means every address of the machine.
pub(super) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => {
            let address = inner.split_once('%').map_or(inner, |(address, _zone)| address);
            address.parse::<Ipv6Addr>().is_ok()
        }
        None => {
            !host.contains([':', '/', '[', ']', '@', '"', '\''])
                && !host.contains(char::is_whitespace)
        }
    };
    host_ok && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// `https://name[:port][/path]` without the slash at its end. The path is that which a proxy cuts
/// off.
pub(super) fn host(text: &str) -> Option<&str> {
    let base = text.strip_suffix('/').unwrap_or(text);
    let name = ["https://", "http://"].into_iter().find_map(|scheme| base.strip_prefix(scheme))?;
    let clean = !name.is_empty() && !name.contains(['?', '#', '@', ' ']) && !name.contains("//");
    (clean && is_url(base)).then_some(base)
}

fn is_url(text: &str) -> bool {
    let authority = text.parse::<http::Uri>().ok().and_then(|uri| {
        let scheme = uri.scheme_str()?;
        matches!(scheme, "http" | "https").then(|| uri.host().map(str::to_owned))?
    });
    authority.is_some_and(|host| !host.is_empty())
}

/// Where connections come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// The addresses that share the first bits of one address.
    Addresses {
        address: IpAddr,
        /// How many bits count: at most 32, or 128 for IPv6.
        bits: u8,
    },
    /// A unix socket.
    Unix,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses { address, bits } => write!(f, "{address}/{bits}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// `10.0.0.0/8`, or one address, or `unix`.
pub(super) fn network(text: &str) -> Option<Network> {
    if text.eq_ignore_ascii_case("unix") {
        return Some(Network::Unix);
    }
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
        Some(_) => return None,
        None => most,
    };
    (bits <= most).then_some(Network::Addresses { address, bits })
}

fn pattern(text: &str) -> bool {
    regex::RegexBuilder::new(text).size_limit(PATTERN_LIMIT).build().is_ok()
}

/// RFC 9110 §5.1: a token.
pub(super) fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 9110 §5.5, without its obsolete bytes above ASCII.
fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

fn is_visible_ascii(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in [":5000", "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", "name:0"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["5000", ":", ":http", "::1:5000", "[::1]", ":65536", ":+80", "/run/r.sock"] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn networks() {
        for (text, address, bits) in
            [("10.0.0.0/8", "10.0.0.0", 8), ("::1", "::1", 128), ("1.2.3.4", "1.2.3.4", 32)]
        {
            let expected = Network::Addresses { address: address.parse().unwrap(), bits };
            assert_eq!(network(text), Some(expected), "{text}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "name", "::/129", "1.2.3.4/8/8"]
        {
            assert_eq!(network(bad), None, "{bad}");
        }
    }

    #[test]
    fn urls() {
        for good in ["https://example.com", "http://user:word@[::1]:8080/a?b"] {
            assert!(Kind::Url.accepts(good), "{good}");
        }
        for bad in ["example.com", "https://", "ftp://example.com", "https:/x", "https://a b"] {
            assert!(!Kind::Url.accepts(bad), "{bad}");
        }
        assert!(Kind::PathOrUrl.accepts("/etc/keys.json"));
        assert!(Kind::PathOrUrl.accepts("https://example.com/keys"));
        assert!(Kind::PathOrUrl.accepts("http://localhost:8080/keys"));
        assert!(!Kind::PathOrUrl.accepts("http://example.com/keys"), "keys need a safe way");
        assert!(!Kind::PathOrUrl.accepts("https://user:word@example.com/keys"));
        assert_eq!(host("https://a:1/"), Some("https://a:1"));
        assert_eq!(host("https://a/b/"), Some("https://a/b"));
        assert_eq!(host("https://a/b?c"), None);
        assert_eq!(host("https:///b"), None);
    }

    #[test]
    fn numbers() {
        assert_eq!(whole("1_000"), Some(1000));
        assert_eq!(whole("-1"), Some(-1));
        for bad in ["", "_1", "1_", "1.5", "0x10", "many"] {
            assert_eq!(whole(bad), None, "{bad}");
        }
        assert!(Kind::SignedDuration.accepts("-1s") && !Kind::SignedDuration.accepts("-+1s"));
    }

    #[test]
    fn patterns_are_bounded() {
        assert!(Kind::Pattern.accepts(r"^https?://([^/]+\.)*example\.com/"));
        assert!(!Kind::Pattern.accepts("(a"));
        assert!(!Kind::Pattern.accepts("((a{1000}){1000}){1000}"));
    }
}
