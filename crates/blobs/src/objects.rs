//! Bytes in an object store.
//!
//! Content that is known in full before it is written lies at the layout's key. All else lies under
//! `orlop/blobs/`, where it was written while it arrived, and stays there: the database says where
//! it is, so nothing is copied when an upload ends. A key is used for one attempt only, so that
//! two writers can never spoil each other's bytes.

mod content;
mod copy;
mod links;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use objects::{Objects, PartRules};
use oci::Digest;

use crate::links::Links;
use crate::{
    Blobs, Content, Error, ErrorKind, Future, Located, LocatedPage, Resumed, Stored, Upload,
    UploadId, layout,
};

pub use content::ObjectContent;
use content::read_small;
use upload::{ObjectUpload, State};

/// How long a URL is good that a client is sent to.
const URL_LIFETIME: Duration = Duration::from_mins(20);

/// What [`Blobs::check_writable`] writes.
const PROBE: &str = "orlop/probe";

/// Which database the store belongs to.
const OWNER: &str = "orlop/owner";

/// Content that was written while it arrived.
const ARRIVED: &str = "orlop/blobs/";

/// A store in a bucket of an object store.
#[derive(Clone, Debug)]
pub struct ObjectStore {
    objects: Arc<dyn Objects>,
    part_size: usize,
    /// Whether it was written to once: then it is enough that it answers.
    was_written: Arc<AtomicBool>,
}

impl ObjectStore {
    /// The store in a bucket. What is larger than `part_size` bytes is written in parts of that
    /// size; an upload has up to three of them in memory.
    pub fn new(objects: Arc<dyn Objects>, part_size: usize) -> Self {
        let PartRules { min_size, step, .. } = objects.part_rules();
        let part_size = part_size.max(min_size).max(1).next_multiple_of(step);
        Self { objects, part_size, was_written: Arc::default() }
    }

    /// A key that nobody has used.
    fn fresh_key(upload: UploadId) -> String {
        format!("{ARRIVED}{upload}/{}", UploadId::now_v7().simple())
    }
}

/// The key of content.
fn key<'a>(digest: &Digest, location: Option<&'a str>) -> std::borrow::Cow<'a, str> {
    location.map_or_else(|| layout::data_key(digest).into(), Into::into)
}

/// The upload that a key of [`ObjectStore::fresh_key`] was made for.
fn upload_of(key: &str) -> Option<UploadId> {
    let (upload, _) = key.strip_prefix(ARRIVED)?.split_once('/')?;
    upload.parse().ok()
}

