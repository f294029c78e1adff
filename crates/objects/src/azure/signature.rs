//! Shared access signatures of an account's key, for reading one blob.
//!
//! The library makes them too, but good from this very second on: a store whose clock is a second
//! late refuses them. These are good at once.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use data_encoding::BASE64;

use super::blob_url;

/// The version of the service whose rules these are.
const VERSION: &str = "2023-11-03";

/// What signs.
pub(super) struct Signer {
    key: hmac::Key,
    /// Account and container, as signatures name them.
    place: String,
    /// The URL of the container.
    url: String,
}

impl Signer {
    /// Signs with a key in Base64 for the container at a URL.
    pub(super) fn new(key: &str, account: &str, container: &str, url: &str) -> Option<Self> {
        let key = BASE64.decode(key.trim().as_bytes()).ok()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Some(Self { key, place: format!("/blob/{account}/{container}"), url: url.to_owned() })
    }

    /// A URL with which a blob can be read for a while.
    pub(super) fn url(&self, name: &str, valid: Duration) -> Option<String> {
        let end = jiff::Timestamp::try_from(SystemTime::now().checked_add(valid)?).ok()?;
        Some(self.url_until(name, &end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
    }

    fn url_until(&self, name: &str, end: &str) -> String {
        let resource = format!("{}/{name}", self.place);
        // Permissions, start, end, resource, identifier, addresses, protocols, version, kind of
        // resource, snapshot, encryption scope, and five headers of the answer.
        let fields =
            ["r", "", end, &resource, "", "", "", VERSION, "b", "", "", "", "", "", "", ""];
        let signature = BASE64.encode(hmac::sign(&self.key, fields.join("\n").as_bytes()).as_ref());
        let encoded =
            |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let (end, signature) = (encoded(end), encoded(&signature));
        format!("{}?sp=r&se={end}&sv={VERSION}&sr=b&sig={signature}", blob_url(&self.url, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_all_that_is_signed() {
        let signer = Signer::new("a2V5", "acme", "c", "https://acme.example/c").unwrap();
        let url = signer.url_until("some folder/a", "2026-01-02T03:04:05Z");
        let (blob, query) = url.split_once('?').unwrap();
        assert_eq!(blob, "https://acme.example/c/some%20folder/a");
        assert!(query.starts_with("sp=r&se=2026%2D01%2D02T03%3A04%3A05Z&sv=2023-11-03&sr=b&sig="));
        assert_ne!(url, signer.url_until("some folder/b", "2026-01-02T03:04:05Z"));
        assert!(Signer::new("no key", "acme", "c", "https://acme.example/c").is_none());
    }
}
