//! `OpenStack` Swift.
//!
//! Keys lie where registry:2 has them, under `files/`. What was written in parts lies in segments
//! under `segments/`, with a manifest at its key (a static large object).

mod container;
mod large;
mod login;
mod signing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderName, HeaderValue, Method};
use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use net::transport::Trust;
use tokio::sync::OnceCell;

use crate::requests::{Ask, Sender};
use crate::{Attempt, Error, ErrorKind, Found, Future, Objects, Opened, Page, PartRules, Watch};
use container::{Container, Entry};
use signing::Signing;

/// Manifests of manifests have so many segments.
const RULES: PartRules =
    PartRules { min_size: 1, step: 1, max_count: 10_000, at_once: usize::MAX, are_replaced: true };

/// Which container, where, and who asks.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Config {
    /// Who logs in.
    pub username: String,
    /// What proves it.
    pub password: String,
    /// Where: the URL of `TempAuth` (`…/auth/v1.0`) or of Keystone (`…/v2.0`, `…/v3`).
    pub auth_url: String,
    /// The project's name.
    pub tenant: Option<String>,
    /// The project's id; its name and domain are not needed then.
    pub tenant_id: Option<String>,
    /// The name of the user's domain; `Default` without this and the next one. (v3)
    pub domain: Option<String>,
    /// The id of the user's domain. (v3)
    pub domain_id: Option<String>,
    /// The name of the project's domain, if it is not the user's. (v3)
    pub tenant_domain: Option<String>,
    /// The id of the project's domain. (v3)
    pub tenant_domain_id: Option<String>,
    /// The trust by which the user acts for another; no project is named then. (v3)
    pub trust_id: Option<String>,
    /// Which of several stores; the first without this.
    pub region: Option<String>,
    /// How to log in: 1, 2 or 3, or 0 to see it in the URL.
    pub auth_version: u8,
    /// The container. It is made if it is not there.
    pub container: String,
    /// A folder in the container under which everything is.
    pub prefix: String,
    /// From where the store is used.
    pub endpoint_type: EndpointType,
    /// Believes any certificate.
    pub insecure_skip_verify: bool,
    /// What signs URLs; the container is told. Without one: what the container has been told, if
    /// anything.
    pub secret_key: Option<String>,
    /// The name of the key that signs URLs, for stores that want it in them.
    pub access_key: Option<String>,
    /// Whether the container has a key of its own, or only the account, where the store does not
    /// tell.
    pub temp_url_container_key: bool,
    /// The methods for which URLs can be signed, where the store does not tell.
    pub temp_url_methods: Vec<String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("username", &self.username)
            .field("auth_url", &self.auth_url)
            .field("container", &self.container)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Which of a store's addresses is used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EndpointType {
    /// That for everybody.
    #[default]
    Public,
    /// That inside the provider's network.
    Internal,
    /// That for operators.
    Admin,
}

/// Opens a container. Nothing is asked of it yet. `watch` hears of all that is asked later.
pub fn open(config: &Config, watch: Watch) -> Result<Arc<dyn Objects>, Error> {
    let trust = Trust { authorities: None, anybody: config.insecure_skip_verify };
    let sender = Sender::new(&trust, watch).map_err(|error| {
        let context = format!("use the container {}", config.container);
        Error::new(ErrorKind::Other, context, error.to_string())
    })?;
    // As registry:2 puts it together.
    let folder = |name| format!("{}/{name}/", config.prefix).trim_start_matches('/').to_owned();
    Ok(Arc::new(Swift {
        files: folder("files"),
        segments: folder("segments"),
        attempts: folder("attempts"),
        container: Container::new(config, sender)?,
        signing: OnceCell::new(),
        config: config.clone(),
    }))
}

/// A container, or a folder in it.
#[derive(Debug)]
struct Swift {
    container: Container,
    /// Where objects lie.
    files: String,
    /// Where the parts of objects lie.
    segments: String,
    /// Where it is marked that an object is being written in parts.
    attempts: String,
    signing: OnceCell<Option<Signing>>,
    config: Config,
}

impl Swift {
    fn ask(&self, method: Method, action: &str, key: &str) -> Ask {
        Ask::new(method, format!("{action} object {key}"), format!("{}{key}", self.files))
    }

    async fn put_object(&self, ask: Ask, content: Vec<Bytes>) -> Result<(), Error> {
        let ask = ask.header(CONTENT_TYPE, OCTETS).content(content);
        self.container.done(&ask).await?;
        Ok(())
    }

    /// Removes an object, and what it consists of.
    async fn delete_object(&self, key: &str) -> Result<(), Error> {
        let head = self.ask(Method::HEAD, "delete", key);
        let Some(answer) = self.container.head(&head).await? else { return Ok(()) };
        let ask = self.ask(Method::DELETE, "delete", key);
        let is_large = |name| answer.header(&HeaderName::from_static(name));
        if is_large("x-static-large-object").is_some() {
            return self.delete_large(ask).await;
        }
        if let Some(manifest) = is_large("x-object-manifest") {
            self.delete_segments_of(manifest).await?;
        }
        self.container.removed(&ask).await
    }