impl Blobs for ObjectStore {
    fn begin(&self, upload: UploadId) -> Future<'_, Result<Box<dyn Upload>, Error>> {
        let upload = ObjectUpload::new(self.clone(), upload);
        Box::pin(std::future::ready(Ok(Box::new(upload) as Box<dyn Upload>)))
    }

    fn resume<'a>(
        &'a self,
        upload: UploadId,
        received: u64,
        state: &'a str,
    ) -> Future<'a, Result<Resumed, Error>> {
        let resumed = State::parse(state).filter(|state| state.size() == received);
        let resumed = resumed.map(|state| ObjectUpload::resume(self.clone(), upload, state));
        Box::pin(std::future::ready(match resumed {
            Some(upload) => Ok(Resumed::Whole(Box::new(upload))),
            None => Err(Error::not_found(format!("resume upload {upload}"))),
        }))
    }

    fn read_upload(&self, upload: UploadId, _offset: u64) -> Future<'_, Result<Bytes, Error>> {
        let context = format!("read upload {upload}");
        let cause = "parts of an object can not be read before it is complete";
        Box::pin(std::future::ready(Err(Error::of(ErrorKind::Unsupported, context, cause))))
    }

    fn abort<'a>(
        &'a self,
        upload: UploadId,
        state: Option<&'a str>,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            if let Some(state) = state.and_then(State::parse) {
                state.discard(&*self.objects).await?;
            }
            // What was begun and never saved. Objects stay: one may have become content.
            for attempt in self.objects.attempts(&format!("{ARRIVED}{upload}/")).await? {
                self.objects.abort(&attempt.key, &attempt.name).await?;
            }
            Ok(())
        })
    }

    fn stale_uploads(&self, age_seconds: u64) -> Future<'_, Result<Vec<UploadId>, Error>> {
        Box::pin(async move {
            let limit = SystemTime::now().checked_sub(Duration::from_secs(age_seconds));
            let attempts = self.objects.attempts(ARRIVED).await?;
            let stale = attempts
                .into_iter()
                .filter(|attempt| limit.is_some_and(|limit| attempt.begun <= limit))
                .filter_map(|attempt| upload_of(&attempt.key));
            let mut stale = stale.collect::<Vec<_>>();
            stale.sort_unstable();
            stale.dedup();
            Ok(stale)
        })
    }

    fn put<'a>(&'a self, digest: &'a Digest, content: Bytes) -> Future<'a, Result<Stored, Error>> {
        Box::pin(async move {
            self.objects.put(&layout::data_key(digest), vec![content]).await.map_err(writing)?;
            Ok(Stored::default())
        })
    }

    fn restore<'a>(
        &'a self,
        digest: &'a Digest,
        content: Bytes,
    ) -> Future<'a, Result<Stored, Error>> {
        self.put(digest, content)
    }

    fn sync(&self) -> Future<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn settle<'a>(&'a self, digest: &'a Digest) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            match self.size(digest, None).await? {
                Some(_) => Ok(()),
                None => Err(Error::not_found(format!("look up {digest}"))),
            }
        })
    }

    fn size<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<Option<u64>, Error>> {
        Box::pin(async move {
            let found = self.objects.find(&key(digest, location)).await?;
            Ok(found.map(|found| found.size))
        })
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
        size: u64,
    ) -> Future<'a, Result<Content, Error>> {
        let objects = Arc::clone(&self.objects);
        let content =
            ObjectContent::new(objects, key(digest, location).into_owned(), *digest, size);
        Box::pin(std::future::ready(Ok(Content::Object(content))))
    }

    fn url<'a>(
        &'a self,
        method: Method,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<Option<String>, Error>> {
        Box::pin(async move {
            let key = key(digest, location);
            Ok(self.objects.signed_url(method, &key, URL_LIFETIME).await?)
        })
    }

    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        location: Option<&'a str>,
    ) -> Future<'a, Result<bool, Error>> {
        Box::pin(async move {
            let key = key(digest, location);
            if self.objects.find(&key).await?.is_none() {
                return Ok(false);
            }
            self.objects.delete(&key).await.map_err(writing)?;
            Ok(true)
        })
    }

    fn list_shard(&self, shard: u8) -> Future<'_, Result<Vec<Digest>, Error>> {
        Box::pin(async move {
            let prefix = layout::shard_key(shard);
            let found = objects::list_all(&*self.objects, &prefix, false).await?;
            let digests = found.objects.iter().filter_map(|(key, _)| {
                let hex = key.strip_prefix(&prefix)?.strip_suffix("/data")?;
                format!("sha256:{hex}").parse().ok()
            });
            Ok(digests.collect())
        })
    }

    fn list_located(&self, page: Option<String>) -> Future<'_, Result<LocatedPage, Error>> {
        Box::pin(async move {
            let page = self.objects.list(ARRIVED, false, page).await?;
            let found = page.objects.into_iter().filter_map(|(location, found)| {
                Some(Located { upload: upload_of(&location)?, location, size: found.size })
            });
            Ok(LocatedPage { found: found.collect(), next: page.next })
        })
    }

    fn copy_to_layout<'a>(
        &'a self,
        digest: &'a Digest,
        location: &'a str,
        size: u64,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let to = layout::data_key(digest);
            copy::copy(&self.objects, digest, location, &to, size, self.part_size).await
        })
    }

    fn discard<'a>(&'a self, location: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(async move { self.objects.delete(location).await.map_err(writing) })
    }

    fn owner(&self) -> Future<'_, Result<Option<String>, Error>> {
        Box::pin(async move {
            match read_small(&*self.objects, OWNER, 1024).await {
                Ok((owner, _)) => Ok(Some(String::from_utf8_lossy(&owner).trim().to_owned())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn set_owner<'a>(&'a self, id: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let content = vec![Bytes::copy_from_slice(id.as_bytes())];
            self.objects.put(OWNER, content).await.map_err(writing)
        })
    }

    fn links(&self) -> Option<&dyn Links> {
        Some(self)
    }

    fn is_replicated(&self) -> bool {
        true
    }

    fn check_writable(&self) -> Future<'_, Result<(), Error>> {
        Box::pin(async move {
            if self.was_written.load(Ordering::Relaxed) {
                self.objects.find(OWNER).await?;
                return Ok(());
            }
            let content = vec![Bytes::from_static(b"probe")];
            self.objects.put(PROBE, content).await.map_err(writing)?;
            self.objects.delete(PROBE).await.map_err(writing)?;
            self.was_written.store(true, Ordering::Relaxed);
            Ok(())
        })
    }
}

/// A store that refuses to be written to is as good as one that can not be.
fn writing(error: objects::Error) -> Error {
    let kind = match error.kind() {
        objects::ErrorKind::Denied => ErrorKind::ReadOnly,
        _ => return error.into(),
    };
    Error::of(kind, error.context().to_owned(), error.cause())
}
