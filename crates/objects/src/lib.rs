//! Object stores of many makers, behind one small trait.
//!
//! An object is bytes under a key. It is written whole, or in parts that become an object when
//! they are complete; it is never changed. Who is asked, how, and with which credentials is the
//! business of the file of each maker; what the objects mean is that of the caller.
//!
//! Requests that failed and may be repeated are repeated, with growing pauses, before an error is
//! returned. Each store passes the suite in [`conformance`].

#![forbid(unsafe_code)]

pub mod azure;
mod cloud;
mod credentials;
mod error;
#[cfg(test)]
mod fake;
pub mod gcs;
mod http;
pub mod memory;
pub mod oss;
mod requests;
pub mod s3;
pub mod swift;
mod watch;

pub mod conformance;

use std::fmt::Debug;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use ::http::Method;
use bytes::Bytes;
use futures_core::Stream;

pub use error::{Error, ErrorKind};
pub use watch::{Outcome, Watch};

/// A boxed future, as the methods of [`Objects`] return them.
pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Bytes that are on their way.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// A bucket or container of an object store, or a folder in it. Keys are relative to that, and
/// have no slash at their start.
pub trait Objects: Debug + Send + Sync + 'static {
    /// What parts must be like.
    fn part_rules(&self) -> PartRules;

    /// Writes an object in one request, replacing what was there. It is durable then.
    fn put<'a>(&'a self, key: &'a str, content: Vec<Bytes>) -> Future<'a, Result<(), Error>>;

    /// Opens an object for reading from `start`, to `end` or its own end, whichever comes first.
    /// [`ErrorKind::NotFound`] if there is none.
    fn get<'a>(&'a self, key: &'a str, start: u64, end: u64) -> Future<'a, Result<Opened, Error>>;

    /// Looks whether there is an object.
    fn find<'a>(&'a self, key: &'a str) -> Future<'a, Result<Option<Found>, Error>>;

    /// Removes an object. No error if there is none.
    fn delete<'a>(&'a self, key: &'a str) -> Future<'a, Result<(), Error>>;

    /// The objects whose keys begin with `prefix`, in no order: a page, and where the next one
    /// begins. With `folders`, what lies behind the next slash is summed up.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        folders: bool,
        page: Option<String>,
    ) -> Future<'a, Result<Page, Error>>;

    /// Begins an object that is written in parts, and names the attempt.
    fn begin<'a>(&'a self, key: &'a str) -> Future<'a, Result<String, Error>>;

    /// Writes part `number`, counted from zero, whose bytes begin at `offset` of the object.
    /// Returns what [`Self::complete`] needs to know of it. What happens to a part that is written
    /// again is among the [`PartRules`].
    fn part<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        number: usize,
        offset: u64,
        content: Vec<Bytes>,
    ) -> Future<'a, Result<String, Error>>;

    /// Turns parts, and the bytes that come after them, into the object, replacing what was there.
    /// It is durable then. [`ErrorKind::NotFound`] if the attempt was aborted; if it was completed
    /// before, that or nothing.
    fn complete<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Future<'a, Result<(), Error>>;

    /// Gives an attempt up and frees the space of its parts. No error if there is none.
    fn abort<'a>(&'a self, key: &'a str, attempt: &'a str) -> Future<'a, Result<(), Error>>;

    /// The attempts under keys that begin with `prefix` which were neither completed nor aborted,
    /// as far as they take space for longer than the store itself allows.
    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>>;

    /// A URL with which anybody may send a request of this method for this object for a while, if
    /// the store has such. Nobody is asked for it.
    fn signed_url<'a>(
        &'a self,
        method: Method,
        key: &'a str,
        valid: Duration,
    ) -> Future<'a, Result<Option<String>, Error>>;
}

/// What the parts of an object must be like. The last bytes, which [`Objects::complete`] is given,
/// are none of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartRules {
    /// Bytes that each must have.
    pub min_size: usize,
    /// What the size of each must be a multiple of.
    pub step: usize,
    /// How many there may be.
    pub max_count: usize,
    /// How many may be written at once. If that is one, they are written in their order.
    pub at_once: usize,
    /// Whether a part that is written again is replaced. If not, it must have the same bytes: if it
    /// has others, [`Objects::complete`] fails.
    pub are_replaced: bool,
}

/// An object that is open for reading.
pub struct Opened {
    /// Bytes of the whole object.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
    /// The bytes that were asked for.
    pub bytes: ByteStream,
}

/// An object that is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    /// Bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
}

/// Some of what a listing found.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Objects, with their keys.
    pub objects: Vec<(String, Found)>,
    /// What was summed up: the beginnings of keys, without the slash at their end.
    pub folders: Vec<String>,
    /// What to ask for next, if there is more.
    pub next: Option<String>,
}

/// An object that somebody has begun to write in parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// Its key.
    pub key: String,
    /// The attempt's name.
    pub name: String,
    /// When it was begun, by the store's clock.
    pub begun: SystemTime,
}

/// Everything that [`Objects::list`] finds.
pub async fn list_all(store: &dyn Objects, prefix: &str, folders: bool) -> Result<Page, Error> {
    let mut all = Page::default();
    let mut next = None;
    loop {
        let page = store.list(prefix, folders, next).await?;
        all.objects.extend(page.objects);
        all.folders.extend(page.folders);
        next = page.next;
        if next.is_none() {
            return Ok(all);
        }
    }
}
