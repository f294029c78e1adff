//! An upload to an object store.
//!
//! What arrives is held until it is enough for a part; parts are written while more arrives. What is
//! too little for one when a request ends lies in an object of its own: if nothing follows, that
//! object is the content. Parts and objects are named in the saved state, so that any server can
//! go on; what is not named there does not count.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use objects::Objects;
use oci::Digest;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::content::{ObjectContent, read_small};
use super::{ObjectStore, writing};
use crate::{Error, ErrorKind, Future, Stored, Upload, UploadId, layout};

/// Parts of one upload that are written at once, if the store takes so many.
const CONCURRENCY: usize = 2;

/// The parts that a store takes at most are used up in so many shares. Those of each are twice as
/// large as those of the one before, so that few uploads ever need the last one.
const SHARES: usize = 5;

/// What of an upload has been written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct State {
    /// The object that is written in parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<Attempt>,
    /// An object with the bytes after those of the parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    tail: Option<Tail>,
    /// Objects whose bytes are elsewhere now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outdated: Vec<Tail>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Attempt {
    key: String,
    name: String,
    parts: Vec<String>,
    /// Bytes of the parts.
    size: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Tail {
    key: String,
    size: u64,
}

impl State {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.attempt.as_ref().map_or(0, |attempt| attempt.size)
            + self.tail.as_ref().map_or(0, |tail| tail.size)
    }

    /// Removes what it names.
    pub(super) async fn discard(&self, objects: &dyn Objects) -> Result<(), Error> {
        if let Some(attempt) = &self.attempt {
            objects.abort(&attempt.key, &attempt.name).await.map_err(writing)?;
        }
        for tail in self.tail.iter().chain(&self.outdated) {
            objects.delete(&tail.key).await.map_err(writing)?;
        }
        Ok(())
    }
}

/// An upload that is open for writing.
pub(super) struct ObjectUpload {
    store: ObjectStore,
    id: UploadId,
    written: State,
    /// Parts after those of `written` that are being written, and their sizes.
    running: VecDeque<(u64, JoinHandle<Result<String, objects::Error>>)>,
    /// What comes after all parts. Unless it is only in the tail.
    held: VecDeque<Bytes>,
    held_size: usize,
    /// Whether the tail has the same bytes as `held`, or those that belong there.
    is_tail_current: bool,
}

impl ObjectUpload {
    pub(super) fn new(store: ObjectStore, id: UploadId) -> Self {
        Self::resume(store, id, State::default())
    }

    pub(super) fn resume(store: ObjectStore, id: UploadId, mut written: State) -> Self {
        // The state that named these counts no more.
        discard(&store, std::mem::take(&mut written.outdated));
        Self {
            store,
            id,
            is_tail_current: written.tail.is_some(),
            written,
            running: VecDeque::new(),
            held: VecDeque::new(),
            held_size: 0,
        }
    }

    /// Takes the bytes of the tail back, because others follow them.
    async fn load_tail(&mut self) -> Result<(), Error> {
        self.is_tail_current = false;
        let Some(tail) = self.written.tail.take() else { return Ok(()) };
        if self.held_size == 0 && tail.size > 0 {
            let (bytes, _) = read_small(&*self.store.objects, &tail.key, tail.size).await?;
            self.held_size = bytes.len();
            self.held.push_front(bytes.into());
        }
        self.written.outdated.push(tail);
        Ok(())
    }

    /// How large the next part shall be.
    fn part_size(&self) -> usize {
        let done = self.written.attempt.as_ref().map_or(0, |attempt| attempt.parts.len());
        let share = (self.store.objects.part_rules().max_count / SHARES).max(1);
        let doubled = (done + self.running.len()) / share;
        self.store.part_size.saturating_mul(1 << doubled.min(8))
    }

    /// Begins to write the next `size` bytes that are held as a part.
    async fn send_part(&mut self, size: usize) -> Result<(), Error> {
        let at_once = self.store.objects.part_rules().at_once.clamp(1, CONCURRENCY);
        while self.running.len() >= at_once {
            self.finish_part().await?;
        }
        let attempt = match &mut self.written.attempt {
            Some(attempt) => attempt,
            none => {
                let key = ObjectStore::fresh_key(self.id);
                let name = self.store.objects.begin(&key).await.map_err(writing)?;
                none.insert(Attempt { key, name, parts: Vec::new(), size: 0 })
            }
        };
        let under_way = self.running.iter().map(|(size, _)| size).sum::<u64>();
        let offset = attempt.size + under_way;
        let number = attempt.parts.len() + self.running.len();
        let (key, name) = (attempt.key.clone(), attempt.name.clone());
        let content = self.take_held(size);
        let objects = Arc::clone(&self.store.objects);
        let writing =
            tokio::spawn(async move { objects.part(&key, &name, number, offset, content).await });
        self.running.push_back((size as u64, writing));
        Ok(())
    }

    /// Waits for the part that was begun first.
    async fn finish_part(&mut self) -> Result<(), Error> {
        let (Some((size, part)), Some(attempt)) =
            (self.running.pop_front(), &mut self.written.attempt)
        else {
            return Ok(());
        };
        let part = part.await.map_err(|error| {
            Error::of(ErrorKind::Other, format!("put a part of {}", attempt.key), error)
        })?;
        attempt.parts.push(part.map_err(writing)?);
        attempt.size += size;
        Ok(())
    }

