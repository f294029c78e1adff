//! Content of an object store on its way out.
//!
//! A store may be slow, break off in the middle, or be wrong. What is slow is asked a second time,
//! what breaks off is gone on with where it did. What is read as a whole is compared with its
//! digest: small content before any of it leaves, large content before its last bytes leave.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use objects::{ByteStream, Objects, Opened};
use oci::{Digest, Hasher};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{Buffer, Error, ErrorKind};

/// After this time without an answer the same is asked a second time, and whichever answer comes
/// first is taken: of many stores one is slow now and then.
const HEDGE: Duration = Duration::from_millis(750);

/// What is not larger is read as a whole before any of it leaves.
const SMALL: u64 = Buffer::SIZE as u64;

/// An object, or a part of it, that can be read once from its start to its end without asking
/// for it again.
#[derive(Clone)]
pub struct ObjectContent {
    objects: Arc<dyn Objects>,
    key: Arc<str>,
    /// What all of it has.
    digest: Digest,
    size: u64,
    /// Where reading will end.
    end: u64,
    reading: Arc<Mutex<Option<Reading>>>,
}

/// Bytes that are arriving.
struct Reading {
    /// Where in the object the next ones belong.
    offset: u64,
    /// What has arrived.
    here: Bytes,
    /// What comes after that.
    bytes: ByteStream,
    /// Knows all that has arrived, if that is the object from its start and will be all of it.
    hasher: Option<Hasher>,
}

impl std::fmt::Debug for ObjectContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectContent").field("key", &self.key).finish_non_exhaustive()
    }
}

impl ObjectContent {
    pub(super) fn new(objects: Arc<dyn Objects>, key: String, digest: Digest, size: u64) -> Self {
        Self { objects, key: key.into(), digest, size, end: size, reading: Arc::default() }
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
            *reading = Some(self.start(offset).await?);
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
            None => self.start(offset).await?,
        };
        if reading.here.is_empty() {
            reading.here = self.go_on(&mut reading).await?;
            self.verify(&mut reading)?;
        }
        let part = reading.here.split_to(limit.min(reading.here.len()));
        reading.offset += part.len() as u64;
        *kept = Some(reading);
        Ok(part)
    }

    /// Reads all of it, to see that it is what it should be.
    pub(super) async fn check(&self) -> Result<(), Error> {
        self.begin(0).await?;
        let mut offset = 0;
        while offset < self.size {
            offset += self.read(offset, usize::MAX).await?.len() as u64;
        }
        Ok(())
    }

    /// The bytes from `offset`.
    async fn start(&self, offset: u64) -> Result<Reading, Error> {
        let mut tries = Tries::new();
        loop {
            let started = match self.ask(offset).await {
                Ok(bytes) => self.open(offset, bytes).await,
                Err(error) => Err(error),
            };
            match started {
                Ok(reading) => return Ok(reading),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// What is small is looked at, so that it can be asked for again.
    async fn open(&self, offset: u64, bytes: ByteStream) -> Result<Reading, Error> {
        let is_whole = offset == 0 && self.end == self.size;
        let hasher = is_whole.then(|| Hasher::new(None));
        let mut reading = Reading { offset, here: Bytes::new(), bytes, hasher };
        if is_whole && self.size <= SMALL {
            let mut all = BytesMut::new();
            while (all.len() as u64) < self.size {
                all.extend_from_slice(&self.next(&mut reading, all.len() as u64).await?);
            }
            reading.here = all.freeze();
            self.verify(&mut reading)?;
        }
        Ok(reading)
    }

    /// The next bytes to arrive, also if the store breaks off before they do.
    async fn go_on(&self, reading: &mut Reading) -> Result<Bytes, Error> {
        let mut tries = Tries::new();
        let offset = reading.offset;
        loop {
            match self.next(reading, offset).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => tries.again(error).await?,
            }
            reading.bytes = self.ask(offset).await?;
        }
    }

    /// The next bytes to arrive, which belong at `offset`.
    async fn next(&self, reading: &mut Reading, offset: u64) -> Result<Bytes, Error> {
        loop {
            let next = poll_fn(|context| reading.bytes.as_mut().poll_next(context)).await;
            let bytes =
                next.ok_or_else(|| self.odd(&format!("it ended after {offset} bytes")))??;
            if bytes.len() as u64 > self.end.saturating_sub(offset) {
                return Err(self.odd("more bytes came than were asked for"));
            }
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }

    /// Looks at what has arrived, and at its end whether it is what was stored.
    fn verify(&self, reading: &mut Reading) -> Result<(), Error> {
        let Some(hasher) = &mut reading.hasher else { return Ok(()) };
        hasher.update(&reading.here);
        if hasher.len() < self.size {
            return Ok(());
        }
        let found = reading.hasher.take().map(|hasher| hasher.finish().sha256);
        if found == Some(self.digest) {
            return Ok(());
        }
        Err(self.odd(&format!("expected {}, found other bytes", self.digest)))
    }

    async fn ask(&self, offset: u64) -> Result<ByteStream, Error> {
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
        Ok(bytes)
    }

    /// What is there is not what was stored.
    fn odd(&self, cause: &str) -> Error {
        Error::of(ErrorKind::Damaged, format!("read object {}", self.key), cause)
    }
}

/// How often the same bytes are asked for. Whoever asks a store has repeated what failed; this is
/// for answers that only a second look shows to be wrong, and for those that broke off.
struct Tries {
    left: usize,
    end: Instant,
}

impl Tries {
    fn new() -> Self {
        Self { left: 2, end: Instant::now() + Duration::from_secs(10) }
    }

    /// Waits a moment for the next try. After the last one the error stands.
    async fn again(&mut self, error: Error) -> Result<(), Error> {
        if self.left == 0 || Instant::now() > self.end {
            return Err(error);
        }
        self.left -= 1;
        tracing::info!(%error, "an object is asked for again");
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
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
