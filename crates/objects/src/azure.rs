//! Azure Blob Storage.

mod signature;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CONTENT_LENGTH, IF_NONE_MATCH};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use net::transport::Trust;
use object_store::azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService};
use object_store::path::Path;
use object_store::{Attributes, BackoffConfig, ObjectStoreExt, RetryConfig};

use crate::cloud::{self, Cloud, Rest, Signing, retries, root};
use crate::http::Connections;
use crate::{Attempt, Error, ErrorKind, Future, Objects, PartRules};
use signature::Signer;

/// A part is a block of a block blob, of any size.
const RULES: PartRules =
    PartRules { min_size: 1, step: 1, max_count: 49_999, at_once: usize::MAX, are_replaced: true };

/// What of the environment says who this process is, and how the library calls it.
const IDENTITY: [(&str, AzureConfigKey); 6] = [
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
];

/// Which container, where, and how it is spoken to.
#[derive(Clone, Eq, PartialEq)]
pub struct Config {
    /// The storage account.
    pub account_name: String,
    /// One of its two keys, in Base64.
    pub account_key: Option<String>,
    /// The container. It must exist.
    pub container: String,
    /// Account, key or shared access signature, and place in one text, as the portal shows it. It
    /// counts before the keys that say the same.
    pub connection_string: Option<String>,
    /// The domain of the cloud, below which the service is `<account>.blob`.
    pub realm: String,
    /// Where the service is, if not there: a URL, with the account in its path if it has to be.
    pub service_url: Option<String>,
    /// A folder in the container under which everything is.
    pub root: String,
    /// How often a request is repeated.
    pub max_retries: usize,
    /// The pause before it is repeated for the first time. The next ones grow.
    pub retry_delay: Duration,
    /// Believes any certificate.
    pub skip_verify: bool,
    /// A PEM file of authorities, beside those of the system.
    pub authorities: Option<PathBuf>,
    /// Who is asking, if it is not who has the account's key.
    pub credentials: Credentials,
}

/// Who is asking.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Credentials {
    /// Without one: the account's key if there is one, the client's secret if there is one, or else
    /// the identity of the process.
    pub kind: Option<CredentialsKind>,
    /// The application, or the managed identity if there are several.
    pub client_id: Option<String>,
    /// The directory that knows the application.
    pub tenant_id: Option<String>,
    /// What proves that it is the application.
    pub secret: Option<String>,
}

/// How it is proven who is asking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialsKind {
    /// With the account's key.
    SharedKey,
    /// With the secret of an application.
    ClientSecret,
    /// The process has an identity: that of the environment (`AZURE_CLIENT_ID`,
    /// `AZURE_TENANT_ID` and `AZURE_FEDERATED_TOKEN_FILE`, or `AZURE_CLIENT_SECRET`), or that of
    /// the machine.
    Identity,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            account_name: String::new(),
            account_key: None,
            container: String::new(),
            connection_string: None,
            realm: "core.windows.net".to_owned(),
            service_url: None,
            root: String::new(),
            max_retries: 5,
            retry_delay: Duration::from_millis(100),
            skip_verify: false,
            authorities: None,
            credentials: Credentials::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("account_name", &self.account_name)
            .field("container", &self.container)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("kind", &self.kind)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Opens a container. Nothing is asked of it yet.
pub fn open(config: &Config) -> Result<Arc<dyn Objects>, Error> {
    let wrong = |cause: String| {
        Error::new(ErrorKind::Other, format!("use the container {}", config.container), cause)
    };
    let trust = Trust { authorities: config.authorities.as_deref(), anybody: config.skip_verify };
    let connections = Connections::new(&trust).map_err(|error| wrong(error.to_string()))?;
    let account = Account::of(config).map_err(wrong)?;
    let proof = Proof::of(config, &account).map_err(wrong)?;
    let url = format!("{}/{}", account.url, config.container);
    let signer = match &proof {
        Proof::Key(key) => Signer::new(key, &account.name, &config.container, &url),
        _ => None,
    };
    let can_sign = match &proof {
        Proof::Key(_) => true,
        Proof::Signature(_) => false,
        _ => account.is_named_in_url(),
    };
    let library = proof
        .apply(MicrosoftAzureBuilder::new())
        .with_account(&account.name)
        .with_endpoint(account.url)
        .with_container_name(&config.container)
        .with_allow_http(true)
        .with_retry(retries_of(config))
        .with_http_connector(connections.clone())
        .build()
        .map_err(|error| cloud::failed("open", &config.container, &error))?;
    let account = account.name;
    let rest = Blocks { library: library.clone(), connections, account, url, can_sign, signer };
    Ok(Arc::new(Cloud::<MicrosoftAzure, Blocks> {
        library,
        signer: None,
        rest,
        root: root(&config.root),
        rules: RULES,
        attributes: Attributes::new(),
    }))
}

