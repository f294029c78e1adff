//! The stores that the cloud library speaks to, as [`Objects`].

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use ::http::Method;
use bytes::Bytes;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    Attributes, BackoffConfig, GetOptions, GetRange, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, RetryConfig,
};

use crate::{Attempt, Error, ErrorKind, Found, Future, Objects, Opened, Page, PartRules};

/// What the library offers for a store.
pub(crate) trait Library:
    ObjectStore + MultipartStore + PaginatedListStore + Signer + Debug
{
}

impl<T: ObjectStore + MultipartStore + PaginatedListStore + Signer + Debug> Library for T {}

/// What the library does not have, or not in the same way for all.
pub(crate) trait Rest: Send + Sync + 'static {
    /// As [`Objects::attempts`]; keys are those of the bucket.
    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>>;

    /// Removes an object. No error if there is none.
    fn delete<'a>(
        &'a self,
        library: &'a dyn Library,
        path: &'a Path,
        key: &'a str,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            match library.delete(path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed("delete", key, &error)),
            }
        })
    }

    /// Gives an attempt up. No error if there is none.
    fn abort<'a>(&'a self, path: &'a Path, attempt: &'a str) -> Future<'a, Result<(), Error>>;

    /// Whether an attempt can not be completed because it was aborted or completed before.
    fn is_over(&self, error: &object_store::Error) -> bool {
        matches!(error, object_store::Error::NotFound { .. })
    }

    /// Who signs a URL.
    fn sign(&self, method: Method, key: &Path, valid: Duration) -> Signing {
        let _ = (key, valid);
        Signing::Library(method)
    }
}

/// Who signs a URL.
pub(crate) enum Signing {
    /// The credentials can not sign.
    Nobody,
    /// The library, for this method.
    Library(Method),
    /// It was done.
    Done(String),
}

/// A store of the library.
pub(crate) struct Cloud<L, R> {
    pub(crate) library: L,
    /// What makes URLs, if they have another host.
    pub(crate) signer: Option<L>,
    pub(crate) rest: R,
    /// Before every key: nothing, or a folder with a slash at its end.
    pub(crate) root: String,
    pub(crate) rules: PartRules,
    /// What every object is given.
    pub(crate) attributes: Attributes,
}

/// How often and how long a request is repeated: about ten seconds where it fails at once, in which
/// a store can be started again. Pauses are random, at most six times as long as the one before.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 6.0,
        },
        max_retries: 8,
        retry_timeout: Duration::from_mins(1),
    }
}

/// A folder in a bucket, as it stands before a key.
pub(crate) fn root(folder: &str) -> String {
    match folder.trim_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    }
}

/// The library shows keys, so it is not shown.
impl<L, R> Debug for Cloud<L, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<L: Library, R: Rest> Cloud<L, R> {
    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}{key}", self.root))
    }

    fn key(&self, path: &str) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }
}

impl<L: Library, R: Rest> Objects for Cloud<L, R> {
    fn part_rules(&self) -> PartRules {
        self.rules
    }

