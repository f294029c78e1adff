//! `process_*`, as programs have them that are made with one of Prometheus' libraries. What the
//! system does not tell is left out; without Linux's `/proc` that is most of it.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// This process, looked at when somebody asks.
#[derive(Debug)]
pub(super) struct Process {
    /// Seconds since the Unix epoch.
    started: Option<f64>,
}

impl Default for Process {
    fn default() -> Self {
        Self { started: start_time() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let cpu = ConstCounter::new(seconds(clock_gettime(ClockId::ProcessCPUTime)));
        let text = "Seconds that processors have worked for the process.";
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            text,
            None,
            cpu.metric_type(),
        )?)?;

        let (mapped, resident) = memory().unzip();
        let files = getrlimit(Resource::Nofile).current;
        let addresses = getrlimit(Resource::As).current;
        for (name, text, value) in [
            ("process_resident_memory_bytes", "Memory that the process has.", resident),
            ("process_virtual_memory_bytes", "Addresses that the process has.", mapped),
            // Where there is no limit, Go's library has the largest number too.
            (
                "process_virtual_memory_max_bytes",
                "Addresses that the process may have.",
                addresses.or(Some(u64::MAX)),
            ),
            ("process_open_fds", "Files and connections that are open.", open_files()),
            ("process_max_fds", "Files and connections that may be open.", files),
        ] {
            gauge(&mut encoder, name, text, value)?;
        }
        let text = "When the process was started, in seconds since the Unix epoch.";
        gauge(&mut encoder, "process_start_time_seconds", text, self.started)
    }
}

fn gauge<N>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    text: &str,
    value: Option<N>,
) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    let Some(gauge) = value.map(ConstGauge::new) else {
        return Ok(());
    };
    gauge.encode(encoder.encode_descriptor(name, text, None, gauge.metric_type())?)
}

/// Bytes that are mapped, and those of them that are in memory (`/proc/self/statm`).
fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').map_while(|field| field.parse::<u64>().ok());
    let size = rustix::param::page_size() as u64;
    Some((pages.next()? * size, pages.next()? * size))
}

fn open_files() -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // One of them is the list itself.
    Some(open.saturating_sub(1))
}

/// The system's start and the ticks from there to that of the process.
#[allow(clippy::cast_precision_loss)] // Ticks of a million years would not fit.
fn start_time() -> Option<f64> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, with whatever is in it.
    let (_, fields) = own.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').nth(22 - 3)?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(booted.trim().parse::<f64>().ok()? + ticks as f64 / per_second as f64)
}

#[allow(clippy::cast_precision_loss)] // Nobody needs nanoseconds after a hundred days.
fn seconds(time: Timespec) -> f64 {
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn this_process_has_started_and_uses_something() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let started = start_time().unwrap();
        assert!(started < now + 2.0 && started > now - 24.0 * 3600.0, "{started} {now}");
        let (mapped, resident) = memory().unwrap();
        assert!(resident > 100_000 && mapped > resident, "{mapped} {resident}");
        assert!(open_files().unwrap() >= 3);
        assert!(seconds(clock_gettime(ClockId::ProcessCPUTime)) > 0.0);
    }
}
