//! Google Cloud Storage.

mod api;
mod identity;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use ::http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LAST_MODIFIED, RANGE};
use ::http::{HeaderMap, HeaderValue, Method};
use bytes::Bytes;
use futures_core::Stream;
use net::transport::Trust;
use object_store::client::HttpError;
use object_store::gcp::GoogleCloudStorage;
use object_store::path::Path;
use object_store::signer::Signer;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::cloud::{failed, root};
use crate::http::Connections;
use crate::{Attempt, Error, ErrorKind, Found, Future, Objects, Opened, Page, PartRules, Watch};
use api::{Api, Call, Failure, Resource, encoded};
use identity::Identity;

/// A session takes bytes in their order, in steps of 256 KiB.
const RULES: PartRules = PartRules {
    min_size: 256 << 10,
    step: 256 << 10,
    max_count: usize::MAX,
    at_once: 1,
    are_replaced: false,
};

/// Where the service is.
const SERVICE: &str = "https://storage.googleapis.com";

/// Which bucket, and who is asking for it.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Config {
    /// The bucket. It must exist.
    pub bucket: String,
    /// The file with the key of a service account.
    pub key_file: Option<PathBuf>,
    /// What such a file says, as fields. Without either, who is asking is found out as Google's
    /// programs do: from the file that `GOOGLE_APPLICATION_CREDENTIALS` names, from what `gcloud`
    /// has left, or from the machine.
    pub credentials: BTreeMap<String, String>,
    /// A folder in the bucket under which everything is.
    pub root: String,
    /// How many requests may wait for an answer at once. No limit if this is zero.
    pub max_concurrency: usize,
    /// What the store is told that is asking.
    pub user_agent: Option<String>,
    /// An emulator: `host:port`, or a URL. Nobody has to say to it who is asking. Without one: that
    /// of the environment (`STORAGE_EMULATOR_HOST`), if there is one.
    pub emulator: Option<String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("bucket", &self.bucket)
            .field("key_file", &self.key_file)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// Opens a bucket. Nothing is asked of it yet. `watch` hears of all that is asked later.
pub fn open(config: &Config, watch: Watch) -> Result<Arc<dyn Objects>, Error> {
    let connections = Connections::new(&Trust::default(), watch).map_err(|error| {
        let context = format!("use the bucket {}", config.bucket);
        Error::new(ErrorKind::Other, context, error.to_string())
    })?;
    let emulator = config.emulator.clone().or_else(|| environment("STORAGE_EMULATOR_HOST"));
    match emulator {
        Some(place) => open_as(Identity::none(connections), config, service_at(&place)),
        None => open_as(Identity::find(config, connections)?, config, SERVICE.to_owned()),
    }
}

