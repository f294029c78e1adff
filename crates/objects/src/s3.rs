//! Amazon S3, and what speaks like it: `MinIO`, Ceph, `SeaweedFS`, Garage, R2 and others.

mod credentials;
mod profile;
mod requests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use net::transport::Trust;
use object_store::aws::{AmazonS3, AmazonS3ConfigKey, AwsCredentialProvider};
use object_store::{Attribute, Attributes, ClientOptions};

use crate::cloud::{self, Cloud, retries, root};
use crate::credentials::Lasting;
use crate::credentials::library::Library;
use crate::http::Connections;
use crate::requests::Sender;
use crate::{Error, ErrorKind, Objects, PartRules, Watch};
use requests::Requests;

pub(crate) use requests::Uploads;

/// What S3 asks of parts.
const RULES: PartRules = PartRules {
    min_size: 5 << 20,
    step: 1,
    max_count: 10_000,
    at_once: usize::MAX,
    are_replaced: true,
};

/// Where the service of a region is, when nothing else is said.
const DOMAIN: &str = "amazonaws.com";

/// Which bucket, where, and how it is spoken to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the configuration")]
pub struct Config {
    /// The bucket. It must exist.
    pub bucket: String,
    /// Its region. Without one: that of the environment (`AWS_REGION`), or `us-east-1`.
    pub region: Option<String>,
    /// Where the service is, if not at Amazon: a URL, or a host with or without a port.
    pub endpoint: Option<String>,
    /// Another endpoint, for the URLs that clients are sent to.
    pub redirect_endpoint: Option<String>,
    /// Names the bucket in the host (`bucket.host/key`), not in the path (`host/bucket/key`).
    pub virtual_hosted: bool,
    /// Without them: those of the environment (`AWS_ACCESS_KEY_ID` …), of a web identity, of a
    /// profile in the files that Amazon's programs share, of the container, or of the instance's
    /// role, in this order.
    pub keys: Option<Keys>,
    /// How objects are encrypted where they lie.
    pub encryption: Encryption,
    /// The storage class of new objects.
    pub storage_class: Option<String>,
    /// The canned access control list of new objects.
    pub acl: Option<String>,
    /// Speaks HTTP without TLS to an endpoint that does not say which.
    pub insecure: bool,
    /// Believes any certificate.
    pub skip_verify: bool,
    /// A PEM file of authorities, beside those of the system.
    pub authorities: Option<PathBuf>,
    /// A folder in the bucket under which everything is.
    pub root: String,
    /// Endpoints of Amazon that also have IPv6 addresses.
    pub dual_stack: bool,
    /// Endpoints of Amazon that are near the client.
    pub accelerate: bool,
    /// Endpoints of Amazon whose cryptography is validated.
    pub fips: bool,
    /// What the store is told that is asking.
    pub user_agent: Option<String>,
}

/// An access key.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Keys {
    /// Its name.
    pub id: String,
    /// What proves it.
    pub secret: String,
    /// What makes it a temporary one.
    pub session_token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How objects are encrypted by the store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Encryption {
    /// As the bucket says.
    #[default]
    Default,
    /// With the store's own key.
    Store,
    /// With a key of the key management service.
    Kms(String),
}

/// Opens a bucket. Nothing is asked of it yet. `watch` hears of all that is asked later.
pub fn open(config: &Config, watch: Watch) -> Result<Arc<dyn Objects>, Error> {
    open_as(config, watch, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// The same with the environment that `variable` tells of.
fn open_as(
    config: &Config,
    watch: Watch,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Objects>, Error> {
    let context = || format!("use the bucket {}", config.bucket);
    let wrong = |cause: String| Error::new(ErrorKind::Other, context(), cause);
    let trust = Trust { authorities: config.authorities.as_deref(), anybody: config.skip_verify };
    let connections = Connections::new(&trust, watch).map_err(|error| wrong(error.to_string()))?;
    let builder = credentials::identify(config.keys.as_ref(), variable).map_err(wrong)?;
    let region = config.region.clone();
    let region = region.or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Region));
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let place = Place::of(config, config.endpoint.as_deref(), &region);
    let mut builder = builder
        .with_bucket_name(&config.bucket)
        .with_region(&region)
        .with_endpoint(&place.endpoint)
        .with_virtual_hosted_style_request(place.virtual_hosted)
        .with_allow_http(true)
        // The connection proves the payload; without TLS its hash has to.
        .with_unsigned_payload(place.endpoint.starts_with("https:"))
        .with_client_options(client_options(config).map_err(wrong)?)
        .with_retry(retries())
        .with_http_connector(connections.clone());
    builder = match &config.encryption {
        Encryption::Default => builder,
        Encryption::Store => builder.with_config(
            "aws_server_side_encryption".parse().map_err(|_| wrong("encryption".to_owned()))?,
            "AES256",
        ),
        Encryption::Kms(key) => builder.with_sse_kms_encryption(key),
    };
    let unusable = |error| cloud::unusable(&config.bucket, &error);
    let source = builder.clone();
    let source = Library::new(move || Ok(source.clone().build()?.credentials().clone()));
    let credentials: AwsCredentialProvider = Arc::new(Lasting::new(source.map_err(unusable)?));
    builder = builder.with_credentials(Arc::clone(&credentials));
    let signer = match &config.redirect_endpoint {
        None => None,
        Some(endpoint) => {
            let outside = Place::of(config, Some(endpoint), &region);
            let builder = builder.clone().with_endpoint(outside.endpoint);
            let builder = builder.with_virtual_hosted_style_request(outside.virtual_hosted);
            Some(builder.build().map_err(unusable)?)
        }
    };
    let library = builder.build().map_err(unusable)?;
    let mut attributes = Attributes::new();
    if let Some(class) = &config.storage_class {
        attributes.insert(Attribute::StorageClass, class.clone().into());
    }
    let rest = Requests {
        credentials,
        sender: Sender::over(connections),
        url: place.bucket_url(&config.bucket),
        region,
    };
    Ok(Arc::new(Cloud::<AmazonS3, Requests> {
        library,
        signer,
        rest,
        root: root(&config.root),
        rules: RULES,
        attributes,
    }))
}

fn client_options(config: &Config) -> Result<ClientOptions, String> {
    let mut headers = HeaderMap::new();
    let given = [
        (HeaderName::from_static("x-amz-acl"), &config.acl),
        (::http::header::USER_AGENT, &config.user_agent),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("the value of {name} can not be sent: {value:?}"))?;
            headers.insert(name, value);
        }
    }
    Ok(ClientOptions::new().with_default_headers(headers))
}

