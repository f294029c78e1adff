//! Objects that are written in parts: resumable sessions.
//!
//! A session takes bytes in their order, in steps of 256 KiB, and never forgets what it has: bytes
//! that are sent a second time are passed over. So that it is noticed if they were others, each
//! part's name has a checksum, and the object's has to be that of all of them.
//!
//! The URL of a session is its name. Who knows it may write, so it is not logged. A session ends by
//! itself after a week, and nothing is to be paid for it before it becomes an object.

use std::fmt;
use std::str::FromStr;

use ::http::header::{CONTENT_RANGE, LOCATION, RANGE};
use ::http::{HeaderMap, HeaderName, Method, StatusCode};
use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc32Iscsi as CRC32C;

use super::api::{Api, Call, Failure, Resource, parse};
use crate::{Error, ErrorKind};

/// How often a session may take nothing before it is given up.
const PATIENCE: usize = 3;

/// A part that was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Part {
    offset: u64,
    length: u64,
    crc32c: u32,
}

impl Part {
    fn of(offset: u64, content: &[Bytes]) -> Self {
        let mut digest = crc_fast::Digest::new(CRC32C);
        for bytes in content {
            digest.update(bytes);
        }
        Self { offset, length: size_of(content), crc32c: narrow(digest.finalize()) }
    }

    /// This and what comes after it.
    fn and(self, next: Self) -> Option<Self> {
        let crc =
            crc_fast::checksum_combine(CRC32C, self.crc32c.into(), next.crc32c.into(), next.length);
        let length = self.length.checked_add(next.length)?;
        let follows = self.offset.checked_add(self.length)? == next.offset;
        follows.then_some(Self { length, crc32c: narrow(crc), ..self })
    }
}

/// A checksum of 32 bits, which the library holds in 64.
fn narrow(checksum: u64) -> u32 {
    u32::try_from(checksum & u64::from(u32::MAX)).unwrap_or_default()
}

fn size_of(content: &[Bytes]) -> u64 {
    content.iter().map(|bytes| bytes.len() as u64).sum()
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:08x}", self.offset, self.length, self.crc32c)
    }
}

impl FromStr for Part {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut fields = text.split('-');
        let mut field = || fields.next().ok_or(());
        let offset = field()?.parse().map_err(|_| ())?;
        let length = field()?.parse().map_err(|_| ())?;
        let crc32c = u32::from_str_radix(field()?, 16).map_err(|_| ())?;
        Ok(Self { offset, length, crc32c })
    }
}

/// Begins a session for an object.
pub(super) async fn begin(api: &Api, name: &str) -> Result<String, Error> {
    let kind = HeaderName::from_static("x-upload-content-type");
    let call = Call::new(Method::POST, api.upload("resumable", name));
    let call = call.with(kind, "application/octet-stream");
    let failed = |failure: Failure| failure.of_object("begin", name);
    let answer = api.send(&call).await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(failed(Failure::of(answer).await));
    }
    let session = answer.headers().get(LOCATION).and_then(|url| url.to_str().ok());
    session.map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Other, format!("begin object {name}"), "the answer names no session")
    })
}

/// Writes a part, and names it.
pub(super) async fn write(
    api: &Api,
    name: &str,
    session: &str,
    offset: u64,
    content: &[Bytes],
) -> Result<String, Error> {
    let part = Part::of(offset, content);
    match transfer(api, name, session, offset, content, None).await? {
        Progress::Taken => Ok(part.to_string()),
        Progress::Over => Err(over("put a part of", name)),
        Progress::Complete(_) => Err(wrong(name, "it was completed before".to_owned())),
    }
}

/// Makes the object. It may be that somebody else has made it, of other bytes: then it stays, and
/// this fails.
pub(super) async fn complete(
    api: &Api,
    name: &str,
    session: &str,
    parts: &[String],
    last: &[Bytes],
) -> Result<(), Error> {
    let parts = parts.iter().map(|part| part.parse::<Part>());
    let mut all = Part { offset: 0, length: 0, crc32c: 0 };
    for part in parts {
        let part = part.map_err(|()| wrong(name, "a part's name is not one".to_owned()))?;
        all = all.and(part).ok_or_else(|| wrong(name, "a part is missing".to_owned()))?;
    }
    let end = all.length;
    let all = all.and(Part::of(end, last));
    let all = all.ok_or_else(|| wrong(name, "it is too large".to_owned()))?;
    match transfer(api, name, session, end, last, Some(all.length)).await? {
        Progress::Complete(made) if is_same(&made, all) => Ok(()),
        Progress::Complete(_) => {
            let cause = "what is stored is not what was sent; it has to be sent once more";
            Err(wrong(name, cause.to_owned()))
        }
        Progress::Taken => Err(wrong(name, "the session does not end".to_owned())),
        // It may have ended well, and nobody heard of it.
        Progress::Over => match find(api, name).await? {
            Some(found) if is_same(&found, all) => Ok(()),
            _ => Err(over("complete", name)),
        },
    }
}

fn is_same(made: &Resource, sent: Part) -> bool {
    let size = made.found().map(|found| found.size);
    size == Ok(sent.length) && made.crc32c().is_none_or(|crc32c| crc32c == sent.crc32c)
}

