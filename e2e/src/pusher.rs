//! A client that pushes this and that, and remembers what was acknowledged.

mod check;
mod tally;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::http::{Answer, Http, sha256, with_query};
use crate::image::media_type;
use crate::random::Random;

pub(crate) use tally::Tally;

const TIMEOUT: Duration = Duration::from_secs(30);
const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");

/// It has a repository of its own, so that it knows the order of what happens
/// there.
pub(crate) struct Pusher {
    host: String,
    http: Http,
    random: Random,
    /// The longest blob.
    longest: usize,
    repository: String,
    /// Where blobs are mounted.
    second: String,
    blobs: Vec<Blob>,
    /// Digests, all in `repository`.
    manifests: Vec<String>,
    tags: BTreeMap<String, Tag>,
    session: Option<Session>,
    /// What was cut off may still come to a server, or come to a second one.
    in_cluster: bool,
    /// Path and bytes of every upload, if they are to be remembered.
    uploads: Option<Vec<(String, Vec<u8>)>>,
    /// How much of `blobs` and `manifests` an earlier start has been checked for.
    seen: (usize, usize),
    tally: Tally,
}

/// A blob that was acknowledged.
#[derive(Clone)]
struct Blob {
    repository: String,
    digest: String,
    length: usize,
}

/// A tag, which moves.
#[derive(Default)]
struct Tag {
    attempts: Vec<String>,
    /// How many attempts there were when the last one was acknowledged.
    acknowledged: usize,
    /// When each attempt ended, and how.
    story: Vec<String>,
}

/// An upload in several requests.
struct Session {
    location: String,
    bytes: Vec<u8>,
    /// Bytes that the registry has confirmed.
    acknowledged: usize,
    sent: usize,
    /// The last request has been sent: the session may be gone.
    finishing: bool,
    ranges: bool,
    resumed: bool,
}

/// Why a client stopped.
enum Halt {
    /// There was no answer.
    Cut(anyhow::Error),
    /// The registry, or what is in front of it, could not do it just then.
    Busy(anyhow::Error),
    /// There was a wrong one.
    Fault(anyhow::Error),
}

impl From<anyhow::Error> for Halt {
    fn from(error: anyhow::Error) -> Self {
        Self::Fault(error)
    }
}

type Step<T = ()> = Result<T, Halt>;

impl Pusher {
    /// A client with a number of its own, whose blobs have up to `longest` bytes.
    pub(crate) fn new(host: &str, number: usize, longest: usize, random: Random) -> Self {
        Self {
            host: host.to_owned(),
            http: Http::new(host, TIMEOUT),
            random,
            longest,
            repository: format!("pushes/{number}"),
            second: format!("mounts/{number}"),
            blobs: Vec::new(),
            manifests: Vec::new(),
            tags: BTreeMap::new(),
            session: None,
            in_cluster: false,
            uploads: None,
            seen: (0, 0),
            tally: Tally::default(),
        }
    }

    /// The same with several servers behind a balancer, and a database of their own: a PUT may be
    /// sent twice, what was cut off may come to a server that wakes up, and a database that crashes
    /// forgets what its last half second brought to uploads.
    pub(crate) fn in_cluster(self) -> Self {
        Self { in_cluster: true, ..self }
    }

    /// The same, keeping what it sends in uploads of several requests.
    pub(crate) fn remembering_uploads(self) -> Self {
        Self { uploads: Some(Vec::new()), ..self }
    }