/// Where the bucket is.
struct Place {
    /// With the bucket in it, if it is named in the host.
    endpoint: String,
    virtual_hosted: bool,
}

impl Place {
    fn of(config: &Config, endpoint: Option<&str>, region: &str) -> Self {
        let scheme = if config.insecure { "http" } else { "https" };
        let bucket = &config.bucket;
        if let Some(endpoint) = endpoint {
            let endpoint = endpoint.trim_end_matches('/');
            let (scheme, host) = endpoint.split_once("://").unwrap_or((scheme, endpoint));
            return Self::at(scheme, host, bucket, config.virtual_hosted);
        }
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        if config.accelerate {
            let stack = if config.dual_stack { ".dualstack" } else { "" };
            let host = format!("s3-accelerate{stack}.{DOMAIN}{suffix}");
            return Self::at(scheme, &host, bucket, true);
        }
        let service = if config.fips { "s3-fips" } else { "s3" };
        let stack = if config.dual_stack { ".dualstack" } else { "" };
        let host = format!("{service}{stack}.{region}.{DOMAIN}{suffix}");
        Self::at(scheme, &host, bucket, config.virtual_hosted)
    }

    fn at(scheme: &str, host: &str, bucket: &str, virtual_hosted: bool) -> Self {
        let bucket = if virtual_hosted { format!("{bucket}.") } else { String::new() };
        Self { endpoint: format!("{scheme}://{bucket}{host}"), virtual_hosted }
    }

    fn bucket_url(&self, bucket: &str) -> String {
        let Self { endpoint, virtual_hosted } = self;
        if *virtual_hosted { endpoint.clone() } else { format!("{endpoint}/{bucket}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_buckets_are() {
        let config = |change: fn(&mut Config)| {
            let mut config = Config { bucket: "b".to_owned(), ..Config::default() };
            change(&mut config);
            config
        };
        let cases: [(Config, &str, &str); 8] = [
            (config(|_| ()), "eu-west-1", "https://s3.eu-west-1.amazonaws.com/b"),
            (config(|_| ()), "cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn/b"),
            (
                config(|config| config.virtual_hosted = true),
                "eu-west-1",
                "https://b.s3.eu-west-1.amazonaws.com",
            ),
            (
                config(|config| config.accelerate = true),
                "eu-west-1",
                "https://b.s3-accelerate.amazonaws.com",
            ),
            (
                config(|config| (config.fips, config.dual_stack) = (true, true)),
                "us-east-2",
                "https://s3-fips.dualstack.us-east-2.amazonaws.com/b",
            ),
            (
                config(|config| config.endpoint = Some("http://127.0.0.1:9000/".to_owned())),
                "any",
                "http://127.0.0.1:9000/b",
            ),
            (
                config(|config| {
                    config.endpoint = Some("minio:9000".to_owned());
                    config.insecure = true;
                }),
                "any",
                "http://minio:9000/b",
            ),
            (
                config(|config| {
                    config.endpoint = Some("https://store.example".to_owned());
                    config.virtual_hosted = true;
                }),
                "any",
                "https://b.store.example",
            ),
        ];
        for (config, region, expected) in cases {
            let place = Place::of(&config, config.endpoint.as_deref(), region);
            assert_eq!(place.bucket_url("b"), expected);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let keys = Keys { id: "AK".to_owned(), secret: "hidden".to_owned(), session_token: None };
        let shown = format!("{:?}", Config { keys: Some(keys), ..Config::default() });
        assert!(shown.contains("AK") && !shown.contains("hidden"), "{shown}");
    }
}
