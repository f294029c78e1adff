//! The load generator: every connection has a thread. In a closed loop it begins its next operation
//! when the last one is answered; in an open loop it takes the next one that is due.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use crate::arrivals::{self, Arrivals, Schedule};
use crate::meter::Meter;
use crate::process::{self, Memory};
use crate::server::Server;

/// How often the server's memory is looked at during a sample.
const MEMORY_INTERVAL: Duration = Duration::from_millis(20);

/// A sample that is bound by time ends early when it has moved so many bytes.
const MOST_BYTES: u64 = 8 << 30;

/// How much load a sample is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) bound: Bound,
}

/// When a connection ends its work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// With the operation that is under way then; at least one is done.
    Time(Duration),
    /// After so many operations.
    Count(u64),
    /// When all connections together have begun so many, which are numbered over all of them.
    Total(u64),
    /// An open loop: when all operations that came due are done. They are numbered over all
    /// connections, and their time counts from when they were due.
    Due(Arrivals),
}

/// An operation that is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) time: Duration,
    pub(crate) bytes: u64,
}

/// What one run of a load against one server has shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) operations: u64,
    /// Body bytes moved, of all operations.
    pub(crate) bytes: u64,
    /// From the common start to the end of the last operation.
    pub(crate) seconds: f64,
    /// User and system time of the server, its replicas and their children.
    pub(crate) server_cpu: f64,
    /// The same of PostgreSQL, if it is behind the server.
    pub(crate) database_cpu: f64,
    /// The same of the object store.
    pub(crate) store_cpu: f64,
    /// The same of the load generator.
    pub(crate) load_cpu: f64,
    /// Time that others have used, as a share of the whole machine.
    pub(crate) foreign: f64,
    /// Milliseconds per operation.
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Highest resident set during the sample, in bytes.
    pub(crate) peak: u64,
    /// Highest anonymous memory that was seen, in bytes.
    pub(crate) anonymous: u64,
    /// How much higher the second half of the sample was than the first, in bytes.
    pub(crate) anonymous_growth: i64,
}

impl Sample {
    /// Whether the core of the load generator, and of what is behind the server, was the limit
    /// and not the server.
    pub(crate) fn is_load_bound(&self) -> bool {
        let other_core = self.load_cpu + self.database_cpu + self.store_cpu;
        other_core > 0.9 * self.seconds && self.server_cpu < 0.9 * self.seconds
    }

    /// Sets the percentiles to those of these operations.
    pub(crate) fn set_percentiles(&mut self, done: impl Iterator<Item = Done>) {
        let mut times: Vec<Duration> = done.map(|done| done.time).collect();
        times.sort_unstable();
        self.median = percentile(&times, 500);
        self.p99 = percentile(&times, 990);
        self.p999 = percentile(&times, 999);
    }
}

/// Runs a load. `prepare` is called on the thread of each connection, with its number, before the
/// clock starts; what it returns does one operation (numbered from 0) and tells its bytes.
pub(crate) fn run<W>(
    server: &Server,
    load: Load,
    prepare: impl Fn(usize) -> anyhow::Result<W> + Sync,
) -> anyhow::Result<Sample>
where
    W: FnMut(u64) -> anyhow::Result<u64>,
{
    let (mut sample, done) = record(server, load, prepare)?;
    sample.set_percentiles(done.into_iter());
    Ok(sample)
}

/// Like [`run`], but leaves the percentiles to the caller, who gets every operation.
pub(crate) fn record<W>(
    server: &Server,
    load: Load,
    prepare: impl Fn(usize) -> anyhow::Result<W> + Sync,
) -> anyhow::Result<(Sample, Vec<Done>)>
where
    W: FnMut(u64) -> anyhow::Result<u64>,
{
    let pace = Pace::new(load.bound);
    let prepared = Barrier::new(load.connections + 1);
    let go = Barrier::new(load.connections + 1);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..load.connections)
            .map(|number| {
                let (prepared, go, prepare, pace) = (&prepared, &go, &prepare, &pace);
                scope.spawn(move || {
                    let work = prepare(number);
                    prepared.wait();
                    go.wait();
                    work.and_then(|work| pace.keep(work))
                })
            })
            .collect();
        prepared.wait();
        let meter = Meter::start(server);
        let memory = scope.spawn(|| watch_memory(server, &over));
        go.wait();
        let begin = Instant::now();
        let done: Vec<_> =
            workers.into_iter().map(|worker| worker.join().map_err(panicked)).collect();
        let seconds = begin.elapsed().as_secs_f64();
        let used = meter.and_then(Meter::stop);
        over.store(true, Ordering::Relaxed);
        let memory = memory.join().map_err(panicked)?;

        let mut sample = Sample { seconds, ..Sample::default() };
        let mut all = Vec::new();
        for worker in done {
            all.extend(worker?.with_context(|| failure(server))?);
        }
        sample.operations = all.len() as u64;
        sample.bytes = all.iter().map(|done| done.bytes).sum();
        let used = used?;
        sample.server_cpu = used.server;
        sample.database_cpu = used.database;
        sample.store_cpu = used.store;
        sample.load_cpu = used.load;
        sample.foreign = used.foreign() / (seconds * cores()).max(f64::EPSILON);
        let memory = memory?;
        sample.peak = memory_of(server)?.peak;
        let (first, second) = memory.split_at(memory.len() / 2);
        let [first, second] = [first, second].map(|half| half.iter().copied().max().unwrap_or(0));
        sample.anonymous = first.max(second);
        sample.anonymous_growth = second.cast_signed() - first.cast_signed();
        Ok((sample, all))
    })
}

