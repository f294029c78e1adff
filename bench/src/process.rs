//! What a process and its children have used, as `/proc` tells it.

use std::fs;
use std::iter::Sum;

use anyhow::{Context as _, anyhow};

/// Memory in bytes, summed over a process and its children.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Highest resident set since the start or [`reset_peak`] (`VmHWM`).
    pub(crate) peak: u64,
    /// Resident set (`VmRSS`): with pages of mapped files.
    pub(crate) resident: u64,
    /// Anonymous part of the resident set (`RssAnon`): what the process itself allocated.
    pub(crate) anonymous: u64,
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            peak: sum.peak + one.peak,
            resident: sum.resident + one.resident,
            anonymous: sum.anonymous + one.anonymous,
        })
    }
}

/// User and system time of a process and its children, also of those that ended, in seconds.
/// The kernel counts in ticks of 10 ms.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let mut ticks = ticks_of(&process.to_string())?;
    for child in tree(process).into_iter().skip(1) {
        // One that ended just now is among those that its parent has had.
        ticks += ticks_of(&child.to_string()).unwrap_or(0);
    }
    Ok(seconds(ticks))
}

/// The same for this process: what the load generator uses.
pub(crate) fn own_cpu_seconds() -> anyhow::Result<f64> {
    Ok(seconds(ticks_of("self")?))
}

/// Time that any process of this machine has used, in seconds over all cores.
pub(crate) fn machine_cpu_seconds() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq steal
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|&field| fields.get(field)).sum();
    Ok(seconds(busy))
}

/// Memory of a process and its children now.
pub(crate) fn memory(process: u32) -> anyhow::Result<Memory> {
    let of = |member| {
        let path = format!("/proc/{member}/status");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(Memory {
            peak: field(&text, "VmHWM:"),
            resident: field(&text, "VmRSS:"),
            anonymous: field(&text, "RssAnon:"),
        })
    };
    tree(process).into_iter().map(of).sum()
}

/// Lets [`Memory::peak`] begin again from what is resident now.
pub(crate) fn reset_peak(process: u32) -> anyhow::Result<()> {
    for member in tree(process) {
        let path = format!("/proc/{member}/clear_refs");
        fs::write(&path, "5").with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// The process, its children, their children.
fn tree(process: u32) -> Vec<u32> {
    let mut members = vec![process];
    let mut next = 0;
    while let Some(&member) = members.get(next) {
        next += 1;
        // Only the first thread is asked: the servers here fork from it.
        let children = fs::read_to_string(format!("/proc/{member}/task/{member}/children"));
        members.extend(children.unwrap_or_default().split_whitespace().flat_map(str::parse::<u32>));
    }
    members
}

/// utime, stime, cutime and cstime: fields 14 to 17 of `/proc/PID/stat`.
fn ticks_of(process: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name in field 2 may hold spaces and brackets; nothing after it does.
    let (_, rest) = text.rsplit_once(')').ok_or_else(|| anyhow!("{path} has no process name"))?;
    Ok(rest.split_whitespace().skip(11).take(4).flat_map(str::parse::<u64>).sum())
}

#[allow(clippy::cast_precision_loss, reason = "ticks of a machine's life fit 52 bits")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// A line such as `VmRSS:    5120 kB`, in bytes; 0 if it is missing.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|value| value.split_whitespace().next())
        .and_then(|value| value.parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.anonymous > 0 && memory.resident >= memory.anonymous);
        assert!(memory.peak > 0);
        assert!(machine_cpu_seconds().unwrap() >= own_cpu_seconds().unwrap());
    }
}