fn open_as(
    identity: Identity,
    config: &Config,
    service: String,
) -> Result<Arc<dyn Objects>, Error> {
    let user_agent = config.user_agent.as_deref().map(HeaderValue::from_str).transpose();
    let user_agent = user_agent.map_err(|_| {
        let context = format!("use the bucket {}", config.bucket);
        Error::new(ErrorKind::Other, context, "the value of useragent can not be sent")
    })?;
    let slots = (config.max_concurrency > 0)
        .then(|| Arc::new(Semaphore::new(config.max_concurrency.min(Semaphore::MAX_PERMITS))));
    let Identity { connections, credentials, signer } = identity;
    let bucket = config.bucket.clone();
    let api = Api { connections, credentials, service, bucket, user_agent, slots };
    Ok(Arc::new(Gcs { api, signer, root: root(&config.root) }))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn service_at(place: &str) -> String {
    let place = place.trim_end_matches('/');
    if place.contains("://") { place.to_owned() } else { format!("http://{place}") }
}

/// A bucket.
struct Gcs {
    api: Api,
    signer: Option<GoogleCloudStorage>,
    /// Before every key: nothing, or a folder with a slash at its end.
    root: String,
}

/// The library shows keys, so it is not shown.
impl fmt::Debug for Gcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gcs")
            .field("bucket", &self.api.bucket)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// A page of a listing.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Listed {
    items: Vec<Resource>,
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

impl Gcs {
    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    fn key(&self, name: &str) -> String {
        name.strip_prefix(&self.root).unwrap_or(name).to_owned()
    }
}

impl Objects for Gcs {
    fn part_rules(&self) -> PartRules {
        RULES
    }

    fn put<'a>(&'a self, key: &'a str, content: Vec<Bytes>) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let call = Call::new(Method::POST, self.api.upload("media", &self.name(key)))
                .with(CONTENT_TYPE, "application/octet-stream")
                .sending(content);
            let put = self.api.ask::<serde::de::IgnoredAny>(&call).await;
            put.map_err(|failure| failure.of_object("put", key))?;
            Ok(())
        })
    }

    fn get<'a>(&'a self, key: &'a str, start: u64, end: u64) -> Future<'a, Result<Opened, Error>> {
        Box::pin(async move {
            let failed = |failure: Failure| failure.of_object("get", key);
            let url = format!("{}?alt=media", self.api.object(Some(&self.name(key))));
            let mut call = Call::new(Method::GET, url);
            if start > 0 || end < u64::MAX {
                // The last byte that is wanted, not the first that is not.
                let last = match end {
                    u64::MAX => String::new(),
                    end => end.saturating_sub(1).to_string(),
                };
                call = call.with(RANGE, format!("bytes={start}-{last}"));
            }
            let answer = self.api.send(&call).await.map_err(failed)?;
            if !answer.status().is_success() {
                return Err(failed(Failure::of(answer).await));
            }
            let size = whole_size(answer.headers()).ok_or_else(|| {
                let cause = "the answer does not say how large it is";
                Error::new(ErrorKind::Other, format!("get object {key}"), cause)
            })?;
            let modified = modified(answer.headers());
            let bytes = answer.into_body().bytes_stream();
            let bytes = Renamed { bytes, context: format!("read object {key}") };
            Ok(Opened { size, modified, bytes: Box::pin(bytes) })
        })
    }

    fn find<'a>(&'a self, key: &'a str) -> Future<'a, Result<Option<Found>, Error>> {
        Box::pin(async move {
            let Some(found) = session::find(&self.api, &self.name(key)).await? else {
                return Ok(None);
            };
            let found = found.found().map_err(|cause| {
                Error::new(ErrorKind::Other, format!("look up object {key}"), cause)
            })?;
            Ok(Some(found))
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(async move { session::remove(&self.api, &self.name(key)).await })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        folders: bool,
        page: Option<String>,
    ) -> Future<'a, Result<Page, Error>> {
        Box::pin(async move {
            let delimiter = if folders { "&delimiter=%2F" } else { "" };
            let page = page.map(|page| format!("&pageToken={}", encoded(&page)));
            let url = format!(
                "{}?prefix={}{delimiter}{}&fields=prefixes,nextPageToken,items(name,size,updated)",
                self.api.object(None),
                encoded(&self.name(prefix)),
                page.unwrap_or_default(),
            );
            let listed = self.api.ask::<Listed>(&Call::new(Method::GET, url)).await;
            let listed = listed.map_err(|failure| failure.of_object("list", prefix))?;
            let objects = listed.items.iter().map(|item| {
                let found = item.found().map_err(|cause| {
                    Error::new(ErrorKind::Other, format!("list object {prefix}"), cause)
                })?;
                Ok((self.key(&item.name), found))
            });
            let folders = listed.prefixes.iter();
            let folders = folders.map(|folder| self.key(folder.trim_end_matches('/')));
            Ok(Page {
                objects: objects.collect::<Result<_, Error>>()?,
                folders: folders.collect(),
                next: listed.next_page_token.filter(|token| !token.is_empty()),
            })
        })
    }

    fn begin<'a>(&'a self, key: &'a str) -> Future<'a, Result<String, Error>> {
        Box::pin(async move { session::begin(&self.api, &self.name(key)).await })
    }

    fn part<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        _number: usize,
        offset: u64,
        content: Vec<Bytes>,
    ) -> Future<'a, Result<String, Error>> {
        Box::pin(async move {
            session::write(&self.api, &self.name(key), attempt, offset, &content).await
        })
    }

    fn complete<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            session::complete(&self.api, &self.name(key), attempt, &parts, &last).await
        })
    }

    fn abort<'a>(&'a self, key: &'a str, attempt: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(async move { session::abort(&self.api, &self.name(key), attempt).await })
    }

    fn attempts<'a>(&'a self, _prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn signed_url<'a>(
        &'a self,
        method: Method,
        key: &'a str,
        valid: Duration,
    ) -> Future<'a, Result<Option<String>, Error>> {
        Box::pin(async move {
            let Some(signer) = &self.signer else { return Ok(None) };
            match signer.signed_url(method, &Path::from(self.name(key)), valid).await {
                Ok(url) => Ok(Some(url.into())),
                // Who has no key asks the service to sign, and may not. Nobody has to have such a
                // URL.
                Err(error) => {
                    tracing::warn!(error = %failed("sign a URL for", key, &error), "no signed URL");
                    Ok(None)
                }
            }
        })
    }
}

/// The size of an object of which all or a part is sent.
fn whole_size(headers: &HeaderMap) -> Option<u64> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match text(CONTENT_RANGE) {
        Some(range) => range.rsplit_once('/')?.1.parse().ok(),
        None => text(CONTENT_LENGTH)?.parse().ok(),
    }
}

fn modified(headers: &HeaderMap) -> SystemTime {
    let text = headers.get(LAST_MODIFIED).and_then(|value| value.to_str().ok());
    let time = text.and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    time.map_or_else(SystemTime::now, |time| SystemTime::from(time.timestamp()))
}

/// The library's stream with our errors.
struct Renamed<S> {
    bytes: S,
    context: String,
}

impl<S: Stream<Item = Result<Bytes, HttpError>> + Unpin> Stream for Renamed<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        std::pin::Pin::new(&mut this.bytes).poll_next(context).map(|next| {
            next.map(|bytes| {
                bytes.map_err(|error| {
                    let cause = net::client::with_causes(&error);
                    Error::new(ErrorKind::Other, this.context.clone(), cause)
                })
            })
        })
    }
}
