//! Which bucket, where it is, and what its objects are told.

use std::fmt;

use ::http::{HeaderName, HeaderValue};

/// Where the service is.
const DOMAIN: &str = "aliyuncs.com";

/// Which bucket, where, and how it is spoken to.
#[derive(Clone, Eq, PartialEq)]
pub struct Config {
    /// The access key's name.
    pub access_key_id: String,
    /// What proves it.
    pub access_key_secret: String,
    /// The region, as `cn-hangzhou` or `oss-cn-hangzhou`.
    pub region: String,
    /// The bucket. It must exist.
    pub bucket: String,
    /// Where the bucket is, if not where its region says: a host, with or without a port and with
    /// or without `https://`. The name of the bucket is part of it, unless it is one of Alibaba's.
    pub endpoint: Option<String>,
    /// Uses the address inside Alibaba's network.
    pub internal: bool,
    /// Has objects encrypted where they lie: with the service's key, or with that of the next one.
    pub encrypt: bool,
    /// The key of the key management service.
    pub encryption_key_id: Option<String>,
    /// Speaks TLS to an endpoint that does not say whether.
    pub secure: bool,
    /// A folder in the bucket under which everything is.
    pub root_directory: String,
    /// How requests are signed.
    pub signature: SignatureVersion,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            access_key_id: String::new(),
            access_key_secret: String::new(),
            region: String::new(),
            bucket: String::new(),
            endpoint: None,
            internal: false,
            encrypt: false,
            encryption_key_id: None,
            secure: true,
            root_directory: String::new(),
            signature: SignatureVersion::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("access_key_id", &self.access_key_id)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// A way to sign requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SignatureVersion {
    /// HMAC-SHA256, for a region and a day.
    #[default]
    V4,
    /// HMAC-SHA1, for services that know nothing else.
    V1,
}

impl Config {
    /// The region without what some write around it.
    pub(super) fn region(&self) -> &str {
        let region = self.region.strip_prefix("oss-").unwrap_or(&self.region);
        region.strip_suffix("-internal").unwrap_or(region)
    }

    /// Where the bucket is.
    pub(super) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let bucket = &self.bucket;
        let Some(endpoint) = &self.endpoint else {
            let network = if self.internal { "-internal" } else { "" };
            return format!("{scheme}://{bucket}.oss-{}{network}.{DOMAIN}", self.region());
        };
        let endpoint = endpoint.trim_end_matches('/');
        let (scheme, host) = endpoint.split_once("://").unwrap_or((scheme, endpoint));
        let is_general = host.ends_with(DOMAIN) && !host.starts_with(&format!("{bucket}."));
        let bucket = if is_general { format!("{bucket}.") } else { String::new() };
        format!("{scheme}://{bucket}{host}")
    }

    /// What new objects are told of how they are encrypted.
    pub(super) fn encryption(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        const HOW: HeaderName = HeaderName::from_static("x-oss-server-side-encryption");
        const KEY: HeaderName = HeaderName::from_static("x-oss-server-side-encryption-key-id");
        match &self.encryption_key_id {
            _ if !self.encrypt => Ok(Vec::new()),
            None => Ok(vec![(HOW, HeaderValue::from_static("AES256"))]),
            Some(id) => {
                let id = HeaderValue::from_str(id);
                let id = id.map_err(|_| "the encryptionkeyid can not be sent".to_owned())?;
                Ok(vec![(HOW, HeaderValue::from_static("KMS")), (KEY, id)])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            bucket: "b".to_owned(),
            region: "oss-cn-hangzhou".to_owned(),
            access_key_id: "AK".to_owned(),
            access_key_secret: "hidden".to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn where_buckets_are() {
        let at = |endpoint: &str| Config { endpoint: Some(endpoint.to_owned()), ..config() };
        let cases = [
            (config(), "https://b.oss-cn-hangzhou.aliyuncs.com"),
            (
                Config { region: "cn-hangzhou".to_owned(), ..config() },
                "https://b.oss-cn-hangzhou.aliyuncs.com",
            ),
            (
                Config { internal: true, ..config() },
                "https://b.oss-cn-hangzhou-internal.aliyuncs.com",
            ),
            (Config { secure: false, ..config() }, "http://b.oss-cn-hangzhou.aliyuncs.com"),
            (at("oss-cn-hangzhou.aliyuncs.com"), "https://b.oss-cn-hangzhou.aliyuncs.com"),
            (at("b.oss-cn-hangzhou.aliyuncs.com"), "https://b.oss-cn-hangzhou.aliyuncs.com"),
            (at("http://images.example:8080/"), "http://images.example:8080"),
        ];
        for (config, expected) in cases {
            assert_eq!(config.url(), expected);
            assert_eq!(config.region(), "cn-hangzhou");
        }
    }

    #[test]
    fn new_objects_are_encrypted_as_is_said() {
        let values = |config: &Config| {
            let headers = config.encryption().unwrap();
            headers.iter().map(|(_, value)| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let key = Config { encryption_key_id: Some("k1".to_owned()), ..config() };
        assert!(values(&key).is_empty());
        assert_eq!(values(&Config { encrypt: true, ..config() }), ["AES256"]);
        assert_eq!(values(&Config { encrypt: true, ..key }), ["KMS", "k1"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!(
            "{:?} {:?}",
            config(),
            crate::oss::open(&config(), crate::Watch::default()).unwrap()
        );
        assert!(shown.contains("AK") && !shown.contains("hidden"), "{shown}");
    }
}
