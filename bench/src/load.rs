//! The closed-loop load generator: every connection has a thread, which begins its next operation
//! when the last one is answered.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use crate::process;
use crate::server::Server;

/// How often the server's memory is looked at during a sample.
const MEMORY_INTERVAL: Duration = Duration::from_millis(20);

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
}

/// What one run of a load against one server has shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) operations: u64,
    /// Body bytes moved, of all operations.
    pub(crate) bytes: u64,
    /// From the common start to the end of the last operation.
    pub(crate) seconds: f64,
    /// User and system time of the server and its children.
    pub(crate) server_cpu: f64,
    /// The same of the load generator.
    pub(crate) load_cpu: f64,
    /// Time that others have used, as a share of the whole machine.
    pub(crate) foreign: f64,
    /// Milliseconds per operation.
    pub(crate) median: f64,
    pub(crate) p99: f64,
    /// Highest resident set during the sample, in bytes.
    pub(crate) peak: u64,
    /// Highest anonymous memory that was seen, in bytes.
    pub(crate) anonymous: u64,
    /// How much higher the second half of the sample was than the first, in bytes.
    pub(crate) anonymous_growth: i64,
}

impl Sample {
    /// Whether the load generator's core and not the server was the limit.
    pub(crate) fn is_load_bound(&self) -> bool {
        self.load_cpu > 0.9 * self.seconds && self.server_cpu < 0.9 * self.seconds
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
    let prepared = Barrier::new(load.connections + 1);
    let go = Barrier::new(load.connections + 1);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..load.connections)
            .map(|number| {
                let (prepared, go, prepare) = (&prepared, &go, &prepare);
                scope.spawn(move || {
                    let work = prepare(number);
                    prepared.wait();
                    go.wait();
                    work.and_then(|work| repeat(load.bound, work))
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
        let mut times = Vec::new();
        for worker in done {
            let worker = worker?.with_context(|| failure(server))?;
            sample.operations += worker.times.len() as u64;
            sample.bytes += worker.bytes;
            times.extend(worker.times);
        }
        times.sort_unstable();
        sample.median = percentile(&times, 50);
        sample.p99 = percentile(&times, 99);
        let used = used?;
        sample.server_cpu = used.server;
        sample.load_cpu = used.load;
        let others = (used.machine - used.server - used.load).max(0.0);
        sample.foreign = others / (seconds * cores()).max(f64::EPSILON);
        let memory = memory?;
        sample.peak = process::memory(server.process()?)?.peak;
        let (first, second) = memory.split_at(memory.len() / 2);
        let [first, second] = [first, second].map(|half| half.iter().copied().max().unwrap_or(0));
        sample.anonymous = first.max(second);
        sample.anonymous_growth = second.cast_signed() - first.cast_signed();
        Ok(sample)
    })
}

fn repeat(
    bound: Bound,
    mut work: impl FnMut(u64) -> anyhow::Result<u64>,
) -> anyhow::Result<Worker> {
    let begin = Instant::now();
    let mut worker = Worker::default();
    let mut before = begin;
    for number in 0.. {
        worker.bytes += work(number)?;
        let now = Instant::now();
        worker.times.push(now - before);
        before = now;
        let enough = match bound {
            Bound::Time(limit) => now - begin >= limit,
            Bound::Count(count) => number + 1 >= count,
        };
        if enough {
            break;
        }
    }
    Ok(worker)
}

#[derive(Default)]
struct Worker {
    times: Vec<Duration>,
    bytes: u64,
}

/// Processor time between two moments, in seconds.
struct Meter {
    process: u32,
    server: f64,
    load: f64,
    machine: f64,
}

impl Meter {
    fn start(server: &Server) -> anyhow::Result<Self> {
        let process = server.process()?;
        process::reset_peak(process)?;
        Self::read(process)
    }

    fn stop(self) -> anyhow::Result<Self> {
        let now = Self::read(self.process)?;
        Ok(Self {
            process: self.process,
            server: now.server - self.server,
            load: now.load - self.load,
            machine: now.machine - self.machine,
        })
    }

    fn read(process: u32) -> anyhow::Result<Self> {
        Ok(Self {
            process,
            server: process::cpu_seconds(process)?,
            load: process::own_cpu_seconds()?,
            machine: process::machine_cpu_seconds()?,
        })
    }
}

/// Anonymous memory, looked at until it is over.
fn watch_memory(server: &Server, over: &AtomicBool) -> anyhow::Result<Vec<u64>> {
    let process = server.process()?;
    let mut seen = vec![process::memory(process)?.anonymous];
    while !over.load(Ordering::Relaxed) {
        sleep(MEMORY_INTERVAL);
        seen.push(process::memory(process)?.anonymous);
    }
    Ok(seen)
}

/// Of sorted times, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
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
        let worker = repeat(Bound::Count(3), Ok).unwrap();
        assert_eq!(worker.times.len(), 3);
        assert_eq!(worker.bytes, 3);
    }

    #[test]
    fn a_short_time_still_does_one_operation() {
        let worker = repeat(Bound::Time(Duration::ZERO), |_| Ok(7)).unwrap();
        assert_eq!(worker.bytes, 7);
    }

    #[test]
    fn percentiles_of_few_values() {
        let times: Vec<_> = (1..=4).map(Duration::from_millis).collect();
        assert!((percentile(&times, 50) - 3.0).abs() < 1e-9);
        assert!((percentile(&times, 99) - 4.0).abs() < 1e-9);
        assert!(percentile(&[], 50).abs() < 1e-9);
    }
}
