//! Content of an object store on its way out.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use objects::{ByteStream, Objects, Opened};
use oci::{Digest, Hasher};
use tokio::sync::Mutex;

use crate::{Error, ErrorKind};

/// After this time without an answer the same is asked a second time, and whichever answer comes
/// first is taken: of many stores one is slow now and then.
const HEDGE: Duration = Duration::from_millis(750);

/// An object, or a part of it, that can be read once from its start to its end without asking
/// for it again.
#[derive(Clone)]
pub struct ObjectContent {
    objects: Arc<dyn Objects>,
    key: Arc<str>,
    size: u64,
    /// Where reading will end.
    end: u64,
    reading: Arc<Mutex<Option<Reading>>>,
}

/// Bytes that are arriving.
struct Reading {
    /// Where in the object the next ones belong.
    offset: u64,
    bytes: ByteStream,
    /// What has arrived.
    here: Bytes,
}

impl std::fmt::Debug for ObjectContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectContent").field("key", &self.key).finish_non_exhaustive()
    }
}

impl ObjectContent {
    pub(super) fn new(objects: Arc<dyn Objects>, key: String, size: u64) -> Self {
        Self { objects, key: key.into(), size, end: size, reading: Arc::default() }
    }

    /// Bytes that it should have.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The same, when no more than `length` bytes from `offset` are wanted of it.
    pub(crate) fn part(&self, offset: u64, length: u64) -> Self {
        let end = self.size.min(offset.saturating_add(length));
        Self { end, reading: Arc::default(), ..self.clone() }
    }

    /// Asks for the bytes from `offset`.
    pub(crate) async fn begin(&self, offset: u64) -> Result<(), Error> {
        let mut reading = self.reading.lock().await;
        if offset < self.end {
            *reading = Some(self.ask(offset).await?);
        } else if self.objects.find(&self.key).await?.is_none() {
            return Err(Error::not_found(format!("open {}", self.key)));
        }
        Ok(())
    }

    pub(crate) async fn read(&self, offset: u64, limit: usize) -> Result<Bytes, Error> {
        if offset >= self.end || limit == 0 {
            return Ok(Bytes::new());
        }
        let mut kept = self.reading.lock().await;
        let mut reading = match kept.take().filter(|reading| reading.offset == offset) {
            Some(reading) => reading,
            None => self.ask(offset).await?,
        };
        while reading.here.is_empty() {
            match poll_fn(|context| reading.bytes.as_mut().poll_next(context)).await {
                Some(bytes) => reading.here = bytes?,
                None => return Err(self.odd(&format!("it ended after {offset} bytes"))),
            }
        }
        let part = reading.here.split_to(limit.min(reading.here.len()));
        reading.offset += part.len() as u64;
        *kept = Some(reading);
        Ok(part)
    }

    /// The digest of all of it.
    pub(super) async fn hash(&self) -> Result<Digest, Error> {
        let mut hasher = Hasher::new(None);
        while hasher.len() < self.size {
            hasher.update(&self.read(hasher.len(), usize::MAX).await?);
        }
        Ok(hasher.finish().sha256)
    }

    async fn ask(&self, offset: u64) -> Result<Reading, Error> {
        let get = || self.objects.get(&self.key, offset, self.end);
        let mut first = get();
        let opened = tokio::select! {
            opened = &mut first => opened,
            () = tokio::time::sleep(HEDGE) => {
                let second = get();
                tokio::select! {
                    opened = first => opened,
                    opened = second => opened,
                }
            }
        };
        let Opened { size, bytes, .. } = opened?;
        if size != self.size {
            return Err(self.odd(&format!("expected {} bytes, found {size}", self.size)));
        }
        Ok(Reading { offset, bytes, here: Bytes::new() })
    }

    /// What is there is not what was stored: as good as nothing.
    fn odd(&self, cause: &str) -> Error {
        Error::of(ErrorKind::NotFound, format!("read object {}", self.key), cause)
    }
}

/// All of an object, and when it was written, if it has no more than `limit` bytes.
pub(super) async fn read_small(
    objects: &dyn Objects,
    key: &str,
    limit: u64,
) -> Result<(Vec<u8>, SystemTime), Error> {
    let Opened { size, modified, mut bytes } = objects.get(key, 0, u64::MAX).await?;
    let context = || format!("read object {key}");
    if size > limit {
        let cause = format!("expected at most {limit} bytes, found {size}");
        return Err(Error::of(ErrorKind::Other, context(), cause));
    }
    let mut all = Vec::new();
    while let Some(next) = poll_fn(|context| bytes.as_mut().poll_next(context)).await {
        all.extend_from_slice(&next?);
    }
    if all.len() as u64 != size {
        let cause = format!("expected {size} bytes, found {}", all.len());
        return Err(Error::of(ErrorKind::Other, context(), cause));
    }
    Ok((all, modified))
}
