//! Azure Blob Storage.

mod account;
mod signature;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CONTENT_LENGTH, IF_NONE_MATCH};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use net::transport::Trust;
use object_store::azure::{
    AzureAuthorizer, AzureCredential, MicrosoftAzure, MicrosoftAzureBuilder,
};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody, HttpService};
use object_store::path::Path;
use object_store::{Attributes, BackoffConfig, ObjectStoreExt, RetryConfig};

use crate::cloud::{self, Cloud, Rest, Signing, retries, root};
use crate::credentials::Lasting;
use crate::credentials::bearer::{Bearer, Renewing};
use crate::credentials::library::Library;
use crate::http::Connections;
use crate::{Attempt, Error, ErrorKind, Future, Objects, PartRules, Watch};
use account::{Account, Proof};
use signature::Signer;

/// A part is a block of a block blob, of any size.
const RULES: PartRules =
    PartRules { min_size: 1, step: 1, max_count: 49_999, at_once: usize::MAX, are_replaced: true };

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

/// Opens a container. Nothing is asked of it yet. `watch` hears of all that is asked later.
pub fn open(config: &Config, watch: Watch) -> Result<Arc<dyn Objects>, Error> {
    open_as(config, watch, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// The same with the environment that `variable` tells of.
fn open_as(
    config: &Config,
    watch: Watch,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Objects>, Error> {
    let wrong = |cause: String| {
        Error::new(ErrorKind::Other, format!("use the container {}", config.container), cause)
    };
    let trust = Trust { authorities: config.authorities.as_deref(), anybody: config.skip_verify };
    let connections = Connections::new(&trust, watch).map_err(|error| wrong(error.to_string()))?;
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
    let builder = proof
        .apply(MicrosoftAzureBuilder::new(), variable)
        .with_account(&account.name)
        .with_endpoint(account.url)
        .with_container_name(&config.container)
        .with_allow_http(true)
        .with_retry(retries_of(config))
        .with_http_connector(connections.clone());
    let unusable = |error| cloud::unusable(&config.container, &error);
    let source = builder.clone();
    let source = Library::new(move || Ok(source.clone().build()?.credentials().clone()));
    let credentials = Arc::new(Lasting::new(source.map_err(unusable)?));
    let connections = Renewing {
        connections: HttpClient::new(connections),
        credentials: Arc::clone(&credentials),
    };
    let library = builder
        .with_credentials(credentials)
        .with_http_connector(connections.clone())
        .build()
        .map_err(unusable)?;
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

impl Bearer for AzureCredential {
    fn token(&self) -> Option<&str> {
        match self {
            Self::BearerToken(token) => Some(token),
            Self::AccessKey(_) | Self::SASToken(_) => None,
        }
    }
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

/// Blocks that belong to no blob yet. They vanish by themselves after a week, so nobody has to list
/// them.
struct Blocks {
    library: MicrosoftAzure,
    connections: Renewing<AzureCredential>,
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
    fn abort<'a>(&'a self, key: &'a Path, _: &'a str) -> Future<'a, Result<(), Error>> {
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
