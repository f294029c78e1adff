//! Clients that are slow, silent, or speak another protocol.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::http::{sha256, with_query};
use crate::image::pseudo_random;
use crate::pusher::path_of;
use crate::scenario::Stage;

const REPOSITORY: &str = "trouble/clients";

/// A kilobyte now and then for six seconds is slow, but it moves.
pub(super) fn slow_upload(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let bytes = pseudo_random("slow", 30_000);
        let location = registry.http.open_upload(REPOSITORY)?;
        let mut connection = TcpStream::connect(&registry.host)?;
        write!(
            connection,
            "PATCH {} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            path_of(&location),
            registry.host,
            bytes.len()
        )?;
        for part in bytes.chunks(1000) {
            connection.write_all(part).context("cut while it was moving")?;
            std::thread::sleep(Duration::from_millis(200));
        }
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 202 "), "expected 202, found {answer}");
        let digest = sha256(&bytes);
        registry
            .http
            .send("PUT", &with_query(&location, "digest", &digest), &[], &[] as &[u8])?
            .expect(201)?;
        Ok(())
    })
}

/// Docker tries TLS first and waits for an answer of any kind.
pub(super) fn tls_hello(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        // A record of type handshake with a ClientHello of 508 bytes in it.
        let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        hello.extend(pseudo_random("hello", 506));
        let mut connection = TcpStream::connect(&registry.host)?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let start = Instant::now();
        connection.write_all(&hello)?;
        let took = wait_for_end(&mut connection, start)?;
        ensure!(took < Duration::from_secs(1), "answered after {} ms", took.as_millis());
        registry.http.get("/v2/")?.expect(200)?;
        Ok(())
    })
}

/// Who says nothing is cut after a minute, whatever was said before.
pub(super) fn silent(stage: &Stage) -> Result<()> {
    let limit = Duration::from_secs(75);
    stage.with_registry(|registry| {
        let host = &registry.host;
        let location = registry.http.open_upload(REPOSITORY)?;
        let head = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nX-Half:");
        let body = format!(
            "PATCH {} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\nhalf",
            path_of(&location)
        );
        let beginnings = [("nothing", ""), ("half a head", &head), ("half a body", &body)];
        std::thread::scope(|scope| {
            let waits: Vec<_> = beginnings
                .into_iter()
                .map(|(what, text)| scope.spawn(move || (what, cut_after(host, text, limit))))
                .collect();
            for wait in waits {
                let (what, cut) = wait.join().ok().context("a client panicked")?;
                let took = cut.with_context(|| format!("a client that sent {what}"))?;
                ensure!(
                    took > Duration::from_secs(20),
                    "a client that sent {what} was cut after {} ms already",
                    took.as_millis()
                );
            }
            Ok(())
        })
    })
}

/// How long the registry waits for the rest.
fn cut_after(host: &str, text: &str, limit: Duration) -> Result<Duration> {
    let mut connection = TcpStream::connect(host)?;
    connection.set_read_timeout(Some(limit))?;
    let start = Instant::now();
    connection.write_all(text.as_bytes())?;
    wait_for_end(&mut connection, start)
}

/// Until the other side has closed, with an answer or without.
fn wait_for_end(connection: &mut TcpStream, start: Instant) -> Result<Duration> {
    let mut answer = Vec::new();
    match connection.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
            Err(error).context("the registry neither answered nor closed")
        }
        _ => Ok(start.elapsed()),
    }
}
