//! Clients at work: each does one thing after another, and what fails it does again, as docker
//! would, until it has lost its patience.

mod images;
mod tags;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Error, Result, bail, ensure};

pub(super) use images::{Images, Tool};
pub(super) use tags::{Manifests, Tagger};

use crate::pusher::Pusher;
use crate::random::Random;

/// How long one thing may fail before a client gives up: longer than any trouble that is made.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(200);
/// Failures that are told of.
const SHOWN: usize = 5;

/// A client with work of its own.
pub(super) trait Client: Send {
    /// What it is, in a report.
    fn kind(&self) -> Kind;

    /// Does one thing. What may be tried again is told; what is wrong is an error.
    fn work(&mut self) -> Result<Option<Error>>;

    /// Looks whether all that was acknowledged is there, whole, at this server.
    fn check(&mut self, host: &str) -> Result<()>;

    /// How long it rests after each thing, at most, in milliseconds.
    fn rest(&self) -> usize;
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Uploads,
    Tags,
    Images,
}

impl Client for &mut Pusher {
    fn kind(&self) -> Kind {
        Kind::Uploads
    }

    fn work(&mut self) -> Result<Option<Error>> {
        self.try_to_push()
    }

    fn check(&mut self, host: &str) -> Result<()> {
        self.turn_to(host);
        self.go_on()?;
        self.check_all()
    }

    fn rest(&self) -> usize {
        400
    }
}

/// What a client, or several, went through.
#[derive(Default)]
pub(super) struct Report {
    pub(super) done: usize,
    pub(super) failures: usize,
    /// The most failures in a row.
    pub(super) in_a_row: usize,
    /// The longest time from a failure to the next success.
    pub(super) slowest: Duration,
    /// The first failures.
    pub(super) shown: Vec<String>,
}

impl Report {
    fn plus(mut self, other: Self) -> Self {
        self.done += other.done;
        self.failures += other.failures;
        self.in_a_row = self.in_a_row.max(other.in_a_row);
        self.slowest = self.slowest.max(other.slowest);
        self.shown.extend(other.shown);
        self.shown.truncate(SHOWN);
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} done, {} failures of which up to {} in a row, slowest recovery {:.1} s",
            self.done,
            self.failures,
            self.in_a_row,
            self.slowest.as_secs_f64()
        )
    }
}

/// What clients of each kind went through.
pub(super) struct Reports {
    pub(super) uploads: Report,
    pub(super) tags: Report,
    pub(super) images: Report,
}

impl Reports {
    /// An error if some clients had nothing to do.
    pub(super) fn is_enough(&self) -> Result<()> {
        let done = [self.uploads.done, self.tags.done, self.images.done];
        ensure!(done.iter().all(|count| *count > 10), "too little to prove anything: {self}");
        Ok(())
    }
}

impl fmt::Display for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uploads: {}; tags: {}; images: {}", self.uploads, self.tags, self.images)
    }
}

/// Lets all clients work until `meanwhile`, which is told when one of them has failed, is over.
pub(super) fn work<'a>(
    clients: &mut [Box<dyn Client + 'a>],
    random: &mut Random,
    meanwhile: impl FnOnce(&AtomicBool) -> Result<()>,
) -> Result<Reports> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let workers: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let random = random.fork();
                let kind = client.kind();
                let worker = scope.spawn(move || {
                    let done = work_until(client.as_mut(), random, stop);
                    // There is no use in going on without it.
                    stop.fetch_or(done.is_err(), Ordering::SeqCst);
                    done
                });
                (kind, worker)
            })
            .collect();
        let outcome = meanwhile(stop);
        stop.store(true, Ordering::SeqCst);
        let [mut uploads, mut tags, mut images] = [(); 3].map(|()| Report::default());
        let mut wrong = Vec::new();
        for (kind, worker) in workers {
            match worker.join().unwrap_or_else(|_| bail!("a client panicked")) {
                Ok(report) => {
                    let all = match kind {
                        Kind::Uploads => &mut uploads,
                        Kind::Tags => &mut tags,
                        Kind::Images => &mut images,
                    };
                    *all = std::mem::take(all).plus(report);
                }
                Err(error) => wrong.push(error),
            }
        }
        match wrong.into_iter().next() {
            Some(error) => Err(error),
            None => outcome.map(|()| Reports { uploads, tags, images }),
        }
    })
}

/// The last thing is done again until it succeeds.
fn work_until(client: &mut dyn Client, mut random: Random, stop: &AtomicBool) -> Result<Report> {
    let mut report = Report::default();
    let (mut since, mut in_a_row) = (None, 0);
    while since.is_some() || !stop.load(Ordering::SeqCst) {
        let Some(error) = client.work()? else {
            report.done += 1;
            report.slowest = report.slowest.max(since.take().map_or(Duration::ZERO, elapsed));
            in_a_row = 0;
            std::thread::sleep(Duration::from_millis(random.between(0, client.rest()) as u64));
            continue;
        };
        in_a_row += 1;
        report.failures += 1;
        report.in_a_row = report.in_a_row.max(in_a_row);
        if report.shown.len() < SHOWN {
            report.shown.push(format!("{error:#}"));
        }
        let lasts = since.get_or_insert_with(Instant::now).elapsed();
        if lasts > PATIENCE {
            return Err(error.context(format!("it still fails after {} s", lasts.as_secs())));
        }
        std::thread::sleep(AGAIN);
    }
    Ok(report)
}

fn elapsed(since: Instant) -> Duration {
    since.elapsed()
}
