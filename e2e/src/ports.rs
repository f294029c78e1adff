//! Ports on loopback for what the tests start.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

/// The first, and how many. All, and their neighbours, are below 32,768, where the kernel begins to
/// take ports for clients: else a connection may get one that was found free, just before the
/// server listens on it.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// A port that is free, and that no other call of this process has got lately.
pub(crate) fn free_port() -> Result<u16> {
    free_ports().map(|[port]| port)
}

/// Each has a neighbour 10,000 above it that is free, too: `SeaweedFS` talks to itself there.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Processes that run side by side have pids in a row, and begin far from each other.
    let begin = u16::try_from(u64::from(std::process::id()) * 7_919 % u64::from(COUNT))?;
    let all = std::iter::repeat_with(|| {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        FIRST + (begin + step % COUNT) % COUNT
    });
    let free = all.take(usize::from(COUNT)).filter(|port| is_free(*port) && is_free(port + COUNT));
    free.take(N).collect::<Vec<_>>().try_into().ok().context("no free ports")
}
