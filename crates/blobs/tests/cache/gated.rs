//! An object store whose bytes come when the test lets them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::Method;
use objects::memory::Memory;
use objects::{Attempt, Error, Found, Future, Objects, Opened, Page, PartRules};
use tokio::sync::{Semaphore, mpsc};

/// Bytes that come at once.
pub(crate) const PIECE: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Gated {
    store: Memory,
    gets: AtomicUsize,
    /// One for each piece of what is read from its start.
    pub(crate) gate: Arc<Semaphore>,
}

impl Gated {
    /// A store that lets everything through.
    pub(crate) fn open() -> Arc<Self> {
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Arc::new(Self { store: Memory::new(), gets: AtomicUsize::new(0), gate })
    }

    /// From now on nothing comes before the gate has permits.
    pub(crate) fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// How often it was asked for bytes.
    pub(crate) fn gets(&self) -> usize {
        self.gets.load(Ordering::Relaxed)
    }
}

/// Pieces on their way.
struct Pieces(mpsc::Receiver<Bytes>);

impl Stream for Pieces {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}

impl Objects for Gated {
    fn part_rules(&self) -> PartRules {
        self.store.part_rules()
    }

    fn put<'a>(&'a self, key: &'a str, content: Vec<Bytes>) -> Future<'a, Result<(), Error>> {
        self.store.put(key, content)
    }

    fn get<'a>(&'a self, key: &'a str, start: u64, end: u64) -> Future<'a, Result<Opened, Error>> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let Opened { size, modified, mut bytes } = self.store.get(key, start, end).await?;
            let content = std::future::poll_fn(|context| bytes.as_mut().poll_next(context)).await;
            let mut content = content.transpose()?.unwrap_or_default();
            let (sender, receiver) = mpsc::channel(1);
            let gate = Arc::clone(&self.gate);
            tokio::spawn(async move {
                while !content.is_empty() {
                    if start == 0 {
                        gate.acquire().await.unwrap().forget();
                    }
                    let piece = content.split_to(content.len().min(PIECE));
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Opened { size, modified, bytes: Box::pin(Pieces(receiver)) })
        })
    }

    fn find<'a>(&'a self, key: &'a str) -> Future<'a, Result<Option<Found>, Error>> {
        self.store.find(key)
    }

    fn delete<'a>(&'a self, key: &'a str) -> Future<'a, Result<(), Error>> {
        self.store.delete(key)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        folders: bool,
        page: Option<String>,
    ) -> Future<'a, Result<Page, Error>> {
        self.store.list(prefix, folders, page)
    }

    fn begin<'a>(&'a self, key: &'a str) -> Future<'a, Result<String, Error>> {
        self.store.begin(key)
    }

    fn part<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        number: usize,
        offset: u64,
        content: Vec<Bytes>,
    ) -> Future<'a, Result<String, Error>> {
        self.store.part(key, attempt, number, offset, content)
    }

    fn complete<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Future<'a, Result<(), Error>> {
        self.store.complete(key, attempt, parts, last)
    }

    fn abort<'a>(&'a self, key: &'a str, attempt: &'a str) -> Future<'a, Result<(), Error>> {
        self.store.abort(key, attempt)
    }

    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        self.store.attempts(prefix)
    }

    fn signed_url<'a>(
        &'a self,
        method: Method,
        key: &'a str,
        valid: Duration,
    ) -> Future<'a, Result<Option<String>, Error>> {
        self.store.signed_url(method, key, valid)
    }
}
