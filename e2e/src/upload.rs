//! Uploads that are interrupted: what arrived is kept, and the client goes on
//! from there.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::http::{Http, sha256, with_query};
use crate::image;
use crate::registry::Registry;
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("upload: a connection lost and resumed", 60, lost_connection),
    Scenario::new("upload: resumed after a restart", 60, restart),
];

const REPOSITORY: &str = "team/resumed";
const LENGTH: usize = 3_000_000;
/// How much is sent before the connection breaks.
const SENT: usize = 1_000_000;

fn lost_connection(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let bytes = image::pseudo_random("lost connection", LENGTH);
        let location = path_of(&registry.http.open_upload(REPOSITORY)?);
        let mut connection = TcpStream::connect(&registry.host)?;
        write!(
            connection,
            "PATCH {location} HTTP/1.1\r\nHost: {}\r\nContent-Length: {LENGTH}\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            registry.host
        )?;
        connection.write_all(bytes.get(..SENT).context("too short")?)?;
        drop(connection);
        // Until the registry has seen the end, the session has its writer.
        let (location, arrived) = wait_until(Duration::from_secs(20), || {
            let (location, arrived) = progress(&registry.http, &location)?;
            ensure!(arrived > 0, "nothing of {SENT} bytes was kept");
            Ok((location, arrived))
        })?;
        ensure!(arrived <= SENT, "sent {SENT} bytes, kept {arrived}");
        finish(registry, &location, &bytes, arrived)
    })
}

fn restart(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let bytes = image::pseudo_random("restart", LENGTH);
        let location = registry.http.open_upload(REPOSITORY)?;
        let location = registry
            .http
            .send(
                "PATCH",
                &location,
                &[("content-type", "application/octet-stream")],
                bytes.get(..SENT).context("too short")?,
            )?
            .expect(202)?
            .required_header("location")?;
        registry.stop()?;
        registry.restart(stage)?;
        let (location, arrived) = progress(&registry.http, &location)?;
        ensure!(arrived == SENT, "acknowledged {SENT} bytes, kept {arrived}");
        finish(registry, &location, &bytes, arrived)
    })
}

/// Where an upload stands: the `Location` to go on with, and how many bytes
/// there are.
fn progress(http: &Http, location: &str) -> Result<(String, usize)> {
    let status = http.get(location)?.expect(204)?;
    let range = status.required_header("range")?;
    let last = range.strip_prefix("0-").with_context(|| format!("not a range: {range}"))?;
    let last: usize = last.parse()?;
    // `0-0` means nothing yet, or one byte, which nobody sends here.
    let arrived = if last == 0 { 0 } else { last + 1 };
    Ok((status.required_header("location")?, arrived))
}

/// Sends what is missing and reads the whole back.
fn finish(registry: &Registry, location: &str, bytes: &[u8], arrived: usize) -> Result<()> {
    let http = &registry.http;
    let rest = bytes.get(arrived..).context("more than was sent")?;
    let location = http
        .send(
            "PATCH",
            location,
            &[
                ("content-type", "application/octet-stream"),
                ("content-range", &format!("{arrived}-{}", bytes.len() - 1)),
            ],
            rest,
        )?
        .expect(202)?
        .required_header("location")?;
    let digest = sha256(bytes);
    http.send("PUT", &with_query(&location, "digest", &digest), &[], &[] as &[u8])?.expect(201)?;
    let (length, found) = http.digest_of_body(&format!("/v2/{REPOSITORY}/blobs/{digest}"))?;
    ensure!(length == bytes.len() as u64 && found == digest, "sent {digest}, kept {found}");
    Ok(())
}

/// The path and query of a `Location`, which may be absolute.
fn path_of(location: &str) -> String {
    match location.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => location,
    }
    .to_owned()
}
