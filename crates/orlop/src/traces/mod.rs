//! Traces: what a request spent its time on, for a collector of OpenTelemetry (OTLP over HTTP).
//!
//! The code of requests opens spans of `tracing` with the target [`TARGET`]. The log does not want
//! them, so without traces a span costs a look at a flag. With traces, [`Recorder`] turns them into
//! spans of OpenTelemetry and queues what has ended; [`Exporter`] sends the queue in batches. A
//! request never waits for either: what there is no room for is dropped and counted.
//!
//! The format is written here and not by the crates of OpenTelemetry (0.33): these are 18 more
//! crates and a minute of one processor in a release build, and their queue tells nobody how many
//! spans it has dropped before the process ends.

mod context;
mod encoding;
mod exporter;
mod recorder;
mod settings;
mod span;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;

pub(crate) use exporter::Exporter;
pub(crate) use recorder::Recorder;
use settings::Settings;

/// The target of spans that are for traces and not for the log.
pub(crate) const TARGET: &str = "traces";

/// Spans that wait to be sent, at most.
const QUEUE: usize = 2048;

/// What records spans, and what sends them, if the variables of this process ask for traces. Also
/// what an operator has to know about these variables.
pub(crate) fn from_environment() -> (Option<(Recorder, Exporter)>, Vec<String>) {
    let (settings, mut warnings) = Settings::read(&|name| std::env::var(name).ok());
    let opened = settings.map(open).transpose().unwrap_or_else(|error| {
        warnings.push(format!("OTEL_EXPORTER_OTLP_CERTIFICATE: {error}; no traces are sent"));
        None
    });
    (opened, warnings)
}

/// Fails if there is a file of certificates that can not be used.
fn open(settings: Settings) -> Result<(Recorder, Exporter), net::client::Error> {
    let (sender, queue) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let recorder = Recorder::new(settings.sampler, sender, Arc::clone(&dropped));
    let exporter = Exporter::new(settings, queue, dropped)?;
    Ok((recorder, exporter))
}
