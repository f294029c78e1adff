//! Clients that push, delete, read and list the same few tags.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail, ensure};
use serde_json::json;

use super::{Client, Kind};
use crate::cluster::history::{History, Tag};
use crate::cluster::linearizable::Action;
use crate::cluster::stack::TRIED;
use crate::http::{Answer, Http, array, sha256};
use crate::image::media_type;
use crate::random::Random;

const TIMEOUT: Duration = Duration::from_secs(30);
const REPOSITORY: &str = "contended/app";
const CONFIG: &[u8] = b"{}";
/// To each of the servers.
const MOST_ATTEMPTS: usize = 3;

/// The number of every manifest that somebody has tried to push.
#[derive(Default)]
pub(in crate::cluster) struct Manifests(Mutex<HashMap<String, u64>>);

impl Manifests {
    /// A manifest like no other, with its number.
    fn add(&self) -> Result<(u64, Vec<u8>)> {
        let mut numbers = self.0.lock().ok().context("a client panicked")?;
        let number = numbers.len() as u64 + 1;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": {
                "mediaType": media_type::OCI_CONFIG,
                "digest": sha256(CONFIG),
                "size": CONFIG.len(),
            },
            "layers": [],
            "annotations": {"number": number.to_string()},
        });
        let bytes = manifest.to_string().into_bytes();
        numbers.insert(sha256(&bytes), number);
        Ok((number, bytes))
    }

    fn number(&self, digest: &str) -> Result<u64> {
        let numbers = self.0.lock().ok().context("a client panicked")?;
        let number = numbers.get(digest).copied();
        number.with_context(|| format!("a tag leads to {digest}, which nobody has pushed"))
    }
}

pub(in crate::cluster) struct Tagger<'a> {
    history: &'a History,
    manifests: &'a Manifests,
    random: Random,
    front: Http,
    /// Each server, without the balancer.
    doors: Vec<Http>,
    /// Digests of manifests that were acknowledged.
    acknowledged: Vec<String>,
}

impl<'a> Tagger<'a> {
    pub(in crate::cluster) fn new(
        history: &'a History,
        manifests: &'a Manifests,
        random: Random,
        front: &str,
        replicas: &[String],
    ) -> Self {
        Self {
            history,
            manifests,
            random,
            front: Http::new(front, TIMEOUT),
            doors: replicas.iter().map(|host| Http::new(host, TIMEOUT)).collect(),
            acknowledged: Vec::new(),
        }
    }

    /// What all their manifests name.
    pub(in crate::cluster) fn prepare(front: &str) -> Result<()> {
        Http::new(front, TIMEOUT).push_blob(REPOSITORY, CONFIG)?;
        Ok(())
    }

    fn push(&mut self, tag: &Tag) -> Result<Option<Error>> {
        let (number, bytes) = self.manifests.add()?;
        let write = Action::Write(number);
        let invoked = self.history.now();
        let put =
            self.front.put_manifest(REPOSITORY, &tag.to_string(), media_type::OCI_MANIFEST, &bytes);
        let answer = match clear(put) {
            Ok(answer) => answer.expect(201)?,
            Err(Unclear { error, attempts }) => {
                self.left_open(tag, write, invoked, attempts);
                return Ok(Some(error));
            }
        };
        self.history.answered(tag, write, invoked);
        self.left_open(tag, write, invoked, attempts(&answer) - 1);
        self.acknowledged.push(sha256(&bytes));
        Ok(None)
    }

    fn delete(&self, tag: &Tag) -> Result<Option<Error>> {
        let invoked = self.history.now();
        let unknown = Action::Delete { found: None };
        let answer = match clear(self.front.send("DELETE", &path(tag), &[], ())) {
            Ok(answer) => answer,
            Err(Unclear { error, attempts }) => {
                self.left_open(tag, unknown, invoked, attempts);
                return Ok(Some(error));
            }
        };
        let found = match answer.status() {
            202 => true,
            404 => false,
            _ => bail!(answer.unexpected()),
        };
        let earlier = attempts(&answer) - 1;
        // Of several, the first may have found it.
        let found = (earlier == 0).then_some(found);
        self.history.answered(tag, Action::Delete { found }, invoked);
        self.left_open(tag, unknown, invoked, earlier);
        Ok(None)
    }

