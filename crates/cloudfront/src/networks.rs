//! Amazon's own networks, as its file `ip-ranges.json` lists them.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// Amazon's networks, or those of some of its regions. Without any, nobody is in one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Networks {
    /// In order; none is within another.
    networks: Vec<IpNet>,
}

/// A text is no such list.
#[derive(Debug, thiserror::Error)]
#[error("expected a list of networks as in Amazon's ip-ranges.json: {0}")]
pub struct ListError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct List {
    prefixes: Vec<Entry>,
    #[serde(default)]
    ipv6_prefixes: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(alias = "ip_prefix", alias = "ipv6_prefix")]
    prefix: String,
    #[serde(default)]
    region: String,
}

impl Networks {
    /// Reads the networks of these regions, of all services; without regions, those of all. Entries
    /// that are no networks are left out, as a list may say more one day.
    pub fn parse(list: &[u8], regions: &[String]) -> Result<Self, ListError> {
        let list: List = serde_json::from_slice(list)?;
        let is_wanted = |entry: &Entry| {
            let is_region = |region: &String| region.eq_ignore_ascii_case(&entry.region);
            regions.is_empty() || regions.iter().any(is_region)
        };
        let entries = list.prefixes.iter().chain(&list.ipv6_prefixes);
        let networks = entries.filter(|entry| is_wanted(entry));
        let networks = networks.filter_map(|entry| entry.prefix.parse().ok());
        // The list names a network again for each service that is in it.
        Ok(Self { networks: IpNet::aggregate(&networks.collect()) })
    }

    /// Whether the address is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let next = self.networks.partition_point(|network| network.network() <= address);
        let nearest = next.checked_sub(1).and_then(|index| self.networks.get(index));
        nearest.is_some_and(|network| network.contains(&address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{
        "syncToken": "1", "createDate": "2026-01-01-00-00-00",
        "prefixes": [
            {"ip_prefix": "203.0.113.0/25", "region": "us-east-1", "service": "AMAZON",
             "network_border_group": "us-east-1"},
            {"ip_prefix": "203.0.113.0/25", "region": "us-east-1", "service": "EC2"},
            {"ip_prefix": "203.0.113.64/26", "region": "us-east-1", "service": "S3"},
            {"ip_prefix": "198.51.100.0/24", "region": "eu-west-1", "service": "AMAZON"},
            {"ip_prefix": "one day", "region": "us-east-1", "service": "AMAZON"}
        ],
        "ipv6_prefixes": [
            {"ipv6_prefix": "2001:db8:1::/48", "region": "us-west-2", "service": "AMAZON"}
        ]
    }"#;

    fn found(regions: &[&str], addresses: &[&str]) -> Vec<bool> {
        let regions: Vec<String> = regions.iter().map(ToString::to_string).collect();
        let networks = Networks::parse(LIST.as_bytes(), &regions).unwrap();
        addresses.iter().map(|address| networks.contain(address.parse().unwrap())).collect()
    }

    #[test]
    fn addresses_are_looked_up_in_all_regions_or_in_some() {
        let addresses = [
            "203.0.113.0",
            "203.0.113.127",
            "198.51.100.7",
            "2001:db8:1::7",
            "::ffff:203.0.113.70",
        ];
        assert_eq!(found(&[], &addresses), [true; 5]);
        assert_eq!(found(&["US-East-1"], &addresses), [true, true, false, false, true]);
        let both = ["eu-west-1", "us-west-2"];
        assert_eq!(found(&both, &addresses), [false, false, true, true, false]);
        assert_eq!(found(&["mars-1"], &addresses), [false; 5]);
        let others =
            ["0.0.0.0", "203.0.112.255", "203.0.113.128", "255.255.255.255", "::", "2001:db8:2::"];
        assert_eq!(found(&[], &others), [false; 6]);
        assert!(!Networks::default().contain("203.0.113.0".parse().unwrap()));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "{}", "<html>", r#"{"prefixes": [{"region": "us-east-1"}]}"#] {
            let error = Networks::parse(text.as_bytes(), &[]).unwrap_err().to_string();
            assert!(error.starts_with("expected a list of networks"), "{error}");
        }
        assert!(Networks::parse(br#"{"prefixes": []}"#, &[]).unwrap().is_empty());
    }
}
