//! Amazon S3, and what speaks like it: `MinIO`, Ceph, `SeaweedFS`, Garage, R2 and others.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use net::transport::Trust;
use object_store::aws::{
    AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider,
};
use object_store::client::{HttpRequestBody, HttpService};
use object_store::{Attribute, Attributes, ClientOptions};
use serde::Deserialize;

use crate::cloud::{Cloud, Rest, failed, retries, root};
use crate::http::Connections;
use crate::requests::in_query;
use crate::{Attempt, Error, ErrorKind, Future, Objects, PartRules};

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
    /// Without them: those of the environment (`AWS_ACCESS_KEY_ID` …), of a web identity, of the
    /// container, or of the instance's role, in this order.
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

/// Opens a bucket. Nothing is asked of it yet.
pub fn open(config: &Config) -> Result<Arc<dyn Objects>, Error> {
    let context = || format!("use the bucket {}", config.bucket);
    let wrong = |cause: String| Error::new(ErrorKind::Other, context(), cause);
    let trust = Trust { authorities: config.authorities.as_deref(), anybody: config.skip_verify };
    let connections = Connections::new(&trust).map_err(|error| wrong(error.to_string()))?;
    let builder = match &config.keys {
        None => AmazonS3Builder::from_env(),
        Some(keys) => {
            let builder = AmazonS3Builder::new()
                .with_access_key_id(&keys.id)
                .with_secret_access_key(&keys.secret);
            match &keys.session_token {
                Some(token) => builder.with_token(token),
                None => builder,
            }
        }
    };
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
    let unusable = |error| failed("open", &config.bucket, &error);
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
    let rest = Listing {
        credentials: library.credentials().clone(),
        connections,
        url: place.bucket_url(&config.bucket),
        region,
    };
    Ok(Arc::new(Cloud::<AmazonS3, Listing> {
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

/// Asks for attempts, which the library does not.
#[derive(Debug)]
struct Listing {
    credentials: AwsCredentialProvider,
    connections: Connections,
    url: String,
    region: String,
}

/// `ListMultipartUploadsResult` of the S3 API.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Uploads {
    #[serde(default)]
    pub(crate) upload: Vec<Upload>,
    #[serde(default)]
    pub(crate) is_truncated: bool,
    pub(crate) next_key_marker: Option<String>,
    pub(crate) next_upload_id_marker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Upload {
    pub(crate) key: String,
    #[serde(rename = "UploadId")]
    pub(crate) id: String,
    pub(crate) initiated: Option<jiff::Timestamp>,
}

impl Rest for Listing {
    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let mut markers = String::new();
            loop {
                let Some(page) = self.page(prefix, &markers).await? else { return Ok(found) };
                found.extend(page.upload.into_iter().map(|upload| Attempt {
                    key: upload.key,
                    name: upload.id,
                    begun: upload.initiated.map_or_else(SystemTime::now, SystemTime::from),
                }));
                let (true, Some(key)) = (page.is_truncated, page.next_key_marker) else {
                    return Ok(found);
                };
                let upload = page.next_upload_id_marker.unwrap_or_default();
                markers = format!(
                    "&key-marker={}&upload-id-marker={}",
                    in_query(&key),
                    in_query(&upload)
                );
            }
        })
    }
}

impl Listing {
    /// A page of them; `None` if the store can not tell.
    async fn page(&self, prefix: &str, markers: &str) -> Result<Option<Uploads>, Error> {
        let failed = |cause: String| {
            Error::new(ErrorKind::Other, format!("list uploads below {prefix}"), cause)
        };
        let url = format!("{}/?uploads=&prefix={}{markers}", self.url, in_query(prefix));
        let mut request = ::http::Request::new(HttpRequestBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() =
            url.parse().map_err(|error: ::http::uri::InvalidUri| failed(error.to_string()))?;
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|error| failed(net::client::with_causes(&error)))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| failed(error.to_string()))?;
        let answer = self.connections.call(request).await;
        let answer = answer.map_err(|error| failed(net::client::with_causes(&error)))?;
        let (head, body) = answer.into_parts();
        let body = body.bytes().await.map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8_lossy(&body);
        match head.status {
            StatusCode::OK => {
                let page = quick_xml::de::from_str(&text);
                page.map(Some).map_err(|error| failed(format!("not understood: {error}")))
            }
            StatusCode::NOT_IMPLEMENTED => Ok(None),
            status => Err(failed(format!("{status}: {text:.200}"))),
        }
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
    fn a_list_of_uploads_is_understood() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Bucket>b</Bucket><KeyMarker/><NextKeyMarker>k2</NextKeyMarker>
              <NextUploadIdMarker>u2</NextUploadIdMarker><IsTruncated>true</IsTruncated>
              <Upload><Key>k1</Key><UploadId>u1</UploadId><Initiator><ID>x</ID></Initiator>
                <Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>
              <Upload><Key>k2</Key><UploadId>u2</UploadId></Upload>
            </ListMultipartUploadsResult>"#;
        let page: Uploads = quick_xml::de::from_str(text).unwrap();
        assert!(page.is_truncated && page.next_key_marker.as_deref() == Some("k2"));
        assert_eq!(page.upload[0].key, "k1");
        assert_eq!(page.upload[0].initiated.unwrap().as_second(), 1_767_323_045);
        assert_eq!(page.upload[1].id, "u2");
        let empty: Uploads = quick_xml::de::from_str("<ListMultipartUploadsResult/>").unwrap();
        assert!(empty.upload.is_empty() && !empty.is_truncated);
    }

    #[test]
    fn secrets_are_not_shown() {
        let keys = Keys { id: "AK".to_owned(), secret: "hidden".to_owned(), session_token: None };
        let shown = format!("{:?}", Config { keys: Some(keys), ..Config::default() });
        assert!(shown.contains("AK") && !shown.contains("hidden"), "{shown}");
    }
}
