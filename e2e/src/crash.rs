//! The registry is killed, again and again, while clients push: what it has
//! acknowledged must be there after each start, whole, and what it was in the
//! middle of can be gone on with.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::http::{sha256, with_query};
use crate::image;
use crate::pusher::{Pusher, Tally, arrived, path_of};
use crate::random::Random;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("crash: killed 40 times while clients push", 240, |stage| killed(stage, 40)),
    Scenario::new("crash: SIGTERM during a slow upload", 60, terminated),
    Scenario::new("crash: a clean stop leaves one database file", 60, clean_stop),
    Scenario::new("crash: killed 400 times while clients push", 2400, |stage| killed(stage, 400))
        .long(),
];

const CLIENTS: usize = 6;
/// The longest blob: many times what the registry takes in at once.
const LONGEST: usize = 3_000_000;
/// The longest time from the start of the process to its first answer.
const START_LIMIT: Duration = Duration::from_secs(2);
/// How long the clients may work before the kill.
const MILLISECONDS: (usize, usize) = (1, 80);

fn killed(stage: &Stage, kills: usize) -> Result<()> {
    stage.with_registry(|registry| {
        let mut random = Random::printed("crash");
        let mut clients: Vec<Pusher> = (0..CLIENTS)
            .map(|number| Pusher::new(&registry.host, number, LONGEST, random.fork()))
            .collect();
        let mut slowest = Duration::ZERO;
        for kill in 1..=kills {
            let pause = random.between(MILLISECONDS.0, MILLISECONDS.1);
            work_until_killed(registry, &mut clients, Duration::from_millis(pause as u64))
                .with_context(|| format!("before kill {kill}"))?;
            let start = Instant::now();
            registry.restart(stage)?;
            slowest = slowest.max(start.elapsed());
            Pusher::each(&mut clients, Pusher::check_sample)
                .with_context(|| format!("after kill {kill}"))?;
        }
        Pusher::each(&mut clients, Pusher::go_on)?;
        Pusher::each(&mut clients, Pusher::check_all)?;
        let tally =
            clients.iter().fold(Tally::default(), |tally, client| tally.plus(client.tally()));
        crate::say(&format!(
            "crash: {kills} kills, {tally}, slowest start {} ms",
            slowest.as_millis()
        ));
        ensure!(slowest < START_LIMIT, "a start took {} ms", slowest.as_millis());
        tally.is_good()
    })
}

/// Lets all clients push, and kills the registry in the middle of it.
fn work_until_killed(
    registry: &mut Registry,
    clients: &mut [Pusher],
    pause: Duration,
) -> Result<()> {
    let killed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers =
            scope.spawn(|| Pusher::each(clients, |client| client.work_until_cut(&killed)));
        // The moment is random; nothing is waited for.
        std::thread::sleep(pause);
        killed.store(true, Ordering::SeqCst);
        let ended = registry.kill();
        let worked = workers.join().unwrap_or_else(|_| anyhow::bail!("a client panicked"));
        ended.and(worked)
    })
}

const REPOSITORY: &str = "crash/slow";
const LENGTH: usize = 200_000;
const DRAIN: Duration = Duration::from_secs(1);
/// Over the drain limit: saving, and a busy machine.
const STOP_LIMIT: Duration = Duration::from_secs(5);

fn terminated(stage: &Stage) -> Result<()> {
    let configuration = "version: 0.1\nhttp: {draintimeout: 1s}\n";
    let setup = Setup::configuration(configuration);
    stage.with_registry_set_up(&setup, |registry| {
        let bytes = image::pseudo_random("terminated", LENGTH);
        let location = registry.http.open_upload(REPOSITORY)?;
        let (sent, took) = stop_while_sending(registry, &location, &bytes)?;
        ensure!(took < STOP_LIMIT, "it took {} ms to stop", took.as_millis());

        registry.restart(stage)?;
        let progress = registry.http.get(&location)?.expect(204)?;
        let kept = arrived(&progress)?;
        ensure!(kept > 0 && kept <= sent, "sent {sent} bytes, kept {kept}");
        let rest = bytes.get(kept..).context("more than was sent")?;
        let digest = sha256(&bytes);
        let location = progress.required_header("location")?;
        let headers = [("content-type", "application/octet-stream")];
        registry
            .http
            .send("PUT", &with_query(&location, "digest", &digest), &headers, rest)?
            .expect(201)?;
        let (_, found) =
            registry.http.digest_of_body(&format!("/v2/{REPOSITORY}/blobs/{digest}"))?;
        ensure!(found == digest, "sent {digest}, kept {found}");
        Ok(())
    })
}

/// Sends a little now and then, has the registry stopped meanwhile, and sees
/// that nobody can connect any more. How much was sent, and how long the stop
/// took.
fn stop_while_sending(
    registry: &mut Registry,
    location: &str,
    bytes: &[u8],
) -> Result<(usize, Duration)> {
    let host = registry.host.clone();
    let path = path_of(location);
    let mut connection = TcpStream::connect(&host)?;
    write!(
        connection,
        "PATCH {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {LENGTH}\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )?;
    let (first, rest) = bytes.split_at_checked(10_000).context("too short")?;
    connection.write_all(first)?;
    wait_until(STOP_LIMIT, || {
        let is_running = registry.metrics()?.contains("orlop_http_in_flight_requests 1\n");
        ensure!(is_running, "the upload has not begun");
        Ok(())
    })?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut sent = first.len();
            for part in rest.chunks(1000) {
                if connection.write_all(part).is_err() {
                    break;
                }
                sent += part.len();
                std::thread::sleep(Duration::from_millis(50));
            }
            sent
        });
        let start = Instant::now();
        let refused = scope.spawn(move || {
            wait_until(STOP_LIMIT, || {
                ensure!(TcpStream::connect(&host).is_err(), "new connections are still taken");
                Ok(start.elapsed())
            })
        });
        registry.stop()?;
        let took = start.elapsed();
        let refused =
            refused.join().unwrap_or_else(|_| anyhow::bail!("the second client panicked"))?;
        ensure!(
            refused < DRAIN && took >= DRAIN,
            "new connections were refused after {} ms, and the registry ended after {} ms: \
             expected to drain for {} ms between the two",
            refused.as_millis(),
            took.as_millis(),
            DRAIN.as_millis()
        );
        let sent = sender.join().ok().context("the sender panicked")?;
        Ok((sent, took))
    })
}

/// Who copies the database of a stopped registry copies all of it.
fn clean_stop(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        registry.http.push_blob(REPOSITORY, b"kept")?;
        registry.stop()?;
        let log = stage.path("store/orlop/metadata.sqlite-wal");
        let length = log.metadata().map_or(0, |metadata| metadata.len());
        ensure!(length == 0, "{length} bytes are only in {}", log.display());
        Ok(())
    })
}
