//! Bytes on their way in: hashed and stored while they arrive.
//!
//! What comes is gathered into batches of half a megabyte. While one batch arrives, the batch
//! before it is hashed on one thread and written on another. So an upload holds two batches in
//! memory whatever its size, and no byte is read twice.

use std::pin::Pin;

use blobs::{Buffer, Error as BlobError, Future, Upload};
use bytes::Bytes;
use futures_core::Stream;
use oci::Hasher;
use tokio::task::JoinHandle;

use crate::Error;

/// A batch is passed on when it has filled this many buffers.
const BATCH_BUFFERS: usize = 2;

/// Below this, hashing takes less time than handing it to another thread.
const SMALL_BATCH_BYTES: usize = 32 << 10;

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
}

impl Receiver {
    /// Goes on with an upload, whose bytes so far `hasher` has seen.
    pub(crate) fn new(upload: Box<dyn Upload>, hasher: Hasher) -> Self {
        Self { upload, hasher }
    }

    /// Bytes received, in this request and before it.
    pub(crate) fn received(&self) -> u64 {
        self.hasher.len()
    }

    /// What has to be saved to go on from here later.
    pub(crate) fn progress(&self) -> metadata::uploads::Upload {
        metadata::uploads::Upload {
            received: self.received(),
            hash_state: self.hasher.save(),
            store_state: self.upload.state(),
        }
    }

    /// The upload and the hash of all its bytes.
    pub(crate) fn into_parts(self) -> (Box<dyn Upload>, Hasher) {
        (self.upload, self.hasher)
    }

    /// Takes in what comes until there is a reason to come back. All that came before the reason
    /// is hashed and stored then.
    pub(crate) async fn receive(self, chunks: &mut Chunks) -> Result<(Self, Received), Error> {
        let goal = self.received() + CHECKPOINT_BYTES;
        let mut expected = self.received();
        let mut stage = Stage::Idle(self);
        loop {
            let (batch, end) = next_batch(chunks).await;
            let receiver = stage.finish().await?;
            expected += batch.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
            stage = receiver.start(batch);
            let reason = match end {
                Some(end) => end,
                None if expected >= goal => Received::Checkpoint,
                None => continue,
            };
            return Ok((stage.finish().await?, reason));
        }
    }

    /// Sets hashing and writing of the batch going.
    fn start(self, batch: Vec<Bytes>) -> Stage {
        if batch.is_empty() {
            return Stage::Idle(self);
        }
        let mut hasher = self.hasher;
        let size = batch.iter().map(Bytes::len).sum::<usize>();
        let hashing = if size <= SMALL_BATCH_BYTES {
            hash(&mut hasher, &batch);
            Hashing::Done(hasher)
        } else {
            let batch = batch.clone();
            Hashing::Running(tokio::task::spawn_blocking(move || {
                hash(&mut hasher, &batch);
                hasher
            }))
        };
        Stage::Busy { hashing, writing: self.upload.append(batch) }
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
        Ok(Receiver { upload, hasher })
    }
}

fn hash(hasher: &mut Hasher, batch: &[Bytes]) {
    for chunk in batch {
        hasher.update(chunk);
    }
}

/// Gathers what comes. With the last batch: why there is no more.
///
/// The bytes are copied, so that the connection can read on into memory that it has already.
async fn next_batch(chunks: &mut Chunks) -> (Vec<Bytes>, Option<Received>) {
    let mut batch = Vec::new();
    let mut buffer = Buffer::take();
    let end = loop {
        match std::future::poll_fn(|context| chunks.as_mut().poll_next(context)).await {
            Some(Ok(chunk)) => {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    rest = buffer.fill(rest);
                    if buffer.is_full() {
                        batch.push(std::mem::replace(&mut buffer, Buffer::take()).freeze());
                    }
                }
            }
            Some(Err(Interrupted)) => break Some(Received::Interrupted),
            None => break Some(Received::All),
        }
        if batch.len() >= BATCH_BUFFERS {
            break None;
        }
    };
    let last = buffer.freeze();
    if !last.is_empty() {
        batch.push(last);
    }
    (batch, end)
}
