//! Objects in segments.
//!
//! A segment is an object `segments/<key>/<attempt>/<number>`. While they are written, an empty
//! object `attempts/<key>/<attempt>` says so: without it, one would have to look at all segments
//! to see which belong to nothing.

use std::time::SystemTime;

use ::http::header::{ACCEPT, ETAG};
use ::http::{HeaderName, HeaderValue, Method};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::container::{Entry, JSON};
use super::{Swift, time};
use crate::requests::{Answer, Ask};
use crate::{Attempt, Error, ErrorKind};

/// How many segments every store takes in a manifest.
const SEGMENTS: usize = 1000;

/// On a manifest: which attempt it has ended.
const ENDED: HeaderName = HeaderName::from_static("x-object-meta-orlop-attempt");

/// A segment in a manifest.
#[derive(Serialize)]
struct Segment {
    path: String,
    etag: Option<String>,
    size_bytes: Option<u64>,
}

/// What is answered to what takes long.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    #[serde(rename = "Response Status")]
    status: String,
    #[serde(default)]
    errors: Vec<(String, String)>,
}

impl Swift {
    pub(super) async fn begin_large(&self, key: &str) -> Result<String, Error> {
        let name = uuid::Uuid::now_v7().simple().to_string();
        let mark = self.mark(Method::PUT, "begin", key, &name);
        self.put_object(mark, Vec::new()).await?;
        Ok(name)
    }

    pub(super) async fn put_segment(
        &self,
        key: &str,
        attempt: &str,
        number: usize,
        content: Vec<Bytes>,
    ) -> Result<String, Error> {
        let size = content.iter().map(Bytes::len).sum::<usize>();
        // Two servers may write the same part; each keeps its own.
        let name = format!("{number:08}-{}", uuid::Uuid::now_v7().simple());
        let place = self.segment(key, attempt, &name);
        let put = Ask::new(Method::PUT, format!("put a part of object {key}"), place);
        let answer = self.container.done(&put.content(content)).await?;
        let etag = answer.header(&ETAG).unwrap_or_default().trim_matches('"');
        Ok(format!("{name}:{etag}:{size}"))
    }

    pub(super) async fn complete_large(
        &self,
        key: &str,
        attempt: &str,
        mut parts: Vec<String>,
        last: Vec<Bytes>,
    ) -> Result<(), Error> {
        let has_last = last.iter().any(|bytes| !bytes.is_empty());
        if has_last {
            parts.push(self.put_segment(key, attempt, parts.len(), last).await?);
        }
        let completed = self.put_manifests(key, attempt, &parts).await;
        let is_over = |error: &Error| error.kind() == ErrorKind::NotFound;
        if has_last && completed.as_ref().is_err_and(is_over) {
            // Nobody would look for the last one any more.
            let last = parts.last().and_then(|part| part.split_once(':'));
            let (name, _) = last.unwrap_or_default();
            self.delete_below(&self.segment(key, attempt, name)).await?;
        }
        completed?;
        let mark = self.mark(Method::DELETE, "complete", key, attempt);
        if let Err(error) = self.container.removed(&mark).await {
            // Whoever aborts it will see that it was completed.
            tracing::info!(%error, "an attempt that has ended is still listed");
        }
        Ok(())
    }

    /// Writes what says of which parts the object consists.
    async fn put_manifests(&self, key: &str, attempt: &str, parts: &[String]) -> Result<(), Error> {
        let segments = parts.iter().map(|part| {
            let (name, rest) = part.split_once(':').unwrap_or_default();
            let (etag, size) = rest.rsplit_once(':').unwrap_or_default();
            Segment {
                path: self.path(&self.segment(key, attempt, name)),
                etag: Some(etag.to_owned()).filter(|etag| !etag.is_empty()),
                size_bytes: size.parse().ok(),
            }
        });
        let mut segments = segments.collect::<Vec<_>>();
        if segments.len() > SEGMENTS {
            segments = self.put_inner_manifests(key, attempt, &segments).await?;
        }
        let ask = self.ask(Method::PUT, "complete", key);
        let ended = HeaderValue::from_str(attempt);
        let ended = ended.map_err(|_| ask.failed("such an attempt was never begun"))?;
        self.put_manifest(ask.header(ENDED, ended), &segments).await
    }

    /// Removes the segments of what was not completed.
    pub(super) async fn abort_large(&self, key: &str, attempt: &str) -> Result<(), Error> {
        let head = self.ask(Method::HEAD, "abort", key);
        let found = self.container.head(&head).await?;
        if found.as_ref().and_then(|answer| answer.header(&ENDED)) != Some(attempt) {
            self.delete_below(&format!("{}{key}/{attempt}/", self.segments)).await?;
        }
        self.container.removed(&self.mark(Method::DELETE, "abort", key, attempt)).await
    }

