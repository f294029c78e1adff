//! `orlop check`: is everything there, and is it what it should be?

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use registry::Check;

use crate::config::Config;
use crate::progress::size;
use crate::store;

/// How often the progress line changes.
const REFRESH: Duration = Duration::from_millis(200);

pub(crate) async fn run(config: &Config, quick: bool) -> anyhow::Result<ExitCode> {
    let registry = store::open_read_only(config).await?;
    let mut progress = Progress::new();
    let check = registry.check(quick, |check| progress.show(check)).await?;
    progress.clear();
    report(&check)?;
    Ok(if check.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong goes to standard output, what was done to standard error.
fn report(check: &Check) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for finding in &check.findings {
        writeln!(out, "{finding}")?;
    }
    let mut talk = std::io::stderr().lock();
    for finding in &check.incomplete {
        writeln!(talk, "note: {finding}")?;
    }
    if check.unreferenced > 0 {
        writeln!(
            talk,
            "note: {} files in the store are not in the database (of pushes that were cut off, or \
             of another registry)",
            check.unreferenced
        )?;
    }
    writeln!(
        talk,
        "checked {} blobs ({}) and {} manifests: {}",
        check.blobs,
        size(check.bytes),
        check.manifests,
        match check.findings.len() {
            0 => "all whole".to_owned(),
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        }
    )?;
    Ok(())
}

/// A line on the terminal that says how far the check is.
struct Progress {
    started: Instant,
    shown: Option<Instant>,
    visible: bool,
}

impl Progress {
    fn new() -> Self {
        Self { started: Instant::now(), shown: None, visible: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, check: &Check) {
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= REFRESH);
        if !self.visible || !due {
            return;
        }
        self.shown = Some(Instant::now());
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let rate = (check.bytes as f64 / seconds) as u64;
        eprint!("\r\x1b[K{} blobs, {}, {}/s", check.blobs, size(check.bytes), size(rate));
    }

    fn clear(&self) {
        if self.visible && self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