    /// So many attempts may have been of effect, or may be yet.
    fn left_open(&self, tag: &Tag, action: Action, invoked: u64, attempts: usize) {
        (0..attempts).for_each(|_| self.history.left_open(tag, action, invoked));
    }

    fn read(&self, tag: &Tag, method: &str, door: &Http) -> Result<Option<Error>> {
        let accept = [("accept", media_type::OCI_MANIFEST)];
        let invoked = self.history.now();
        let answer = match clear(door.send(method, &path(tag), &accept, ())) {
            Ok(answer) => answer,
            Err(Unclear { error, .. }) => return Ok(Some(error)),
        };
        let seen = match answer.status() {
            404 => None,
            200 => {
                let digest = answer.required_header("docker-content-digest")?;
                if method == "GET" {
                    let found = sha256(&answer.body);
                    ensure!(found == digest, "a torn tag: {digest} is announced, {found} comes");
                }
                Some(self.manifests.number(&digest)?)
            }
            _ => bail!(answer.unexpected()),
        };
        self.history.answered(tag, Action::Read(seen), invoked);
        Ok(None)
    }

    fn list(&self, door: &Http) -> Result<Option<Error>> {
        let tags: Vec<_> = (0..self.history.names()).map(|name| self.history.tag(name)).collect();
        let invoked = self.history.now();
        let answer = match clear(door.get(&format!("/v2/{REPOSITORY}/tags/list"))) {
            Ok(answer) => answer,
            Err(Unclear { error, .. }) => return Ok(Some(error)),
        };
        let list = match answer.status() {
            404 => json!({}), // before the first push
            _ => answer.expect(200)?.json()?,
        };
        let listed = array(&list, "tags");
        for tag in &tags {
            let seen = listed.iter().any(|name| *name == tag.to_string());
            self.history.answered(tag, Action::Listed(seen), invoked);
        }
        Ok(None)
    }

    /// Reads through the balancer or at a server. Such a server may be down, and is not missed.
    fn look(&mut self, tag: &Tag) -> Result<Option<Error>> {
        let (what, place) = (self.random.between(0, 9), self.random.between(0, 5));
        let direct = self.doors.get(place);
        let door = direct.unwrap_or(&self.front);
        let seen = match what {
            0 => self.list(door),
            1 | 2 => self.read(tag, "HEAD", door),
            _ => self.read(tag, "GET", door),
        }?;
        Ok(seen.filter(|_| direct.is_none()))
    }
}

impl Client for Tagger<'_> {
    fn kind(&self) -> Kind {
        Kind::Tags
    }

    fn work(&mut self) -> Result<Option<Error>> {
        let tag = self.history.tag(self.random.between(0, self.history.names() - 1));
        match self.random.between(0, 9) {
            0..=2 => self.push(&tag),
            3 => self.delete(&tag),
            _ => self.look(&tag),
        }
    }

    /// What all tags lead to here belongs to the history, too.
    fn check(&mut self, host: &str) -> Result<()> {
        let door = Http::new(host, TIMEOUT);
        for tag in self.history.tags() {
            self.read(&tag, "GET", &door)?.map_or(Ok(()), Err)?;
        }
        for digest in &self.acknowledged {
            let found = door.digest_of(REPOSITORY, digest)?;
            ensure!(found == *digest, "pushed the manifest {digest}, found {found}");
        }
        Ok(())
    }

    fn rest(&self) -> usize {
        60
    }
}

fn path(tag: &Tag) -> String {
    format!("/v2/{REPOSITORY}/manifests/{tag}")
}

/// Why it is not known what became of a request, and how often the balancer sent it.
struct Unclear {
    error: Error,
    attempts: usize,
}

/// An answer that says what became of the request.
fn clear(sent: Result<Answer>) -> Result<Answer, Unclear> {
    match sent {
        Ok(answer) if answer.is_temporary() => {
            Err(Unclear { error: answer.unexpected(), attempts: attempts(&answer) })
        }
        Ok(answer) => Ok(answer),
        Err(error) => Err(Unclear { error, attempts: MOST_ATTEMPTS }),
    }
}

/// To how many servers the balancer sent a request. It sends a small PUT or a DELETE to the next one
/// when the connection to the first breaks, which may have done it by then, or may do it yet.
fn attempts(answer: &Answer) -> usize {
    answer.header(TRIED).map_or(1, |servers| servers.split(", ").count())
}