    pub(super) async fn list_attempts(&self, prefix: &str) -> Result<Vec<Attempt>, Error> {
        let listed = self.container.list_all(&format!("{}{prefix}", self.attempts)).await?;
        let attempts = listed.into_iter().filter_map(|entry| {
            let Entry::Object { name, last_modified, .. } = entry else { return None };
            let (key, attempt) = name.strip_prefix(&self.attempts)?.rsplit_once('/')?;
            let begun = time(&last_modified).map_or_else(SystemTime::now, SystemTime::from);
            Some(Attempt { key: key.to_owned(), name: attempt.to_owned(), begun })
        });
        Ok(attempts.collect())
    }

    /// Removes a manifest and its segments.
    pub(super) async fn delete_large(&self, ask: Ask) -> Result<(), Error> {
        let ask = ask.query("multipart-manifest", "delete").header(ACCEPT, JSON);
        let answer = self.container.done(&ask).await?;
        match outcome(&ask, &answer) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    /// Removes the segments to which a dynamic manifest points, as registry:2 writes them.
    pub(super) async fn delete_segments_of(&self, manifest: &str) -> Result<(), Error> {
        let manifest = percent_decode_str(manifest).decode_utf8_lossy();
        let prefix = manifest.split_once('/').filter(|(name, _)| *name == self.container.name());
        match prefix.and_then(|(_, prefix)| Some((prefix, prefix.strip_prefix(&self.segments)?))) {
            Some((prefix, rest)) if !rest.is_empty() => self.delete_below(prefix).await,
            // Nobody knows what else lies there.
            _ => Ok(()),
        }
    }

    async fn delete_below(&self, prefix: &str) -> Result<(), Error> {
        for entry in self.container.list_all(prefix).await? {
            let Entry::Object { name, .. } = entry else { continue };
            let ask = Ask::new(Method::DELETE, format!("delete segment {name}"), name);
            self.container.removed(&ask).await?;
        }
        Ok(())
    }

    /// Writes manifests that each have as many segments as they may.
    async fn put_inner_manifests(
        &self,
        key: &str,
        attempt: &str,
        segments: &[Segment],
    ) -> Result<Vec<Segment>, Error> {
        let mut manifests = Vec::new();
        for (number, segments) in segments.chunks(SEGMENTS).enumerate() {
            let name = format!("{}{key}/{attempt}/manifest-{number:05}", self.segments);
            let path = self.path(&name);
            let ask = Ask::new(Method::PUT, format!("complete object {key}"), name);
            self.put_manifest(ask, segments).await?;
            manifests.push(Segment { path, etag: None, size_bytes: None });
        }
        Ok(manifests)
    }

    /// <https://docs.openstack.org/swift/latest/overview_large_objects.html#static-large-objects>
    async fn put_manifest(&self, ask: Ask, segments: &[Segment]) -> Result<(), Error> {
        let manifest = serde_json::to_vec(segments).unwrap_or_default();
        let ask = ask
            .query("multipart-manifest", "put")
            // The store looks at each segment, and says meanwhile that it has not fallen asleep.
            .query("heartbeat", "on")
            .header(ACCEPT, JSON)
            .content(vec![manifest.into()]);
        let answer = self.container.send(&ask).await?;
        if answer.status == ::http::StatusCode::CREATED {
            return Ok(());
        }
        outcome(&ask, &answer)
    }

    fn mark(&self, method: Method, action: &str, key: &str, attempt: &str) -> Ask {
        let name = format!("{}{key}/{attempt}", self.attempts);
        Ask::new(method, format!("{action} object {key}"), name)
    }

    fn segment(&self, key: &str, attempt: &str, name: &str) -> String {
        format!("{}{key}/{attempt}/{name}", self.segments)
    }

    fn path(&self, name: &str) -> String {
        format!("/{}/{name}", self.container.name())
    }
}

/// What the answer says in its text, where its status was said before it was known.
fn outcome(ask: &Ask, answer: &Answer) -> Result<(), Error> {
    let Ok(outcome) = serde_json::from_slice::<Outcome>(&answer.content) else {
        return Err(ask.refused(answer));
    };
    let Outcome { status, errors } = outcome;
    if status.starts_with('2') && errors.is_empty() {
        return Ok(());
    }
    let is_missing = |text: &str| text.starts_with("404");
    let is_missing = is_missing(&status) || errors.iter().any(|(_, error)| is_missing(error));
    let kind = if is_missing { ErrorKind::NotFound } else { ErrorKind::Other };
    let first = errors.first().map(|(name, error)| format!(" ({name}: {error})"));
    Err(Error::new(kind, ask.context.clone(), format!("{status}{}", first.unwrap_or_default())))
}