/// What the connections of a load share to know when to begin and when to end.
struct Pace {
    bound: Bound,
    begin: OnceLock<Instant>,
    /// Bytes moved by all connections.
    moved: AtomicU64,
    /// Operations that were given out.
    taken: AtomicU64,
    /// Of an open loop.
    schedule: Option<Schedule>,
}

impl Pace {
    fn new(bound: Bound) -> Self {
        let schedule = match bound {
            Bound::Due(arrivals) => Some(Schedule::new(arrivals)),
            Bound::Time(_) | Bound::Count(_) | Bound::Total(_) => None,
        };
        let (moved, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { bound, begin: OnceLock::new(), moved, taken, schedule }
    }

    /// Does one connection's operations.
    fn keep(&self, work: impl FnMut(u64) -> anyhow::Result<u64>) -> anyhow::Result<Vec<Done>> {
        match &self.schedule {
            Some(schedule) => self.follow(schedule, work),
            None => self.repeat(work),
        }
    }

    fn follow(
        &self,
        schedule: &Schedule,
        mut work: impl FnMut(u64) -> anyhow::Result<u64>,
    ) -> anyhow::Result<Vec<Done>> {
        arrivals::wake_punctually();
        let begin = *self.begin.get_or_init(Instant::now);
        let mut all = Vec::new();
        while let Some((number, due)) = schedule.wait(begin) {
            let bytes = work(number)?;
            all.push(Done { number, time: due.elapsed(), bytes });
        }
        Ok(all)
    }

    fn repeat(
        &self,
        mut work: impl FnMut(u64) -> anyhow::Result<u64>,
    ) -> anyhow::Result<Vec<Done>> {
        let begin = *self.begin.get_or_init(Instant::now);
        let mut before = begin;
        let mut all = Vec::new();
        for number in 0.. {
            let number = match self.bound {
                Bound::Total(_) => self.taken.fetch_add(1, Ordering::Relaxed),
                _ => number,
            };
            if let Bound::Count(end) | Bound::Total(end) = self.bound
                && number >= end
            {
                break;
            }
            let bytes = work(number)?;
            let now = Instant::now();
            all.push(Done { number, time: now - before, bytes });
            before = now;
            let moved = self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if let Bound::Time(limit) = self.bound
                && (now - begin >= limit || moved >= MOST_BYTES)
            {
                break;
            }
        }
        Ok(all)
    }
}

/// Anonymous memory, looked at until it is over.
fn watch_memory(server: &Server, over: &AtomicBool) -> anyhow::Result<Vec<u64>> {
    let mut seen = vec![memory_of(server)?.anonymous];
    while !over.load(Ordering::Relaxed) {
        sleep(MEMORY_INTERVAL);
        seen.push(memory_of(server)?.anonymous);
    }
    Ok(seen)
}

/// Of the server and its replicas.
fn memory_of(server: &Server) -> anyhow::Result<Memory> {
    server.processes()?.into_iter().map(process::memory).sum()
}

/// Of sorted times, in milliseconds.
fn percentile(sorted: &[Duration], permille: usize) -> f64 {
    let rank = (sorted.len() * permille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

#[allow(clippy::cast_precision_loss, reason = "a machine has fewer cores")]
fn cores() -> f64 {
    // Not available_parallelism: this thread is pinned to one core.
    let online = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let count = online.lines().filter(|line| line.starts_with("cpu")).count();
    count.saturating_sub(1).max(1) as f64
}

fn failure(server: &Server) -> String {
    format!("{} failed; its last words: {}", server.kind().name(), server.last_words())
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> anyhow::Error {
    anyhow!("a thread of the load generator panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_kept() {
        let done = Pace::new(Bound::Count(3)).keep(Ok).unwrap();
        assert_eq!(done.iter().map(|done| done.bytes).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_total_is_shared() {
        let pace = Pace::new(Bound::Total(3));
        let done = [pace.keep(Ok).unwrap(), pace.keep(Ok).unwrap()];
        assert_eq!(done.map(|done| done.len()), [3, 0]);
    }

    #[test]
    fn a_short_time_still_does_one_operation() {
        let done = Pace::new(Bound::Time(Duration::ZERO)).keep(|_| Ok(7)).unwrap();
        assert_eq!(done.len(), 1);
    }

    #[test]
    fn what_comes_due_while_the_server_is_slow_has_waited() {
        let pace = Pace::new(Bound::Due(Arrivals { rate: 1e6, count: 10 }));
        let slow = Duration::from_millis(2);
        let done = pace.keep(|_| {
            sleep(slow);
            Ok(0)
        });
        // All were due at once, and one after the other was done.
        assert!(done.unwrap().last().unwrap().time >= slow * 9);
    }

    #[test]
    fn percentiles_of_few_values() {
        let times: Vec<_> = (1..=4).map(Duration::from_millis).collect();
        assert!((percentile(&times, 500) - 3.0).abs() < 1e-9);
        assert!((percentile(&times, 990) - 4.0).abs() < 1e-9);
        assert!(percentile(&[], 500).abs() < 1e-9);
    }
}