/// Ends a session. No error if there is none.
pub(super) async fn abort(api: &Api, name: &str, session: &str) -> Result<(), Error> {
    let mut call = Call::new(Method::DELETE, session.to_owned());
    call.is_capability = true;
    let answer = api.send(&call).await.map_err(|failure| failure.of_object("abort", name))?;
    match answer.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Failure::of(answer).await.of_object("abort", name))
        }
        // 499 says that it was ended, the others that there is nothing to end.
        _ => Ok(()),
    }
}

/// How far a session is.
enum Progress {
    /// It has all bytes that were sent.
    Taken,
    /// The object is there.
    Complete(Resource),
    /// It is not known (any more).
    Over,
}

/// Sends bytes until the session has them; with a `total`, until it is complete.
async fn transfer(
    api: &Api,
    name: &str,
    session: &str,
    offset: u64,
    content: &[Bytes],
    total: Option<u64>,
) -> Result<Progress, Error> {
    let end = offset + size_of(content);
    let mut from = offset;
    let mut idle = 0;
    loop {
        let total_text = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
        let range = match end - from {
            0 => format!("bytes */{total_text}"),
            _ => format!("bytes {from}-{}/{total_text}", end - 1),
        };
        let mut call = Call::new(Method::PUT, session.to_owned())
            .with(CONTENT_RANGE, range)
            .sending(skip(content, from - offset));
        call.is_capability = true;
        let failed = |failure: Failure| failure.of_object("write", name);
        let answer = api.send(&call).await.map_err(failed)?;
        match answer.status() {
            StatusCode::PERMANENT_REDIRECT => {
                let taken = taken(answer.headers());
                if taken >= end && total.is_none() {
                    return Ok(Progress::Taken);
                }
                idle = if taken > from { 0 } else { idle + 1 };
                if taken < offset || idle > PATIENCE {
                    let cause = format!("expected a session with {end} bytes, found {taken}");
                    return Err(wrong(name, cause));
                }
                // It may have more, from somebody who died. What they are, the checksum will show.
                from = taken.clamp(from, end);
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Progress::Over),
            status if status.is_success() => {
                return parse(answer).await.map(Progress::Complete).map_err(failed);
            }
            _ => return Err(failed(Failure::of(answer).await)),
        }
    }
}

/// How many bytes a session has: `Range: bytes=0-LAST`, or nothing.
fn taken(headers: &HeaderMap) -> u64 {
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let last = range.and_then(|range| range.rsplit_once('-')?.1.parse::<u64>().ok());
    last.map_or(0, |last| last.saturating_add(1))
}

/// Content without its first bytes.
fn skip(content: &[Bytes], mut count: u64) -> Vec<Bytes> {
    let mut rest = Vec::new();
    for bytes in content {
        let skipped = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
        count -= skipped as u64;
        if skipped < bytes.len() {
            rest.push(bytes.slice(skipped..));
        }
    }
    rest
}

/// Looks whether there is an object.
pub(super) async fn find(api: &Api, name: &str) -> Result<Option<Resource>, Error> {
    let url = format!("{}?fields=name,size,updated,crc32c", api.object(Some(name)));
    match api.ask(&Call::new(Method::GET, url)).await {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure.of_object("look up", name)),
    }
}

/// Removes an object. No error if there is none.
pub(super) async fn remove(api: &Api, name: &str) -> Result<(), Error> {
    let call = Call::new(Method::DELETE, api.object(Some(name)));
    let failed = |failure: Failure| failure.of_object("delete", name);
    let answer = api.send(&call).await.map_err(failed)?;
    match answer.status() {
        status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
        _ => Err(failed(Failure::of(answer).await)),
    }
}

fn over(action: &str, name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("{action} object {name}"), "the session is over")
}

fn wrong(name: &str, cause: String) -> Error {
    Error::new(ErrorKind::Other, format!("write object {name}"), cause)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    #[test]
    fn parts_add_up() {
        let all = Bytes::from_static(b"123456789");
        // The check value of CRC-32C.
        assert_eq!(Part::of(0, from_ref(&all)).crc32c, 0xe306_9283);
        for middle in 0..=9 {
            let one = Part::of(0, &[all.slice(..middle)]);
            let two = Part::of(middle as u64, &[all.slice(middle..)]);
            assert_eq!(one.and(two), Some(Part::of(0, from_ref(&all))));
            let none = Part { offset: 0, length: 0, crc32c: 0 };
            assert_eq!(none.and(one), Some(one));
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        let early = Part::of(3, from_ref(&all));
        assert_eq!(Part::of(0, from_ref(&all)).and(early), None);
    }

    #[test]
    fn what_is_taken_is_skipped() {
        let content = [Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"def")];
        for (count, expected) in [(0, "abcdef"), (2, "cdef"), (3, "def"), (5, "f"), (6, "")] {
            assert_eq!(skip(&content, count).concat(), expected.as_bytes());
        }
        let mut headers = HeaderMap::new();
        assert_eq!(taken(&headers), 0);
        headers.insert(RANGE, "bytes=0-262143".parse().unwrap());
        assert_eq!(taken(&headers), 262_144);
    }
}
