//! Objects in this process's memory: for trying things, and for tests. They go with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use ::http::Method;
use bytes::Bytes;

use crate::{Attempt, Error, ErrorKind, Found, Future, Objects, Opened, Page, PartRules};

/// As strict as the strictest store, so that what works here works there.
const RULES: PartRules = PartRules {
    min_size: 5 << 20,
    step: 1,
    max_count: 10_000,
    at_once: usize::MAX,
    are_replaced: true,
};

/// An object store that is nowhere.
#[derive(Debug)]
pub struct Memory {
    rules: PartRules,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<String, Object>,
    attempts: BTreeMap<String, Unfinished>,
    /// How many attempts there ever were.
    begun: u64,
}

#[derive(Debug)]
struct Object {
    content: Bytes,
    modified: SystemTime,
}

#[derive(Debug)]
struct Unfinished {
    key: String,
    begun: SystemTime,
    parts: BTreeMap<usize, Bytes>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_rules(RULES)
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that is particular about parts.
    pub fn with_rules(rules: PartRules) -> Self {
        Self { rules, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &str, content: Bytes) {
        let object = Object { content, modified: SystemTime::now() };
        self.kept().objects.insert(key.to_owned(), object);
    }

    fn slice(&self, key: &str, start: u64, end: u64) -> Result<(Found, Bytes), Error> {
        let kept = self.kept();
        let object = kept.objects.get(key).ok_or_else(|| missing("get", key))?;
        let content = &object.content;
        let size = content.len() as u64;
        let place = |offset: u64| usize::try_from(offset.min(size)).unwrap_or(usize::MAX);
        if start > size || start > end {
            return Err(Error::new(ErrorKind::Other, format!("get object {key}"), "range"));
        }
        Ok((found(object), content.slice(place(start)..place(end))))
    }

    fn assemble(
        &self,
        key: &str,
        attempt: &str,
        names: &[String],
        last: &[Bytes],
    ) -> Result<Bytes, Error> {
        let parts = self.kept().attempts.remove(attempt);
        let parts = parts.ok_or_else(|| missing("complete", key))?.parts;
        let wrong = |cause| Error::new(ErrorKind::Other, format!("complete object {key}"), cause);
        let mut content = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let part = parts.get(&number).filter(|_| *name == number.to_string());
            let part = part.ok_or_else(|| wrong("a part is not there"))?;
            if part.len() < self.rules.min_size || !part.len().is_multiple_of(self.rules.step) {
                return Err(wrong("a part has the wrong size"));
            }
            content.extend_from_slice(part);
        }
        content.extend_from_slice(&last.concat());
        Ok(content.into())
    }
}

impl Objects for Memory {
    fn part_rules(&self) -> PartRules {
        self.rules
    }

    fn put<'a>(&'a self, key: &'a str, content: Vec<Bytes>) -> Future<'a, Result<(), Error>> {
        self.write(key, content.concat().into());
        done(Ok(()))
    }

    fn get<'a>(&'a self, key: &'a str, start: u64, end: u64) -> Future<'a, Result<Opened, Error>> {
        done(self.slice(key, start, end).map(|(Found { size, modified }, content)| {
            let mut content = Some(content);
            let bytes = Once(move || content.take().filter(|content| !content.is_empty()));
            Opened { size, modified, bytes: Box::pin(bytes) }
        }))
    }

    fn find<'a>(&'a self, key: &'a str) -> Future<'a, Result<Option<Found>, Error>> {
        done(Ok(self.kept().objects.get(key).map(found)))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Future<'a, Result<(), Error>> {
        self.kept().objects.remove(key);
        done(Ok(()))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        folders: bool,
        _page: Option<String>,
    ) -> Future<'a, Result<Page, Error>> {
        let mut page = Page::default();
        for (key, object) in &self.kept().objects {
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            match rest.split_once('/').filter(|_| folders) {
                None => page.objects.push((key.clone(), found(object))),
                Some((folder, _)) => page.folders.push(format!("{prefix}{folder}")),
            }
        }
        page.folders.dedup();
        done(Ok(page))
    }

    fn begin<'a>(&'a self, key: &'a str) -> Future<'a, Result<String, Error>> {
        let mut kept = self.kept();
        kept.begun += 1;
        let name = kept.begun.to_string();
        let begun = SystemTime::now();
        let unfinished = Unfinished { key: key.to_owned(), begun, parts: BTreeMap::new() };
        kept.attempts.insert(name.clone(), unfinished);
        done(Ok(name))
    }

    fn part<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        number: usize,
        _offset: u64,
        content: Vec<Bytes>,
    ) -> Future<'a, Result<String, Error>> {
        let rules = self.rules;
        done(match self.kept().attempts.get_mut(attempt) {
            Some(attempt) if rules.at_once == 1 && number > attempt.parts.len() => {
                let context = format!("put a part of object {key}");
                Err(Error::new(ErrorKind::Other, context, "a part before it is missing"))
            }
            Some(attempt) => {
                attempt.parts.insert(number, content.concat().into());
                Ok(number.to_string())
            }
            None => Err(missing("put a part of", key)),
        })
    }

    fn complete<'a>(
        &'a self,
        key: &'a str,
        attempt: &'a str,
        parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Future<'a, Result<(), Error>> {
        let assembled = self.assemble(key, attempt, &parts, &last);
        done(assembled.map(|content| self.write(key, content)))
    }

    fn abort<'a>(&'a self, _key: &'a str, attempt: &'a str) -> Future<'a, Result<(), Error>> {
        self.kept().attempts.remove(attempt);
        done(Ok(()))
    }

    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        let kept = self.kept();
        let attempts = kept.attempts.iter().filter(|(_, parts)| parts.key.starts_with(prefix));
        let attempts = attempts.map(|(name, parts)| Attempt {
            key: parts.key.clone(),
            name: name.clone(),
            begun: parts.begun,
        });
        done(Ok(attempts.collect()))
    }

    fn signed_url<'a>(
        &'a self,
        _method: Method,
        _key: &'a str,
        _valid: Duration,
    ) -> Future<'a, Result<Option<String>, Error>> {
        done(Ok(None))
    }
}

fn found(object: &Object) -> Found {
    Found { size: object.content.len() as u64, modified: object.modified }
}

fn missing(action: &str, key: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("{action} object {key}"), "it is not there")
}

fn done<'a, T: Send + 'a>(value: T) -> Future<'a, T> {
    Box::pin(std::future::ready(value))
}

/// A stream of what the function returns until it returns nothing.
struct Once<F>(F);

impl<F: FnMut() -> Option<Bytes> + Unpin> futures_core::Stream for Once<F> {
    type Item = Result<Bytes, Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        Poll::Ready((self.0)().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passes_the_suite() {
        crate::conformance::run(&Memory::new()).await.unwrap();
    }
}
