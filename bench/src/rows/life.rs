//! A server that has nothing to do, and one that starts.

use std::thread::sleep;
use std::time::Duration;

use super::{Pass, Row};
use crate::goal::Goal;
use crate::http::{Request, Sink};
use crate::load::Sample;
use crate::process;
use crate::server::Server;
use crate::unit::Unit;

/// By then a server that was just started has done what it does by itself.
const SETTLED: Duration = Duration::from_millis(500);

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("idle memory, empty store", Unit::Resident, idle)
            .static_files()
            .goals([Goal::Ahead(1.0), Goal::Below(30.0)]),
        Row::new("start to first answer, empty store", Unit::Start, start_empty)
            .static_files()
            .goals([Goal::Ahead(1.0), Goal::Below(100.0)]),
        Row::new("start to first answer, filled store", Unit::Start, start_filled)
            .static_files()
            .needs_lists()
            .goals([Goal::Ahead(1.0), Goal::Below(100.0)]),
    ]
}

fn idle(server: &mut Server, _: &Pass<'_>) -> anyhow::Result<Sample> {
    let folder = tempfile::tempdir_in(server.folder())?;
    let mut server = server.fresh(&folder.path().join("fresh"))?;
    server.start()?;
    let ping = Request::new("GET", server.address(), "/v2/", &[]);
    server.client().send(&ping, Sink::Discard)?.expect(200, "GET /v2/")?;
    sleep(SETTLED);
    let memory = process::memory(server.process()?)?;
    server.stop()?;
    Ok(Sample { peak: memory.resident, anonymous: memory.anonymous, ..Sample::default() })
}

fn start_empty(server: &mut Server, _: &Pass<'_>) -> anyhow::Result<Sample> {
    let folder = tempfile::tempdir_in(server.folder())?;
    let mut server = server.fresh(&folder.path().join("fresh"))?;
    let sample = start(&mut server)?;
    server.stop()?;
    Ok(sample)
}

fn start_filled(server: &mut Server, _: &Pass<'_>) -> anyhow::Result<Sample> {
    server.stop()?;
    start(server)
}

pub(super) fn start(server: &mut Server) -> anyhow::Result<Sample> {
    let time = server.start()?;
    let process = server.process()?;
    let memory = process::memory(process)?;
    Ok(Sample {
        operations: 1,
        seconds: time.as_secs_f64(),
        median: time.as_secs_f64() * 1000.0,
        server_cpu: process::cpu_seconds(process)?,
        peak: memory.peak,
        anonymous: memory.anonymous,
        ..Sample::default()
    })
}