    async fn list_page(
        &self,
        prefix: &str,
        folders: bool,
        page: Option<String>,
    ) -> Result<Page, Error> {
        let full = format!("{}{prefix}", self.files);
        let found = self.container.list(&full, folders, page).await?;
        let mut page = Page { next: found.next, ..Page::default() };
        for entry in found.entries {
            match entry {
                Entry::Object { name, bytes, last_modified } => {
                    let Some(key) = name.strip_prefix(&self.files) else { continue };
                    let modified = time(&last_modified).unwrap_or_default();
                    let found = Found { size: bytes, modified: modified.into() };
                    page.objects.push((key.to_owned(), found));
                }
                Entry::Folder { subdir } => {
                    let Some(folder) = subdir.strip_prefix(&self.files) else { continue };
                    page.folders.push(folder.strip_suffix('/').unwrap_or(folder).to_owned());
                }
            }
        }
        Ok(page)
    }

    async fn sign(
        &self,
        method: &Method,
        key: &str,
        valid: Duration,
    ) -> Result<Option<String>, Error> {
        let found = || Signing::find(&self.config, &self.container);
        let Some(signing) = self.signing.get_or_try_init(found).await? else { return Ok(None) };
        let url = self.container.public_url(&format!("{}{key}", self.files)).await?;
        let ends = Timestamp::now().as_second().saturating_add_unsigned(valid.as_secs());
        Ok(signing.url(method, &url, ends))
    }
}

impl Objects for Swift {
    fn part_rules(&self) -> PartRules {
        RULES
    }

    fn put<'a>(&'a self, key: &'a str, content: Vec<Bytes>) -> Future<'a, Result<(), Error>> {
        Box::pin(self.put_object(self.ask(Method::PUT, "put", key), content))
    }

    fn get<'a>(&'a self, key: &'a str, start: u64, end: u64) -> Future<'a, Result<Opened, Error>> {
        Box::pin(async move {
            let ask = self.ask(Method::GET, "get", key).range(start, end)?;
            ask.opened(self.container.send(&ask).await?)
        })
    }

    fn find<'a>(&'a self, key: &'a str) -> Future<'a, Result<Option<Found>, Error>> {
        Box::pin(async move {
            let ask = self.ask(Method::HEAD, "look up", key);
            ask.found(&self.container.send(&ask).await?)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(self.delete_object(key))
    }

    /// An object that registry:2 wrote in segments has zero bytes here.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        folders: bool,
        page: Option<String>,
    ) -> Future<'a, Result<Page, Error>> {
        Box::pin(self.list_page(prefix, folders, page))
    }

    fn begin<'a>(&'a self, key: &'a str) -> Future<'a, Result<String, Error>> {
        Box::pin(self.begin_large(key))
    }

    fn part<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        number: usize,
        _offset: u64,
        content: Vec<Bytes>,
    ) -> Future<'a, Result<String, Error>> {
        Box::pin(self.put_segment(key, attempt, number, content))
    }

    fn complete<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(self.complete_large(key, attempt, parts, last))
    }

    fn abort<'a>(&'a self, key: &'a str, attempt: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(self.abort_large(key, attempt))
    }

    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        Box::pin(self.list_attempts(prefix))
    }

    fn signed_url<'a>(
        &'a self,
        method: Method,
        key: &'a str,
        valid: Duration,
    ) -> Future<'a, Result<Option<String>, Error>> {
        Box::pin(async move {
            self.sign(&method, key, valid).await.or_else(|error| {
                // Nobody has to have such a URL.
                tracing::warn!(%error, "no signed URL");
                Ok(None)
            })
        })
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A time, which Swift and Keystone often write without saying that it is UTC.
fn time(text: &str) -> Option<Timestamp> {
    let in_utc = |text: &str| {
        let time = text.parse::<DateTime>().ok()?;
        Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    text.parse().ok().or_else(|| in_utc(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_utc() {
        let expected = Some(1_767_323_045);
        for text in ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05", "2026-01-02T03:04:05.000000"] {
            assert_eq!(time(text).map(Timestamp::as_second), expected, "{text}");
        }
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = Config {
            auth_url: "http://127.0.0.1:1/v3".to_owned(),
            password: "hidden".to_owned(),
            secret_key: Some("hidden".to_owned()),
            access_key: Some("hidden".to_owned()),
            ..Config::default()
        };
        let shown = format!("{config:?} {:?}", open(&config, Watch::default()).unwrap());
        assert!(shown.contains("/v3") && !shown.contains("hidden"), "{shown}");
    }
}
