//! The URLs that responses tell their clients to go to.

use http::header::{self, HeaderMap};
use http::uri::Authority;

/// How `Location` and `Link` are written.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The base of every URL, such as `https://registry.example.org`, with a path if clients need
    /// one. Otherwise it is taken from the request, and `prefix` is added.
    pub host: Option<String>,
    /// Whether URLs are relative to the host, unless there is a `host`.
    pub relative: bool,
    /// The path that everything is below.
    pub prefix: Prefix,
}

/// A path without its last slash: empty, or `/some/path`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Prefix(String);

impl Prefix {
    /// Reads `/some/path/`, with the last slash or without; the empty text and `/` are no prefix.
    /// `None` if it does not begin with a slash, or has characters that a path can not have or
    /// that have to be encoded in one.
    pub fn parse(text: &str) -> Option<Self> {
        let path = text.trim_end_matches('/');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        let is_path = path.is_empty() || (path.starts_with('/') && path.bytes().all(plain));
        let is_plain = path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
        (is_path && is_plain).then(|| Self(path.to_owned()))
    }

    /// What comes after it in `path`, which then begins with a slash.
    pub(crate) fn strip<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&self.0).filter(|rest| rest.starts_with('/'))
    }

    /// As it is written before a path.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Config {
    /// What comes before `/v2/` in the URLs of an answer to a request with these headers:
    /// `scheme://host` or nothing, and the prefix. `secure` says that the request came over TLS.
    pub(crate) fn base(&self, headers: &HeaderMap, secure: bool) -> String {
        if let Some(host) = &self.host {
            return host.trim_end_matches('/').to_owned();
        }
        let origin = if self.relative { None } else { origin(headers, secure) };
        origin.unwrap_or_default() + self.prefix.as_str()
    }

    /// The same without the host, for links that are relative to it.
    pub(crate) fn base_path(&self) -> &str {
        match &self.host {
            None => self.prefix.as_str(),
            Some(host) => {
                let authority = host.find("://").map_or(0, |scheme| scheme + 3);
                let rest = host.get(authority..).unwrap_or("");
                rest.find('/').and_then(|path| rest.get(path..)).unwrap_or("").trim_end_matches('/')
            }
        }
    }
}

/// `scheme://host` of a request, as its client sees it.
fn origin(headers: &HeaderMap, secure: bool) -> Option<String> {
    let asked = Asked::of(headers);
    let host = asked.host?;
    let scheme = asked.scheme.unwrap_or(if secure { "https" } else { "http" });
    Some(format!("{scheme}://{host}"))
}

/// What a client has asked, as far as headers tell: a proxy's before the request's own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Asked<'a> {
    /// `http` or `https`, if a proxy says so.
    pub(crate) scheme: Option<&'static str>,
    /// With its port, if the client gave one.
    pub(crate) host: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let forwarded = Forwarded::of(headers);
        let host = forwarded
            .host
            .or_else(|| first_of_list(headers, "x-forwarded-host"))
            .or_else(|| first_of_list(headers, header::HOST.as_str()))
            .filter(|host| host.parse::<Authority>().is_ok());
        let scheme = forwarded
            .scheme
            .or_else(|| first_of_list(headers, "x-forwarded-proto"))
            .and_then(known_scheme);
        Self { scheme, host }
    }
}

fn known_scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|known| text.eq_ignore_ascii_case(known))
}

/// The first element of `Forwarded` (RFC 7239 §4).
#[derive(Default)]
struct Forwarded<'a> {
    scheme: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Forwarded<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for pair in first_of_list(headers, "forwarded").unwrap_or("").split(';') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("proto") {
                found.scheme = Some(value);
            } else if name.trim().eq_ignore_ascii_case("host") {
                found.host = Some(value);
            }
        }
        found
    }
}

fn first_of_list<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    value.split(',').next().map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(pairs: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        Config::default().base(&headers, false)
    }

    #[test]
    fn the_request_decides() {
        assert_eq!(base(&[("host", "localhost:5000")]), "http://localhost:5000");
        assert_eq!(
            base(&[
                ("host", "inner"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "a.b, c")
            ]),
            "https://a.b"
        );
        assert_eq!(
            base(&[
                ("host", "inner"),
                ("forwarded", "for=1.2.3.4;proto=https;host=\"r.example:8443\"")
            ]),
            "https://r.example:8443"
        );
    }

    #[test]
    fn without_a_usable_host_urls_are_relative() {
        assert_eq!(base(&[]), "");
        assert_eq!(base(&[("host", "a b")]), "");
        assert_eq!(base(&[("host", "h"), ("x-forwarded-proto", "javascript")]), "http://h");
    }

    #[test]
    fn configuration_comes_first() {
        let headers = HeaderMap::from_iter([(header::HOST, "h".parse().unwrap())]);
        let prefix = Prefix::parse("/deep/down/").unwrap();
        let with = |host: Option<&str>, relative| Config {
            host: host.map(str::to_owned),
            relative,
            prefix: prefix.clone(),
        };
        let config = with(Some("https://r.example/"), true);
        assert_eq!(config.base(&headers, false), "https://r.example");
        assert_eq!(config.base_path(), "");
        let config = with(Some("https://r.example/a/b/"), true);
        assert_eq!(config.base(&headers, false), "https://r.example/a/b");
        assert_eq!(config.base_path(), "/a/b");
        assert_eq!(with(None, true).base(&headers, true), "/deep/down");
        assert_eq!(with(None, false).base(&headers, true), "https://h/deep/down");
        assert_eq!(with(None, false).base_path(), "/deep/down");
    }

    #[test]
    fn tls_shows_in_urls_unless_a_proxy_says_otherwise() {
        let mut headers = HeaderMap::from_iter([(header::HOST, "h".parse().unwrap())]);
        assert_eq!(Config::default().base(&headers, true), "https://h");
        headers.insert("x-forwarded-proto", "http".parse().unwrap());
        assert_eq!(Config::default().base(&headers, true), "http://h");
    }

    #[test]
    fn prefixes_are_paths() {
        for (text, prefix) in [("", ""), ("/", ""), ("/a", "/a"), ("/a/b-c/", "/a/b-c")] {
            assert_eq!(Prefix::parse(text).unwrap().as_str(), prefix);
        }
        for text in ["a", "a/", "/a b", "//a", "/a//b", "/../a", "/a?b", "https://h/", "/ä", "/%61"]
        {
            assert_eq!(Prefix::parse(text), None, "{text}");
        }
        let prefix = Prefix::parse("/a/").unwrap();
        assert_eq!(prefix.strip("/a/v2/"), Some("/v2/"));
        assert_eq!(prefix.strip("/ab/v2/"), None);
        assert_eq!(prefix.strip("/a"), None);
        assert_eq!(Prefix::default().strip("/v2/"), Some("/v2/"));
    }

    proptest::proptest! {
        /// Whatever a client sends: a base is empty, or a scheme and a host.
        #[test]
        fn a_base_is_never_odd(
            host in "[!-~]{0,30}",
            forwarded in "(proto|host|for)=[!-~]{0,20}(;(proto|host)=[!-~]{0,20})?",
        ) {
            let base = base(&[("host", &host), ("forwarded", &forwarded)]);
            let rest = base.strip_prefix("http://").or(base.strip_prefix("https://"));
            proptest::prop_assert!(base.is_empty() || rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/')));
        }
    }
}