fn retries_of(config: &Config) -> RetryConfig {
    let usual = retries();
    let max_backoff = usual.backoff.max_backoff.max(config.retry_delay);
    RetryConfig {
        max_retries: config.max_retries,
        backoff: BackoffConfig { init_backoff: config.retry_delay, max_backoff, ..usual.backoff },
        ..usual
    }
}

/// Where the account is, and what opens it.
struct Account {
    name: String,
    url: String,
    key: Option<String>,
    /// A shared access signature.
    signature: Option<String>,
}

impl Account {
    fn of(config: &Config) -> Result<Self, String> {
        let said = match &config.connection_string {
            Some(text) => parse_connection_string(text)?,
            None => HashMap::new(),
        };
        let said = |key: &str| said.get(key).map(|value| (*value).to_owned());
        let name = said("accountname").unwrap_or_else(|| config.account_name.clone());
        if name.is_empty() {
            return Err("expected the name of an account, found none".to_owned());
        }
        let signature = said("sharedaccesssignature");
        // One of the two is in a connection string.
        let other_key = if signature.is_none() { config.account_key.clone() } else { None };
        let scheme = said("defaultendpointsprotocol").unwrap_or_else(|| "https".to_owned());
        let realm = said("endpointsuffix").unwrap_or_else(|| config.realm.clone());
        let url = said("blobendpoint")
            .or_else(|| config.service_url.clone())
            .unwrap_or_else(|| format!("{scheme}://{name}.blob.{realm}"));
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { name, url, key: said("accountkey").or(other_key), signature })
    }

    /// The library finds the account there when it signs a URL.
    fn is_named_in_url(&self) -> bool {
        let (_, place) = self.url.split_once("://").unwrap_or_default();
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        host.starts_with(&format!("{}.", self.name)) || path == self.name
    }
}

/// `Key=value;Key=value`. Keys are made small; values may have `=` in them.
fn parse_connection_string(text: &str) -> Result<HashMap<String, &str>, String> {
    let pairs = text.split(';').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| match pair.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), value.trim())),
        // What it is instead may be a secret.
        None => Err("the connection string: expected `Key=value;Key=value`".to_owned()),
    });
    pairs.collect()
}

/// How it is proven who is asking.
enum Proof {
    Key(String),
    /// A shared access signature.
    Signature(String),
    Secret {
        client_id: String,
        tenant_id: String,
        secret: String,
    },
    Identity {
        client_id: Option<String>,
    },
}

impl Proof {
    fn of(config: &Config, account: &Account) -> Result<Self, String> {
        let Credentials { kind, client_id, tenant_id, secret } = &config.credentials;
        let key = account.key.clone().map(Self::Key);
        let signature = account.signature.clone().map(Self::Signature);
        let secret = match (client_id, tenant_id, secret) {
            (Some(client_id), Some(tenant_id), Some(secret)) => Some(Self::Secret {
                client_id: client_id.clone(),
                tenant_id: tenant_id.clone(),
                secret: secret.clone(),
            }),
            _ => None,
        };
        let identity = Self::Identity { client_id: client_id.clone() };
        match kind {
            None => Ok(key.or(signature).or(secret).unwrap_or(identity)),
            Some(CredentialsKind::SharedKey) => key.ok_or("the account's key"),
            Some(CredentialsKind::ClientSecret) => secret.ok_or("clientid, tenantid and secret"),
            Some(CredentialsKind::Identity) => Ok(identity),
        }
        .map_err(|missing| format!("the credentials of this type need {missing}"))
    }

    fn apply(self, builder: MicrosoftAzureBuilder) -> MicrosoftAzureBuilder {
        match self {
            Self::Key(key) => builder.with_access_key(key),
            Self::Signature(text) => builder.with_config(AzureConfigKey::SasKey, text),
            Self::Secret { client_id, tenant_id, secret } => {
                builder.with_client_secret_authorization(client_id, secret, tenant_id)
            }
            Self::Identity { client_id } => {
                let builder = IDENTITY.into_iter().fold(builder, |builder, (name, key)| {
                    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
                    match value {
                        Some(value) => builder.with_config(key, value.trim_end_matches('/')),
                        None => builder,
                    }
                });
                match client_id {
                    Some(client_id) => builder.with_client_id(client_id),
                    None => builder,
                }
            }
        }
    }
}

/// Blocks that belong to no blob yet. They vanish by themselves after a week, so nobody has to list
/// them.
struct Blocks {
    library: MicrosoftAzure,
    connections: Connections,
    account: String,
    /// Of the container.
    url: String,
    can_sign: bool,
    signer: Option<Signer>,
}

