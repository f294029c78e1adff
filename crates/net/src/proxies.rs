//! Whose word counts about where a request comes from.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::stream::Peer;

/// The proxies in front of this server. What others say about a client's address is not believed:
/// everyone can send a header.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    networks: Vec<IpNet>,
    unix: bool,
}

/// An entry is neither an address nor a network.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?}: expected an address (10.0.0.7, 2001:db8::7), a network (10.0.0.0/8, 2001:db8::/32), \
     or unix for whoever connects through a unix socket"
)]
pub struct ParseError(String);

impl Trusted {
    /// Reads a list of addresses, networks (CIDR) and `unix`.
    pub fn parse<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> Result<Self, ParseError> {
        let mut trusted = Self::default();
        for entry in list {
            let entry = entry.as_ref().trim();
            if entry.eq_ignore_ascii_case("unix") {
                trusted.unix = true;
            } else {
                trusted.networks.push(network(entry).ok_or_else(|| ParseError(entry.to_owned()))?);
            }
        }
        Ok(trusted)
    }

    /// Whether no proxy is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether the other end of a connection is a trusted proxy.
    pub fn trusts(&self, peer: Peer) -> bool {
        match peer {
            Peer::Address(address) => self.contains(address.ip()),
            Peer::Unix => self.unix,
        }
    }

    /// The client's address: that of the first hop, going from here towards the client, that is
    /// not a trusted proxy.
    ///
    /// `hops` are the addresses that proxies have noted, the last one noted first; `None` is one
    /// that can not be read, beyond which nothing is believed. The answer is `None` for a unix
    /// socket about which nothing better is known.
    pub fn client(
        &self,
        peer: Peer,
        hops: impl IntoIterator<Item = Option<IpAddr>>,
    ) -> Option<IpAddr> {
        let mut nearest = peer.ip();
        if !self.trusts(peer) {
            return nearest;
        }
        for hop in hops {
            let Some(hop) = hop.map(|hop| hop.to_canonical()) else {
                break;
            };
            nearest = Some(hop);
            if !self.contains(hop) {
                break;
            }
        }
        nearest
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

fn network(entry: &str) -> Option<IpNet> {
    if let Ok(address) = IpAddr::from_str(entry) {
        return Some(address.to_canonical().into());
    }
    // Host bits beyond the prefix are a slip that changes nothing.
    IpNet::from_str(entry).ok().map(|network| network.trunc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::from(std::net::SocketAddr::new(address.parse().unwrap(), 1234))
    }

    fn client(trusted: &[&str], from: Peer, hops: &[&str]) -> Option<String> {
        let trusted = Trusted::parse(trusted).unwrap();
        let hops = hops.iter().rev().map(|hop| hop.parse().ok());
        trusted.client(from, hops).map(|address| address.to_string())
    }

    #[test]
    fn nobody_is_believed_by_default() {
        assert_eq!(client(&[], peer("10.0.0.1"), &["1.1.1.1"]).as_deref(), Some("10.0.0.1"));
        assert_eq!(client(&[], Peer::Unix, &["1.1.1.1"]), None);
        assert!(Trusted::default().is_empty());
    }

    #[test]
    fn the_list_is_walked_from_the_right_past_proxies() {
        let proxies = ["10.0.0.0/8", "2001:db8::/32", "192.168.1.1"];
        let found = |from: &str, hops: &[&str]| client(&proxies, peer(from), hops).unwrap();
        assert_eq!(found("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(found("10.0.0.1", &["1.1.1.1"]), "1.1.1.1");
        // What the client itself has put in front is not believed.
        assert_eq!(found("10.0.0.1", &["9.9.9.9", "1.1.1.1", "10.2.3.4"]), "1.1.1.1");
        assert_eq!(found("2001:db8::1", &["9.9.9.9", "1.1.1.1", "192.168.1.1"]), "1.1.1.1");
        assert_eq!(found("10.0.0.1", &["10.9.9.9", "10.2.2.2"]), "10.9.9.9");
        assert_eq!(found("10.0.0.1", &["1.1.1.1", "unknown", "10.2.2.2"]), "10.2.2.2");
        assert_eq!(found("::ffff:10.0.0.1", &["::ffff:1.1.1.1"]), "1.1.1.1");
        assert_eq!(found("8.8.8.8", &["1.1.1.1"]), "8.8.8.8");
    }

    #[test]
    fn a_unix_socket_is_trusted_by_its_name() {
        assert_eq!(client(&["unix"], Peer::Unix, &["1.1.1.1"]).as_deref(), Some("1.1.1.1"));
        assert_eq!(client(&["unix"], peer("10.0.0.1"), &["1.1.1.1"]).as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn nonsense_is_named() {
        for entry in ["", "10.0.0.0/33", "10.0.0", "host", "10.0.0.0/8,10.1.0.0/16", "::/129"] {
            let error = Trusted::parse([entry]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?}: expected an address")), "{error}");
        }
    }

    proptest! {
        /// The answer is the peer or one of the hops, and the peer if it is not trusted.
        #[test]
        fn nobody_is_made_up(from: IpAddr, hops: Vec<Option<IpAddr>>, proxies: Vec<IpAddr>) {
            let trusted = Trusted::parse(proxies.iter().map(ToString::to_string)).unwrap();
            let from = Peer::from(std::net::SocketAddr::new(from, 1));
            let client = trusted.client(from, hops.clone()).unwrap();
            let known = |hop: &Option<IpAddr>| hop.map(|hop| hop.to_canonical()) == Some(client);
            prop_assert!(Some(client) == from.ip() || hops.iter().any(known));
            if !trusted.trusts(from) {
                prop_assert_eq!(Some(client), from.ip());
            }
        }
    }
}