    fn put<'a>(&'a self, key: &'a str, content: Vec<Bytes>) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let options =
                PutOptions { attributes: self.attributes.clone(), ..PutOptions::default() };
            let content = content.into_iter().collect::<PutPayload>();
            let put = self.library.put_opts(&self.path(key), content, options).await;
            put.map_err(|error| failed("put", key, &error))?;
            Ok(())
        })
    }

    fn get<'a>(&'a self, key: &'a str, start: u64, end: u64) -> Future<'a, Result<Opened, Error>> {
        Box::pin(async move {
            let range = (start > 0 || end < u64::MAX).then_some(match end {
                u64::MAX => GetRange::Offset(start),
                end => GetRange::Bounded(start..end),
            });
            let options = GetOptions { range, ..GetOptions::default() };
            let opened = self.library.get_opts(&self.path(key), options).await;
            let opened = opened.map_err(|error| failed("get", key, &error))?;
            let size = opened.meta.size;
            let modified = SystemTime::from(opened.meta.last_modified);
            let bytes =
                Renamed { bytes: opened.into_stream(), context: format!("read object {key}") };
            Ok(Opened { size, modified, bytes: Box::pin(bytes) })
        })
    }

    fn find<'a>(&'a self, key: &'a str) -> Future<'a, Result<Option<Found>, Error>> {
        Box::pin(async move {
            match self.library.head(&self.path(key)).await {
                Ok(found) => Ok(Some(Found {
                    size: found.size,
                    modified: SystemTime::from(found.last_modified),
                })),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(failed("look up", key, &error)),
            }
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(async move { self.rest.delete(&self.library, &self.path(key), key).await })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        folders: bool,
        page: Option<String>,
    ) -> Future<'a, Result<Page, Error>> {
        Box::pin(async move {
            let options = PaginatedListOptions {
                delimiter: folders.then(|| "/".into()),
                page_token: page,
                ..PaginatedListOptions::default()
            };
            let full = format!("{}{prefix}", self.root);
            let listed = self.library.list_paginated(Some(&full), options).await;
            let listed = listed.map_err(|error| failed("list", prefix, &error))?;
            let objects = listed.result.objects.into_iter().map(|found| {
                let modified = SystemTime::from(found.last_modified);
                (self.key(found.location.as_ref()), Found { size: found.size, modified })
            });
            let folders = listed.result.common_prefixes;
            Ok(Page {
                objects: objects.collect(),
                folders: folders.iter().map(|folder| self.key(folder.as_ref())).collect(),
                next: listed.page_token,
            })
        })
    }

    fn begin<'a>(&'a self, key: &'a str) -> Future<'a, Result<String, Error>> {
        Box::pin(async move {
            let options = PutMultipartOptions {
                attributes: self.attributes.clone(),
                ..PutMultipartOptions::default()
            };
            let begun = self.library.create_multipart_opts(&self.path(key), options).await;
            begun.map_err(|error| failed("begin", key, &error))
        })
    }

    fn part<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        number: usize,
        _offset: u64,
        content: Vec<Bytes>,
    ) -> Future<'a, Result<String, Error>> {
        Box::pin(async move {
            let attempt = attempt.to_owned();
            let content = content.into_iter().collect::<PutPayload>();
            let part = self.library.put_part(&self.path(key), &attempt, number, content).await;
            let part = part.map_err(|error| failed("put a part of", key, &error))?;
            Ok(part.content_id)
        })
    }

    fn complete<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        mut parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            if last.iter().any(|bytes| !bytes.is_empty()) {
                parts.push(self.part(key, attempt, parts.len(), 0, last).await?);
            }
            let attempt = attempt.to_owned();
            let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
            let completed = self.library.complete_multipart(&self.path(key), &attempt, parts).await;
            completed.map_err(|error| match failed("complete", key, &error) {
                failed if self.rest.is_over(&error) => failed.of(ErrorKind::NotFound),
                failed => failed,
            })?;
            Ok(())
        })
    }

    fn abort<'a>(&'a self, key: &'a str, attempt: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(async move { self.rest.abort(&self.path(key), attempt).await })
    }

    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        Box::pin(async move {
            let found = self.rest.attempts(&format!("{}{prefix}", self.root)).await?;
            let keyed = |attempt: Attempt| Attempt { key: self.key(&attempt.key), ..attempt };
            Ok(found.into_iter().map(keyed).collect())
        })
    }

    fn signed_url<'a>(
        &'a self,
        method: Method,
        key: &'a str,
        valid: Duration,
    ) -> Future<'a, Result<Option<String>, Error>> {
        Box::pin(async move {
            let path = self.path(key);
            let method = match self.rest.sign(method, &path, valid) {
                Signing::Nobody => return Ok(None),
                Signing::Done(url) => return Ok(Some(url)),
                Signing::Library(method) => method,
            };
            let signer = self.signer.as_ref().unwrap_or(&self.library);
            match signer.signed_url(method, &path, valid).await {
                Ok(url) => Ok(Some(url.into())),
                // The credentials can not sign, only prove who asks.
                Err(object_store::Error::NotSupported { .. }) => Ok(None),
                // Some ask the store to sign, and may not. Nobody has to have such a URL.
                Err(error) => {
                    tracing::warn!(error = %failed("sign a URL for", key, &error), "no signed URL");
                    Ok(None)
                }
            }
        })
    }
}

/// What the library says, without what it says of itself.
pub(crate) fn failed(action: &str, key: &str, error: &object_store::Error) -> Error {
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => ErrorKind::Denied,
        _ => ErrorKind::Other,
    };
    Error::new(kind, format!("{action} object {key}"), net::client::with_causes(error))
}

/// What the configuration says of a bucket, its keys for example, is nothing that the library
/// could use.
pub(crate) fn unusable(bucket: &str, error: &object_store::Error) -> Error {
    let cause = net::client::with_causes(error);
    Error::new(ErrorKind::Other, format!("use the bucket {bucket}"), cause)
}

/// The library's stream with our errors.
struct Renamed<S> {
    bytes: S,
    context: String,
}

impl<S> futures_core::Stream for Renamed<S>
where
    S: futures_core::Stream<Item = object_store::Result<Bytes>> + Unpin,
{
    type Item = Result<Bytes, Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
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
