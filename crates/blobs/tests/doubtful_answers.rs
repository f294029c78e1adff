//! An object store whose answers are not always right.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use blobs::{Blobs, ErrorKind, ObjectStore};
use bytes::Bytes;
use futures_core::Stream;
use http::Method;
use objects::memory::Memory;
use objects::{Attempt, Error, Found, Future, Objects, Opened, Page, PartRules};
use oci::Digest;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// Nothing.
    Nothing,
    /// There is no such object.
    Missing,
    /// The object has another size.
    Size,
    /// The first byte is another.
    Byte,
    /// It ends too early.
    End,
    /// It breaks off.
    Break,
}

/// A store whose next answers are wrong.
#[derive(Debug, Default)]
struct Doubtful {
    store: Memory,
    next: Mutex<VecDeque<Wrong>>,
}

impl Doubtful {
    async fn answer(&self, key: &str, start: u64, end: u64) -> Result<Opened, Error> {
        let wrong = self.next.lock().unwrap().pop_front().unwrap_or(Wrong::Nothing);
        let missing = || self.store.get("missing", 0, 1);
        let Opened { size, modified, .. } = self.store.get(key, start, end).await?;
        let content = collect(self.store.get(key, start, end).await?).await;
        let half = content.slice(..content.len() / 2);
        let flipped = content.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 0));
        let (size, parts) = match wrong {
            Wrong::Nothing => (size, vec![Ok(half.clone()), Ok(content.slice(half.len()..))]),
            Wrong::Missing => return missing().await,
            Wrong::Size => (size + 1, vec![Ok(content)]),
            Wrong::Byte => (size, vec![Ok(flipped.collect())]),
            Wrong::End => (size, vec![Ok(half)]),
            Wrong::Break => (size, vec![Ok(half), Err(missing().await.err().unwrap())]),
        };
        Ok(Opened { size, modified, bytes: Box::pin(Parts(parts.into())) })
    }
}

struct Parts(VecDeque<Result<Bytes, Error>>);

impl Stream for Parts {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

async fn collect(mut opened: Opened) -> Bytes {
    let mut all = Vec::new();
    while let Some(next) =
        std::future::poll_fn(|context| opened.bytes.as_mut().poll_next(context)).await
    {
        all.extend_from_slice(&next.unwrap());
    }
    all.into()
}

impl Objects for Doubtful {
    fn get<'a>(&'a self, key: &'a str, start: u64, end: u64) -> Future<'a, Result<Opened, Error>> {
        Box::pin(self.answer(key, start, end))
    }

    fn part_rules(&self) -> PartRules {
        self.store.part_rules()
    }

    fn put<'a>(&'a self, key: &'a str, content: Vec<Bytes>) -> Future<'a, Result<(), Error>> {
        self.store.put(key, content)
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

/// Reads what was stored when the answers to that are wrong in these ways: what has arrived, and how
/// it ended.
async fn read(content: &Bytes, wrong: &[Wrong]) -> (Vec<u8>, Result<(), ErrorKind>) {
    let doubtful = Arc::new(Doubtful::default());
    let store = ObjectStore::new(Arc::<Doubtful>::clone(&doubtful), 0);
    let digest = Digest::sha256(content);
    let _ = store.put(&digest, content.clone()).await.unwrap();
    doubtful.next.lock().unwrap().extend(wrong);
    let opened = store.open(&digest, None, content.len() as u64).await.unwrap();
    let mut all = Vec::new();
    if let Err(error) = opened.begin(0).await {
        return (all, Err(error.kind()));
    }
    while all.len() < content.len() {
        match opened.read(all.len() as u64, 1 << 20).await {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(error) => return (all, Err(error.kind())),
        }
    }
    (all, Ok(()))
}

/// Random enough that no two parts of it are alike.
fn content(length: u32) -> Bytes {
    (0..length).flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect()
}

#[tokio::test]
async fn what_is_wrong_twice_and_then_right_is_right() {
    use Wrong::{Break, Byte, End, Missing, Size};
    for wrong in [[Missing, Size], [Byte, End], [Break, Byte], [Size, Break]] {
        let small = content(10_000);
        let (found, ended) = read(&small, &wrong).await;
        assert!(found == small && ended == Ok(()), "{wrong:?}: {ended:?}");
    }
    for wrong in [[Missing, Size], [End, End], [Break, End], [Size, Break], [Break, Break]] {
        let large = content(300_000);
        let (found, ended) = read(&large, &wrong).await;
        assert!(found == large && ended == Ok(()), "{wrong:?}: {ended:?}");
    }
}

#[tokio::test]
async fn small_content_that_stays_wrong_does_not_begin() {
    for wrong in [Wrong::Byte, Wrong::End, Wrong::Size] {
        let (found, ended) = read(&content(10_000), &[wrong; 3]).await;
        assert!(found.is_empty(), "{wrong:?}");
        assert_eq!(ended, Err(ErrorKind::Damaged), "{wrong:?}");
    }
    let (_, ended) = read(&content(10_000), &[Wrong::Missing; 3]).await;
    assert_eq!(ended, Err(ErrorKind::NotFound));
}

#[tokio::test]
async fn large_content_that_is_wrong_does_not_end() {
    let large = content(300_000);
    for wrong in [vec![Wrong::Byte], vec![Wrong::Break, Wrong::Byte]] {
        let (found, ended) = read(&large, &wrong).await;
        assert!(found.len() < large.len(), "{wrong:?}");
        assert_eq!(ended, Err(ErrorKind::Damaged), "{wrong:?}");
    }
}
