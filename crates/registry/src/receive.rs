//! Bytes on their way in: hashed and stored while they arrive.
//!
//! What comes is gathered into buffers of 256 KiB. While one fills, the one before it is hashed on
//! one thread and written on another. So an upload holds two of them in memory whatever its size,
//! and no byte is read twice.

use std::pin::Pin;

use blobs::{Buffer, Error as BlobError, Future, Upload};
use bytes::{Buf, Bytes};
use futures_core::Stream;
use oci::Hasher;
use tokio::task::JoinHandle;

use crate::Error;

/// Below this, hashing takes less time than handing it to another thread.
const SMALL: usize = 32 << 10;

/// After this many bytes an upload's progress is worth saving.
const CHECKPOINT_BYTES: u64 = 32 << 20;

/// The bytes of a request.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, Interrupted>> + Send>>;

/// The request ended before its bytes did.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

/// Why [`Receiver::receive`] came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Received {
    /// A good moment to save the progress; then go on.
    Checkpoint,
    /// The request is complete.
    All,
    /// The client went away.
    Interrupted,
}

/// Takes in the bytes of one upload.
pub(crate) struct Receiver {
    upload: Box<dyn Upload>,
    hasher: Hasher,
    /// What came with bytes that were taken in, but had no room beside them.
    rest: Bytes,
}

impl Receiver {
    /// Goes on with an upload, whose bytes so far `hasher` has seen.
    pub(crate) fn new(upload: Box<dyn Upload>, hasher: Hasher) -> Self {
        Self { upload, hasher, rest: Bytes::new() }
    }

    /// Bytes received, in this request and before it.
    pub(crate) fn received(&self) -> u64 {
        self.hasher.len()
    }

    /// Lets what was received survive the death of this process.
    pub(crate) async fn flush(self) -> Result<Self, Error> {
        Ok(Self { upload: self.upload.flush().await?, ..self })
    }

    /// What has to be saved to go on from here later, after a [`Self::flush`].
    pub(crate) fn progress(&self) -> metadata::uploads::Upload {
        metadata::uploads::Upload {
            received: self.received(),
            hash_state: self.hasher.save(),
            store_state: self.upload.state(),
            store_id: String::new(),
        }
    }

    /// Takes in bytes that are there already.
    pub(crate) async fn add(self, bytes: Bytes) -> Result<Self, Error> {
        self.start(bytes).finish().await
    }

    /// The upload and the hash of all its bytes.
    pub(crate) fn into_parts(self) -> (Box<dyn Upload>, Hasher) {
        (self.upload, self.hasher)
    }

    /// Takes in what comes until there is a reason to come back. All that came before the reason
    /// is hashed and stored then.
    pub(crate) async fn receive(mut self, chunks: &mut Chunks) -> Result<(Self, Received), Error> {
        let goal = self.received() + CHECKPOINT_BYTES;
        let mut expected = self.received();
        let mut rest = std::mem::take(&mut self.rest);
        let mut stage = Stage::Idle(self);
        loop {
            let (batch, end) = next_batch(chunks, &mut rest).await;
            let receiver = stage.finish().await?;
            expected += batch.len() as u64;
            stage = receiver.start(batch);
            let reason = match end {
                Some(end) => end,
                None if expected >= goal => Received::Checkpoint,
                None => continue,
            };
            let receiver = stage.finish().await?;
            return Ok((Self { rest, ..receiver }, reason));
        }
    }

    /// Sets hashing and writing of a batch going.
    fn start(self, batch: Bytes) -> Stage {
        if batch.is_empty() {
            return Stage::Idle(self);
        }
        let mut hasher = self.hasher;
        let hashing = if batch.len() <= SMALL {
            hasher.update(&batch);
            Hashing::Done(hasher)
        } else {
            let batch = batch.clone();
            Hashing::Running(tokio::task::spawn_blocking(move || {
                hasher.update(&batch);
                hasher
            }))
        };
        Stage::Busy { hashing, writing: self.upload.append(vec![batch]) }
    }
}

/// What becomes of a batch while the next one arrives.
enum Stage {
    Idle(Receiver),
    Busy { hashing: Hashing, writing: Future<'static, Result<Box<dyn Upload>, BlobError>> },
}

#[expect(clippy::large_enum_variant, reason = "there is one for each upload")]
enum Hashing {
    Done(Hasher),
    Running(JoinHandle<Hasher>),
}

impl Stage {
    async fn finish(self) -> Result<Receiver, Error> {
        let (hashing, writing) = match self {
            Self::Idle(receiver) => return Ok(receiver),
            Self::Busy { hashing, writing } => (hashing, writing),
        };
        let upload = writing.await?;
        let hasher = match hashing {
            Hashing::Done(hasher) => hasher,
            // It fails only when the program is ending.
            Hashing::Running(task) => task.await.map_err(|_| Error::Interrupted)?,
        };
        Ok(Receiver::new(upload, hasher))
    }
}

/// Fills a buffer with what comes, beginning with `rest`, where what has no room is left. With the
/// last batch: why there is no more.
///
/// The bytes are copied, so that the connection can read on into memory that it has already.
async fn next_batch(chunks: &mut Chunks, rest: &mut Bytes) -> (Bytes, Option<Received>) {
    // Taken when there is something for it: a client that says nothing costs nothing.
    let mut buffer: Option<Buffer> = None;
    let end = loop {
        if !rest.is_empty() {
            let buffer = buffer.get_or_insert_with(Buffer::take);
            let left = buffer.fill(rest).len();
            rest.advance(rest.len() - left);
            if buffer.is_full() {
                break None;
            }
        }
        match std::future::poll_fn(|context| chunks.as_mut().poll_next(context)).await {
            Some(Ok(chunk)) => *rest = chunk,
            Some(Err(Interrupted)) => break Some(Received::Interrupted),
            None => break Some(Received::All),
        }
    };
    (buffer.map(Buffer::freeze).unwrap_or_default(), end)
}
