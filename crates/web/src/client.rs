//! Where a request comes from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use net::Peer;
use net::proxies::Trusted;

/// The connection that a request came over.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Who is at its other end: a client, or a proxy.
    pub peer: Peer,
    /// Whether it is encrypted up to here.
    pub secure: bool,
    /// Whether a file can leave over it without being read.
    pub sends_files: bool,
}

/// Who sent a request, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    peer: Peer,
    ip: Option<IpAddr>,
}

impl From<SocketAddr> for Connection {
    fn from(address: SocketAddr) -> Self {
        Self { peer: address.into(), secure: false, sends_files: false }
    }
}

impl Client {
    /// Reads who it was from the headers of trusted proxies: `X-Forwarded-For`, or else
    /// `Forwarded` (RFC 7239), or else `X-Real-Ip`. The first is the one that nearly all proxies
    /// write; most hand the others on as the client has sent them.
    pub(crate) fn find(peer: Peer, headers: &HeaderMap, trusted: &Trusted) -> Self {
        if !trusted.trusts(peer) {
            return Self { peer, ip: peer.ip() };
        }
        let ip = if headers.contains_key("x-forwarded-for") {
            trusted.client(peer, list(headers, "x-forwarded-for").map(address))
        } else if headers.contains_key("forwarded") {
            trusted.client(peer, list(headers, "forwarded").map(forwarded_for))
        } else {
            trusted.client(peer, list(headers, "x-real-ip").map(address))
        };
        Self { peer, ip }
    }

    /// Its address; `None` for a unix socket about which nothing better is known.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.ip
    }
}

/// The address, with the port if it is that of the connection.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(ip) if self.peer.ip() != self.ip => ip.fmt(f),
            _ => self.peer.fmt(f),
        }
    }
}

/// The elements of a header that is a list, the last one first.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().rev();
    // What is no text is an element that can not be read.
    lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',')).map(str::trim)
}

/// `for=` of an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element
        .split(';')
        .find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then_some(value.trim().trim_matches('"'))
        })
        .and_then(address)
}

/// An address, with a port or without.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(pairs: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let trusted = Trusted::parse(["10.0.0.0/8"]).unwrap();
        let peer = Peer::from(SocketAddr::from(([10, 0, 0, 1], 40000)));
        Client::find(peer, &headers, &trusted).to_string()
    }

    #[test]
    fn a_trusted_proxy_is_believed() {
        assert_eq!(client(&[]), "10.0.0.1:40000");
        assert_eq!(client(&[("x-forwarded-for", "9.9.9.9, 1.1.1.1")]), "1.1.1.1");
        assert_eq!(
            client(&[("x-forwarded-for", "9.9.9.9, 1.1.1.1"), ("x-forwarded-for", "10.2.3.4")]),
            "1.1.1.1"
        );
        assert_eq!(client(&[("x-real-ip", "2001:db8::1")]), "2001:db8::1");
        assert_eq!(
            client(&[("forwarded", "for=9.9.9.9, FOR=\"[2001:db8::1]:4711\";proto=https")]),
            "2001:db8::1"
        );
        assert_eq!(client(&[("x-forwarded-for", "1.1.1.1:8080")]), "1.1.1.1");
    }

    #[test]
    fn what_can_not_be_read_is_not_believed() {
        for value in ["", "unknown", "_hidden", "1.1.1.1, ?", "1.1.1"] {
            assert_eq!(client(&[("x-forwarded-for", value)]), "10.0.0.1:40000", "{value}");
            let forwarded = format!("for=\"{value}\"");
            assert_eq!(client(&[("forwarded", &forwarded)]), "10.0.0.1:40000", "{value}");
        }
    }

    #[test]
    fn one_header_is_not_mixed_with_another() {
        let pairs = [("forwarded", "for=9.9.9.9"), ("x-forwarded-for", "1.1.1.1")];
        assert_eq!(client(&pairs), "1.1.1.1");
    }

    proptest! {
        /// Whatever a client sends: a trusted proxy that adds what it saw is believed.
        #[test]
        fn nobody_can_pretend(sent in "[ -~]{0,40}", seen in 1u8..=9) {
            let seen = format!("{seen}.0.0.1");
            let line = format!("{sent}, {seen}");
            prop_assert_eq!(client(&[("x-forwarded-for", &line)]), seen.clone());
            let added = [("x-forwarded-for", sent.trim()), ("x-forwarded-for", seen.as_str())];
            prop_assert_eq!(client(&added), seen.clone());
            let unquoted = sent.replace(['\"', ','], "");
            let line = format!("for={unquoted}, for={seen}");
            prop_assert_eq!(client(&[("forwarded", &line)]), seen);
        }
    }
}
