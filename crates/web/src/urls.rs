//! The URLs that responses tell their clients to go to.

use http::header::{self, HeaderMap};
use http::uri::Authority;

/// How `Location` is written.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The base of every URL, such as `https://registry.example.org`; otherwise it is taken from
    /// the request.
    pub host: Option<String>,
    /// Whether URLs are relative, unless there is a `host`.
    pub relative: bool,
}

impl Config {
    /// What comes before the path in the URLs of an answer to a request with these headers:
    /// `scheme://host`, or nothing.
    pub(crate) fn base(&self, headers: &HeaderMap) -> String {
        if let Some(host) = &self.host {
            return host.trim_end_matches('/').to_owned();
        }
        if self.relative {
            return String::new();
        }
        let forwarded = forwarded(headers);
        let first = |name| first_of_list(headers, name).map(str::to_owned);
        let host = forwarded
            .host
            .or_else(|| first("x-forwarded-host"))
            .or_else(|| first(header::HOST.as_str()));
        let Some(host) = host.filter(|host| host.parse::<Authority>().is_ok()) else {
            return String::new();
        };
        let scheme = forwarded
            .scheme
            .or_else(|| first("x-forwarded-proto"))
            .map(|scheme| scheme.to_ascii_lowercase())
            .filter(|scheme| scheme == "http" || scheme == "https")
            .unwrap_or_else(|| "http".to_owned());
        format!("{scheme}://{host}")
    }
}

#[derive(Default)]
struct Forwarded {
    scheme: Option<String>,
    host: Option<String>,
}

/// The first element of `Forwarded` (RFC 7239 §4).
fn forwarded(headers: &HeaderMap) -> Forwarded {
    let mut found = Forwarded::default();
    for pair in first_of_list(headers, "forwarded").unwrap_or("").split(';') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.trim().trim_matches('"').to_owned();
        if name.trim().eq_ignore_ascii_case("proto") {
            found.scheme = Some(value);
        } else if name.trim().eq_ignore_ascii_case("host") {
            found.host = Some(value);
        }
    }
    found
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
        Config::default().base(&headers)
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
        let config = Config { host: Some("https://r.example/".to_owned()), relative: true };
        assert_eq!(config.base(&HeaderMap::new()), "https://r.example");
        let config = Config { host: None, relative: true };
        let headers = HeaderMap::from_iter([(header::HOST, "h".parse().unwrap())]);
        assert_eq!(config.base(&headers), "");
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
