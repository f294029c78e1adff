//! The same requests to Debian's docker-registry and to the registry under
//! test, and what the answers have in common. Every difference is either
//! accepted, with a reason that `docs/migrate.md` states, or a failure.

mod accepted;
mod requests;
mod wire;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::http::sha256;
use crate::ports::free_port;
use crate::scenario::{Scenario, Stage, wait_until};
use accepted::ACCEPTED;
use requests::Request;
use wire::Answer;

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("differential: answers beside docker-registry's", 120, compare)];

const CONFIGURATION: &str = "
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: FOLDER}
  delete: {enabled: true}
http:
  addr: ADDRESS
  headers: {X-Content-Type-Options: [nosniff]}
";

/// Headers that are compared; others are the business of each server.
const HEADERS: &[&str] = &[
    "accept-ranges",
    "allow",
    "cache-control",
    "content-length",
    "content-range",
    "content-type",
    "docker-content-digest",
    "docker-distribution-api-version",
    "docker-upload-uuid",
    "etag",
    "link",
    "location",
    "range",
    "www-authenticate",
    "x-content-type-options",
];

fn compare(stage: &Stage) -> Result<()> {
    let theirs = play(stage, "docker-registry", "theirs")?;
    let ours = play(stage, &stage.binary().to_string_lossy(), "ours")?;
    ensure!(theirs.len() == ours.len(), "not the same requests");
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for (their, our) in theirs.iter().zip(&ours) {
        for difference in differences(their, our) {
            let rule = ACCEPTED.iter().position(|rule| rule.covers(&their.name, &difference));
            match rule {
                Some(rule) => drop(used.insert(rule)),
                None => wrong.push(format!(
                    "{}: {}: theirs {}, ours {}",
                    their.name, difference.aspect, difference.theirs, difference.ours
                )),
            }
        }
    }
    for (number, rule) in ACCEPTED.iter().enumerate() {
        if !used.contains(&number) {
            wrong.push(format!("a rule without a difference: {}", rule.reason));
        }
        let documentation = include_str!("../../docs/migrate.md");
        if !documentation.contains(rule.reason) {
            wrong.push(format!("not in docs/migrate.md: {}", rule.reason));
        }
    }
    crate::say(&format!(
        "differential: {} requests, {} kinds of accepted differences",
        ours.len(),
        used.len()
    ));
    ensure!(wrong.is_empty(), "{} differences:\n      {}", wrong.len(), wrong.join("\n      "));
    Ok(())
}

/// What a server said to one request.
struct Observation {
    name: String,
    answer: Answer,
}

/// Starts a server on an empty store and sends it everything.
fn play(stage: &Stage, program: &str, folder: &'static str) -> Result<Vec<Observation>> {
    let host = format!("127.0.0.1:{}", free_port()?);
    let store = stage.folder(folder)?;
    let text = CONFIGURATION.replace("FOLDER", &store.to_string_lossy()).replace("ADDRESS", &host);
    let configuration = stage.file(&format!("{folder}.yml"), text)?;
    let mut server = stage.daemon(folder, program, |command| {
        command.arg("serve").arg(&configuration);
    })?;
    wait_until(std::time::Duration::from_secs(20), || {
        server.is_running()?;
        Request::get("start", "/").send(&host).map(drop)
    })?;
    let played = answers(&host);
    let _ = server.kill();
    played.with_context(|| format!("asking {folder}{}", server.log_tail()))
}

fn answers(host: &str) -> Result<Vec<Observation>> {
    let mut session = String::new();
    let (mut names, mut seen) = (BTreeSet::new(), Vec::new());
    for request in requests::all() {
        ensure!(names.insert(request.name.clone()), "two requests called {:?}", request.name);
        let mut answer = request
            .on(&session)
            .send(host)
            .with_context(|| format!("{}: no answer", request.name))?;
        if let Some(location) = answer.header("location").filter(|to| to.contains("/uploads/")) {
            session = location.replace(&format!("http://{host}"), "");
        }
        answer.normalise(host);
        seen.push(Observation { name: request.name, answer });
    }
    Ok(seen)
}

/// A difference between two answers in one aspect: `status`, `body` or the
/// name of a header.
struct Difference {
    aspect: &'static str,
    theirs: String,
    ours: String,
}

fn differences(their: &Observation, our: &Observation) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut note = |aspect, theirs: String, ours: String| {
        if theirs != ours {
            found.push(Difference { aspect, theirs, ours });
        }
    };
    let (theirs, ours) = (&their.answer, &our.answer);
    note("status", theirs.status.to_string(), ours.status.to_string());
    for &name in HEADERS {
        // The length of an error is that of its words.
        if name == "content-length" && theirs.status >= 400 && ours.status >= 400 {
            continue;
        }
        let value = |answer: &Answer| answer.header(name).unwrap_or("-").to_owned();
        note(name, value(theirs), value(ours));
    }
    note("body", comparable(theirs), comparable(ours));
    found
}

/// A body as far as clients depend on it: of an error its codes, of other JSON
/// its meaning, else the bytes.
fn comparable(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let Ok(value) = serde_json::from_slice::<Value>(&answer.body) else {
        return match std::str::from_utf8(&answer.body) {
            Ok(text) => text.trim_end().to_owned(),
            Err(_) => sha256(&answer.body),
        };
    };
    match value.get("errors").and_then(Value::as_array) {
        Some(errors) => {
            let codes: Vec<&str> =
                errors.iter().filter_map(|error| error.get("code")?.as_str()).collect();
            format!("errors {}", codes.join(" "))
        }
        // A manifest is compared to the byte.
        None if value.get("schemaVersion").is_some() => text,
        None => value.to_string(),
    }
}

impl Answer {
    /// Takes out what differs from run to run: the address, the ids of
    /// uploads, and the state that docker-registry adds to their URLs.
    fn normalise(&mut self, host: &str) {
        for (name, value) in &mut self.headers {
            *value = value.replace(host, "HOST");
            match name.as_str() {
                "docker-upload-uuid" => "UUID".clone_into(value),
                "location" if value.contains("/blobs/uploads/") => {
                    let (path, _) = value.split_once('?').unwrap_or((value, ""));
                    let (start, _) = path.rsplit_once('/').unwrap_or((path, ""));
                    *value = format!("{start}/UUID");
                }
                _ => {}
            }
        }
    }
}

impl Request {
    fn send(&self, host: &str) -> Result<Answer> {
        wire::send(host, self)
    }
}