impl Rest for Blocks {
    fn attempts<'a>(&'a self, _prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// What is written under a name drops the blocks there that it does not name. A blob that is
    /// there keeps what it has: somebody may have completed it.
    fn discard<'a>(&'a self, key: &'a Path) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let failed =
                |cause: String| Error::new(ErrorKind::Other, format!("abort object {key}"), cause);
            let request = self.commit_nothing(key).await.map_err(failed)?;
            let answer = self.connections.call(request).await;
            let answer = answer.map_err(|error| failed(net::client::with_causes(&error)))?;
            match answer.status() {
                status if status.is_success() => {
                    let deleted = self.library.delete(key).await;
                    deleted.map_err(|error| cloud::failed("abort", key.as_ref(), &error))
                }
                StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED | StatusCode::NOT_FOUND => {
                    Ok(())
                }
                status => Err(failed(status.to_string())),
            }
        })
    }

    fn is_over(&self, error: &object_store::Error) -> bool {
        net::client::with_causes(error).contains("InvalidBlockList")
    }

    /// What allows to read a blob allows to look at it, and the library knows only the former.
    fn sign(&self, method: Method, key: &Path, valid: Duration) -> Signing {
        let reads = matches!(method, Method::GET | Method::HEAD);
        match &self.signer {
            _ if !self.can_sign => Signing::Nobody,
            Some(signer) if reads => {
                signer.url(key.as_ref(), valid).map_or(Signing::Nobody, Signing::Done)
            }
            _ => Signing::Library(if reads { Method::GET } else { method }),
        }
    }
}

impl Blocks {
    /// A request for an empty blob, unless there is a blob.
    async fn commit_nothing(&self, key: &Path) -> Result<HttpRequest, String> {
        const NOTHING: &str = r#"<?xml version="1.0" encoding="utf-8"?><BlockList></BlockList>"#;
        let mut request =
            ::http::Request::put(format!("{}?comp=blocklist", blob_url(&self.url, key.as_ref())))
                .header(CONTENT_LENGTH, NOTHING.len())
                .header(IF_NONE_MATCH, "*")
                .body(HttpRequestBody::from(Bytes::from_static(NOTHING.as_bytes())))
                .map_err(|error| error.to_string())?;
        let credential = self.library.credentials().get_credential().await;
        let credential = credential.map_err(|error| net::client::with_causes(&error))?;
        let authorized =
            AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request);
        authorized.map_err(|error| net::client::with_causes(&error))?;
        Ok(request)
    }
}

/// Where a blob of a container is.
fn blob_url(container: &str, name: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    format!("{container}/{}", percent_encoding::utf8_percent_encode(name, KEPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { account_name: "acme".to_owned(), container: "c".to_owned(), ..Config::default() }
    }

    #[test]
    fn where_accounts_are() {
        let url = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            Account::of(&config).unwrap().url
        };
        assert_eq!(url(|_| ()), "https://acme.blob.core.windows.net");
        let china = |config: &mut Config| config.realm = "core.chinacloudapi.cn".to_owned();
        assert_eq!(url(china), "https://acme.blob.core.chinacloudapi.cn");
        let elsewhere =
            |config: &mut Config| config.service_url = Some("http://127.0.0.1:9/acme/".to_owned());
        assert_eq!(url(elsewhere), "http://127.0.0.1:9/acme");
    }

    #[test]
    fn a_connection_string_says_all() {
        let said = |text: &str| {
            let account_key = Some("other".to_owned());
            let connection_string = Some(text.to_owned());
            Account::of(&Config { account_key, connection_string, ..config() })
        };
        let account = said(
            "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5==;EndpointSuffix=realm.example;",
        )
        .unwrap();
        assert_eq!(
            (account.name.as_str(), account.url.as_str()),
            ("a", "http://a.blob.realm.example")
        );
        assert_eq!(account.key.as_deref(), Some("a2V5=="));
        let account =
            said("BlobEndpoint=https://b.example/;SharedAccessSignature=sv=2024&sig=x%3D").unwrap();
        assert_eq!((account.name.as_str(), account.url.as_str()), ("acme", "https://b.example"));
        assert_eq!(account.key, None);
        assert_eq!(account.signature.as_deref(), Some("sv=2024&sig=x%3D"));
        let error = said("only-a-secret").err().unwrap();
        assert!(!error.contains("only-a-secret"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let open_as = |kind| {
            let credentials = Credentials { kind: Some(kind), ..Credentials::default() };
            open(&Config { credentials, ..config() }).map(|_| ()).map_err(|error| error.to_string())
        };
        let error = open_as(CredentialsKind::SharedKey).unwrap_err();
        assert!(error.contains("the account's key"), "{error}");
        let error = open_as(CredentialsKind::ClientSecret).unwrap_err();
        assert!(error.contains("clientid, tenantid and secret"), "{error}");
        open_as(CredentialsKind::Identity).unwrap();
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials =
            Credentials { secret: Some("hidden1".to_owned()), ..Credentials::default() };
        let config = Config {
            account_key: Some("aGlkZGVuMg==".to_owned()),
            connection_string: Some("AccountKey=aGlkZGVuMg==".to_owned()),
            credentials,
            ..config()
        };
        let store = open(&config).unwrap();
        // The key in Base64, and its bytes.
        for shown in [format!("{config:?}"), format!("{store:?}")] {
            for secret in ["hidden", "aGlk", "104, 105"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }
}