    fn take_held(&mut self, size: usize) -> Vec<Bytes> {
        let mut taken = Vec::new();
        let mut left = size.min(self.held_size);
        self.held_size -= left;
        while let Some(mut bytes) = self.held.pop_front() {
            if bytes.len() > left {
                taken.push(bytes.split_to(left));
                self.held.push_front(bytes);
                break;
            }
            left -= bytes.len();
            taken.push(bytes);
        }
        taken
    }

    /// Writes what is held into an object.
    async fn write_tail(&mut self) -> Result<(), Error> {
        let key = ObjectStore::fresh_key(self.id);
        let content = self.held.iter().cloned().collect();
        self.store.objects.put(&key, content).await.map_err(writing)?;
        self.written.tail = Some(Tail { key, size: self.held_size as u64 });
        self.is_tail_current = true;
        Ok(())
    }

    /// The parts and what is held after them become the object.
    async fn complete(&mut self, digest: &Digest) -> Result<Stored, Error> {
        self.load_tail().await?;
        while !self.running.is_empty() {
            self.finish_part().await?;
        }
        let Some(attempt) = self.written.attempt.take() else {
            return Err(Error::of(ErrorKind::Other, "complete an upload".to_owned(), "no parts"));
        };
        let Attempt { key, name, parts, size } = attempt;
        let size = size + self.held_size as u64;
        let last = self.take_held(self.held_size);
        let completed = self.store.objects.complete(&key, &name, parts, last).await;
        if let Err(error) = completed {
            // Somebody who died, or whose answer was lost, may have done it before: with these
            // bytes, or with others.
            let is_gone = error.kind() == objects::ErrorKind::NotFound;
            let objects = Arc::clone(&self.store.objects);
            let content = ObjectContent::new(objects, key.clone(), *digest, size);
            if !is_gone || content.check().await.is_err() {
                return Err(writing(error));
            }
        }
        Ok(Stored { location: Some(key), ..Stored::default() })
    }
}

/// Removes objects whose bytes are elsewhere now. If that fails they are in nobody's way.
fn discard(store: &ObjectStore, tails: Vec<Tail>) {
    if tails.is_empty() {
        return;
    }
    let objects = Arc::clone(&store.objects);
    tokio::spawn(async move {
        for tail in tails {
            if let Err(error) = objects.delete(&tail.key).await {
                tracing::info!(%error, "an object of an upload is left");
            }
        }
    });
}

impl Upload for ObjectUpload {
    fn append(
        mut self: Box<Self>,
        data: Vec<Bytes>,
    ) -> Future<'static, Result<Box<dyn Upload>, Error>> {
        Box::pin(async move {
            let data = data.into_iter().filter(|bytes| !bytes.is_empty()).collect::<Vec<_>>();
            if !data.is_empty() {
                self.load_tail().await?;
            }
            for bytes in data {
                self.held_size += bytes.len();
                self.held.push_back(bytes);
            }
            // So much stays that it is enough for a part when the request ends.
            let kept = self.store.objects.part_rules().min_size;
            while self.held_size >= self.part_size() + kept {
                self.send_part(self.part_size()).await?;
            }
            Ok(self as Box<dyn Upload>)
        })
    }

    fn flush(mut self: Box<Self>) -> Future<'static, Result<Box<dyn Upload>, Error>> {
        Box::pin(async move {
            if self.is_tail_current {
                return Ok(self as Box<dyn Upload>);
            }
            let rules = self.store.objects.part_rules();
            let in_parts = self.written.attempt.is_some();
            if in_parts && self.held_size >= rules.min_size.max(1) {
                let whole_steps = self.held_size - self.held_size % rules.step;
                self.send_part(whole_steps).await?;
            }
            while !self.running.is_empty() {
                self.finish_part().await?;
            }
            if self.held_size > 0 {
                self.write_tail().await?;
            }
            Ok(self as Box<dyn Upload>)
        })
    }

    fn state(&self) -> String {
        serde_json::to_string(&self.written).unwrap_or_default()
    }

    fn discard(mut self: Box<Self>) -> Future<'static, Result<(), Error>> {
        Box::pin(async move {
            while !self.running.is_empty() {
                self.finish_part().await?;
            }
            self.written.discard(&*self.store.objects).await
        })
    }

    fn commit(mut self: Box<Self>, digest: Digest) -> Future<'static, Result<Stored, Error>> {
        Box::pin(async move {
            let stored = if self.written.attempt.is_some() {
                self.complete(&digest).await?
            } else if self.is_tail_current
                && let Some(tail) = self.written.tail.take()
            {
                Stored { location: Some(tail.key), ..Stored::default() }
            } else {
                self.load_tail().await?;
                let content = std::mem::take(&mut self.held).into();
                let key = layout::data_key(&digest);
                self.store.objects.put(&key, content).await.map_err(writing)?;
                Stored::default()
            };
            // The saved state may name them still.
            let leftovers = self.written.outdated.into_iter().map(|tail| tail.key).collect();
            Ok(Stored { leftovers, ..stored })
        })
    }
}
