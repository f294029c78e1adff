//! The power goes: what a registry does to its disk is recorded with strace,
//! and replayed up to many a moment with what was not synced lost in several
//! ways. What was acknowledged by then must be there.

mod disk;
mod examine;
mod history;
mod recording;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::http::Http;
use crate::ports::free_port;
use crate::pusher::Pusher;
use crate::random::Random;
use crate::scenario::{Scenario, Stage, wait_until};
use disk::Model;
use history::History;
use recording::Event;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("power loss: everything acknowledged is found", 240, |stage| {
        pushes(stage, &Plan { pushes: 18, trees: 400 })
    }),
    Scenario::new("power loss: the first start, after every system call", 120, first_start),
    Scenario::new(
        "power loss: everything acknowledged is found, after every system call",
        5400,
        |stage| pushes(stage, &Plan { pushes: 9, trees: usize::MAX }),
    )
    .long(),
];

const CLIENTS: usize = 4;
/// The longest blob: strace writes four characters for each byte.
const LONGEST: usize = 50_000;

struct Plan {
    /// By each client, before and after a restart.
    pushes: usize,
    /// About how many trees are rebuilt.
    trees: usize,
}

fn pushes(stage: &Stage, plan: &Plan) -> Result<()> {
    let mut random = Random::printed("power loss");
    let store = stage.folder("recorded")?;
    let host = format!("127.0.0.1:{}", free_port()?);
    let mut clients: Vec<Pusher> = (0..CLIENTS)
        .map(|number| Pusher::new(&host, number, LONGEST, random.fork()).remembering_uploads())
        .collect();
    let mut events = Vec::new();
    for _ in 0..2 {
        events.extend(record(stage, &store, &host, || {
            std::thread::scope(|scope| {
                let workers: Vec<_> = clients
                    .iter_mut()
                    .map(|client| {
                        scope.spawn(move || {
                            client.reconnect();
                            client.push(plan.pushes)
                        })
                    })
                    .collect();
                workers
                    .into_iter()
                    .map(|worker| worker.join().unwrap_or_else(|_| bail!("a client panicked")))
                    .fold(Ok(()), Result::and)
            })
        })?);
    }
    let history = History::new(store.clone(), store, events, &clients);
    let cuts = history.cuts(plan.trees, &Model::ALL)?;
    let examined = history.examine(stage, cuts, &mut random)?;
    crate::say(&format!("power loss: {examined}"));
    ensure!(
        examined.facts >= 50 && examined.resumed > 0,
        "the clients did too little to prove anything"
    );
    Ok(())
}

/// The data folder is made, which is itself an entry of the folder above it,
/// and the database in it.
fn first_start(stage: &Stage) -> Result<()> {
    let base = stage.folder("recorded")?;
    let store = base.join("data");
    let host = format!("127.0.0.1:{}", free_port()?);
    let mut client = Pusher::new(&host, 0, LONGEST, Random::new(1)).remembering_uploads();
    let events = record(stage, &store, &host, || client.push(3))?;
    let history = History::new(base, store, events, &[client]);
    let cuts = history.cuts(usize::MAX, &Model::ALL)?;
    let examined = history.examine(stage, cuts, &mut Random::new(1))?;
    crate::say(&format!("power loss: {examined}"));
    Ok(())
}

/// Runs a registry under strace while `work` is done. What it did to its disk,
/// and what it answered.
fn record(
    stage: &Stage,
    store: &Path,
    host: &str,
    work: impl FnOnce() -> Result<()>,
) -> Result<Vec<Event>> {
    let log = stage.path("strace.log");
    // The question mark: not every architecture has every call.
    let calls: Vec<String> =
        recording::SYSTEM_CALLS.split(',').map(|call| format!("?{}", call.trim())).collect();
    let mut registry = stage.daemon("recorded", "strace", |command| {
        command
            // -D: the registry itself is our child, and gets our signals.
            .args(["-D", "-f", "--seccomp-bpf", "-xx", "-s", "1000000", "-e", "signal=none", "-e"])
            .arg(format!("trace={}", calls.join(",")))
            .arg("-o")
            .arg(&log)
            .arg("--")
            .arg(stage.binary())
            .arg("serve")
            .env("REGISTRY_HTTP_ADDR", host)
            .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", store);
    })?;
    let http = Http::new(host, Duration::from_secs(30));
    let recorded = wait_until(Duration::from_secs(20), || {
        registry.is_running()?;
        http.get("/")?.expect(200)
    })
    .and_then(|_| work());
    if let Err(error) = recorded {
        bail!("{error:#}{}", registry.log_tail());
    }
    registry.stop(Duration::from_secs(20))?;
    // strace writes the end a moment after it.
    let pid = registry.pid().to_string();
    wait_until(Duration::from_secs(20), || {
        let text = std::fs::read_to_string(&log)?;
        let ended = text.lines().rev().take(20).any(|line| {
            line.split_whitespace().next() == Some(&pid) && line.contains("+++ exited")
        });
        ensure!(ended, "strace has not written the end of the registry");
        Ok(())
    })?;
    recording::read(&log)
}