    /// The path of every upload, and all that was to be sent to it.
    pub(crate) fn uploads(&self) -> impl Iterator<Item = &(String, Vec<u8>)> {
        self.uploads.iter().flatten()
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Has all of them do something at once.
    pub(crate) fn each(
        clients: &mut [Self],
        act: impl Fn(&mut Self) -> Result<()> + Sync,
    ) -> Result<()> {
        std::thread::scope(|scope| {
            let workers = clients.iter_mut().map(|client| scope.spawn(|| act(client)));
            let workers = workers.collect::<Vec<_>>();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| bail!("a client panicked")))
                .fold(Ok(()), Result::and)
        })
    }

    /// Pushes one thing after another until the registry is gone.
    pub(crate) fn work_until_cut(&mut self, killed: &AtomicBool) -> Result<()> {
        loop {
            match self.work() {
                Ok(()) => {}
                Err(Halt::Cut(_)) if killed.load(Ordering::SeqCst) => return Ok(()),
                Err(Halt::Cut(error)) => {
                    return Err(error.context("no answer from a registry that runs"));
                }
                Err(Halt::Busy(error) | Halt::Fault(error)) => return Err(error),
            }
        }
    }

    /// Pushes so many things, one after another.
    pub(crate) fn push(&mut self, things: usize) -> Result<()> {
        for _ in 0..things {
            self.try_to_push()?.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Pushes one thing. What it fails with may be tried again: it is told why. An answer that is
    /// wrong is an error.
    pub(crate) fn try_to_push(&mut self) -> Result<Option<anyhow::Error>> {
        match self.work() {
            Ok(()) => Ok(None),
            Err(Halt::Cut(error) | Halt::Busy(error)) => Ok(Some(error)),
            Err(Halt::Fault(error)) => Err(error),
        }
    }

    /// The path of every tag, and the digests that it was to lead to, in order.
    pub(crate) fn tags(&self) -> impl Iterator<Item = (String, &[String])> {
        self.tags.iter().map(|(tag, history)| {
            (format!("/v2/{}/manifests/{tag}", self.repository), history.attempts.as_slice())
        })
    }

    /// Speaks to the registry under another address from now on.
    pub(crate) fn turn_to(&mut self, host: &str) {
        host.clone_into(&mut self.host);
        self.reconnect();
    }

    /// The registry was started again: the connections to it are dead.
    pub(crate) fn reconnect(&mut self) {
        self.http = Http::new(&self.host, TIMEOUT);
    }

    /// Finishes what was cut off.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        match self.resume() {
            Ok(()) => Ok(()),
            Err(Halt::Cut(error) | Halt::Busy(error) | Halt::Fault(error)) => Err(error),
        }
    }

    fn work(&mut self) -> Step {
        self.resume()?;
        match self.random.between(0, 7) {
            0 => self.push_at_once(),
            1 => self.push_in_chunks(0, false),
            2 => self.push_in_chunks(1, false),
            3 => {
                let chunks = self.random.between(2, 4);
                self.push_in_chunks(chunks, true)
            }
            4 => self.mount(),
            5 => {
                let tag = format!("v{}", self.tags.len());
                self.push_manifest(&tag)
            }
            _ => self.push_manifest("latest"),
        }
    }

    /// The blob in the request that opens the upload.
    fn push_at_once(&mut self) -> Step {
        let bytes = self.content();
        let digest = sha256(&bytes);
        let path = format!("/v2/{}/blobs/uploads/?digest={digest}", self.repository);
        self.send("POST", &path, &[OCTETS], &bytes, 201)?;
        self.acknowledge_blob(digest, bytes.len());
        Ok(())
    }

    /// Opens an upload, sends so many chunks, and ends it. Without `ranges`
    /// the chunks are streams without a length, as docker sends them.
    fn push_in_chunks(&mut self, chunks: usize, ranges: bool) -> Step {
        let bytes = self.content();
        self.upload(bytes, chunks, ranges)
    }

    fn upload(&mut self, bytes: Vec<u8>, chunks: usize, ranges: bool) -> Step {
        let path = format!("/v2/{}/blobs/uploads/", self.repository);
        let location = self.send("POST", &path, &[], &[], 202)?.required_header("location")?;
        if let Some(uploads) = &mut self.uploads {
            uploads.push((path_of(&location).to_owned(), bytes.clone()));
        }
        self.session = Some(Session {
            location,
            bytes,
            acknowledged: 0,
            sent: 0,
            finishing: false,
            ranges,
            resumed: false,
        });
        self.send_chunks(chunks)
    }

    /// Goes on with an upload from the offset that the registry reports.
    fn resume(&mut self) -> Step {
        if self.in_cluster
            && let Some(session) = self.session.take_if(|session| !session.ranges)
        {
            // It would be added to what is there. Docker, too, starts again.
            return self.upload(session.bytes, 1, false);
        }
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let answer = answered(self.http.get(&session.location))?;
        if session.finishing && answer.status() == 404 {
            return self.resume_finished();
        }
        let answer = answer.expect(204)?;
        let arrived = arrived(&answer)?;
        // Only the server that ended it knows that there was one of this name.
        if session.finishing && arrived == 0 {
            return self.resume_finished();
        }
        let is_back = arrived < session.acknowledged;
        if is_back || arrived > session.sent {
            return Err(Halt::Fault(anyhow::anyhow!(
                "an upload stands at {arrived}: {} bytes were acknowledged, {} sent",
                session.acknowledged,
                session.sent
            )));
        }
        session.acknowledged = arrived;
        session.resumed = true;
        session.location = answer.required_header("location")?;
        self.send_chunks(2)
    }

    /// The session is gone after its last request: then the blob is there, or
    /// the client has to start again.
    fn resume_finished(&mut self) -> Step {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        let digest = sha256(&session.bytes);
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        if answered(self.http.head(&path))?.status() == 200 {
            self.tally.completed += 1;
            self.acknowledge_blob(digest, session.bytes.len());
            return Ok(());
        }
        self.tally.gone += 1;
        self.tally.lost += usize::from(session.acknowledged > 0);
        let path = format!("/v2/{}/blobs/uploads/?digest={digest}", self.repository);
        self.send("POST", &path, &[OCTETS], &session.bytes, 201)?;
        self.acknowledge_blob(digest, session.bytes.len());
        Ok(())
    }

    /// Sends what is left of the session's bytes: so many chunks, and the rest
    /// with the request that ends it.
    fn send_chunks(&mut self, chunks: usize) -> Step {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        for chunk in 1..=chunks {
            let start = session.acknowledged;
            // A PUT has no range.
            let all = self.in_cluster && session.ranges && chunk == chunks;
            let least = if all { session.bytes.len() } else { start };
            let end = self.random.between(least, session.bytes.len());
            if end < start + 2 {
                continue;
            }
            let chunk = session.bytes.get(start..end).unwrap_or_default();
            session.sent = session.sent.max(end);
            let range = format!("{start}-{}", end - 1);
            let sent = if session.ranges {
                let headers = [OCTETS, ("content-range", range.as_str())];
                self.http.send("PATCH", &session.location, &headers, chunk)
            } else {
                // A reader has no length: it goes out chunk by chunk.
                let body = ureq::SendBody::from_owned_reader(Cursor::new(chunk.to_vec()));
                self.http.send("PATCH", &session.location, &[OCTETS], body)
            };
            let answer = answered(sent)?;
            if session.finishing && answer.status() == 404 {
                return self.resume_finished();
            }
            if session.resumed && self.in_cluster && answer.status() == 416 {
                return Err(Halt::Busy(answer.unexpected()));
            }
            session.location = answer.expect(202)?.required_header("location")?;
            session.acknowledged = end;
        }
        let digest = sha256(&session.bytes);
        let rest = session.bytes.get(session.acknowledged..).unwrap_or_default();
        let path = with_query(&session.location, "digest", &digest);
        let again = std::mem::replace(&mut session.finishing, true) || self.in_cluster;
        session.sent = session.bytes.len();
        let answer = answered(self.http.send("PUT", &path, &[OCTETS], rest))?;
        if again && answer.status() == 404 {
            return self.resume_finished();
        }
        answer.expect(201)?;
        let length = session.bytes.len();
        self.tally.resumed += usize::from(session.resumed);
        let resumed = session.resumed;
        self.session = None;
        self.acknowledge_blob(digest.clone(), length);
        if resumed {
            let path = format!("/v2/{}/blobs/{digest}", self.repository);
            let answer = answered(self.http.get(&path))?.expect(200)?;
            let found = sha256(&answer.body);
            if found != digest {
                return Err(Halt::Fault(anyhow::anyhow!("resumed {digest}, kept {found}")));
            }
        }
        Ok(())
    }

    fn mount(&mut self) -> Step {
        let Some(blob) = self.some_blob() else {
            return Ok(());
        };
        let path = format!(
            "/v2/{}/blobs/uploads/?mount={}&from={}",
            self.second, blob.digest, self.repository
        );
        self.send("POST", &path, &[], &[], 201)?;
        self.tally.mounts += 1;
        self.blobs.push(Blob { repository: self.second.clone(), ..blob });
        Ok(())
    }

    fn push_manifest(&mut self, tag: &str) -> Step {
        let (Some(config), Some(layer)) = (self.some_blob(), self.some_blob()) else {
            return Ok(());
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": {
                "mediaType": media_type::OCI_CONFIG,
                "digest": config.digest,
                "size": config.length,
            },
            "layers": [{
                "mediaType": media_type::OCI_LAYER_GZIP,
                "digest": layer.digest,
                "size": layer.length,
            }],
            "annotations": {"number": self.random.next().to_string()},
        })
        .to_string();
        let digest = sha256(manifest.as_bytes());
        let moved = {
            let history = self.tags.entry(tag.to_owned()).or_default();
            history.attempts.push(digest.clone());
            history.attempts.len()
        };
        let path = format!("/v2/{}/manifests/{tag}", self.repository);
        let headers = [("content-type", media_type::OCI_MANIFEST)];
        let begun = Instant::now();
        let sent = self.send("PUT", &path, &headers, manifest.as_bytes(), 201);
        if let Some(history) = self.tags.get_mut(tag) {
            let outcome = match &sent {
                Ok(answer) => answer.header("x-tried").unwrap_or("acknowledged").to_owned(),
                Err(Halt::Cut(error) | Halt::Busy(error) | Halt::Fault(error)) => {
                    format!("{error:#}").replace('\n', " ")
                }
            };
            let lasted = begun.elapsed().as_millis();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = now.as_millis() % 1_000_000;
            history.story.push(format!("{now} {digest}, {lasted} ms: {outcome:.300}"));
        }
        sent?;
        if let Some(history) = self.tags.get_mut(tag) {
            history.acknowledged = moved;
        }
        self.manifests.push(digest);
        self.tally.manifests += 1;
        self.tally.moves += usize::from(moved > 1);
        Ok(())
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        status: u16,
    ) -> Step<Answer> {
        Ok(answered(self.http.send(method, path, headers, body))?.expect(status)?)
    }

    fn acknowledge_blob(&mut self, digest: String, length: usize) {
        self.tally.blobs += 1;
        self.blobs.push(Blob { repository: self.repository.clone(), digest, length });
    }

    fn some_blob(&mut self) -> Option<Blob> {
        let own: Vec<_> =
            self.blobs.iter().filter(|blob| blob.repository == self.repository).collect();
        let at = self.random.between(0, own.len().checked_sub(1)?);
        own.get(at).copied().cloned()
    }

    /// Mostly small, sometimes up to the longest.
    fn content(&mut self) -> Vec<u8> {
        let limit = if self.random.one_in(12) { self.longest } else { self.longest.min(60_000) };
        let length = self.random.between(1, limit);
        self.random.bytes(length)
    }
}

/// An answer that tells something about the request.
fn answered(sent: Result<Answer>) -> Step<Answer> {
    let answer = sent.map_err(Halt::Cut)?;
    if answer.is_temporary() { Err(Halt::Busy(answer.unexpected())) } else { Ok(answer) }
}

/// How many bytes of an upload the registry has.
pub(crate) fn arrived(progress: &Answer) -> Result<usize> {
    let range = progress.required_header("range")?;
    let last = range.strip_prefix("0-").with_context(|| format!("not a range: {range}"))?;
    let last: usize = last.parse()?;
    // `0-0` means nothing yet, or one byte, which nobody sends here.
    Ok(if last == 0 { 0 } else { last + 1 })
}

/// The path and query of a `Location`, which may be absolute.
pub(crate) fn path_of(location: &str) -> &str {
    match location.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => location,
    }
}
