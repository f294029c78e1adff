//! Sends spans that have ended, in batches and beside the work of the registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use net::client::{self, Client, Limits};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use web::Metrics;

use super::settings::Settings;
use super::span::Span;

/// Spans of one request to the collector, at most.
const BATCH: usize = 512;

/// How long the first span of a batch waits for others.
const DELAY: Duration = Duration::from_secs(2);

/// How often a batch is tried to send, and the pause after the first time; it doubles each time.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause that a collector can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a collector may say.
const MAX_ANSWER: usize = 64 << 10;

/// How long the end of the registry waits for the last spans.
const LAST: Duration = Duration::from_secs(3);

/// What sends spans to a collector, once it runs.
pub(crate) struct Exporter {
    client: Client,
    settings: Settings,
    headers: HeaderMap,
    queue: mpsc::Receiver<Span>,
    /// Spans that are sent nowhere and that metrics do not know of yet.
    dropped: Arc<AtomicU64>,
    /// Whether the last batch did not arrive.
    fails: bool,
}

/// An [`Exporter`] that runs.
pub(crate) struct Sending {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Why a batch did not arrive, and whether and after which pause it may arrive later.
struct Problem {
    reason: String,
    again: bool,
    pause: Option<Duration>,
}

impl Exporter {
    pub(super) fn new(
        settings: Settings,
        queue: mpsc::Receiver<Span>,
        dropped: Arc<AtomicU64>,
    ) -> Result<Self, client::Error> {
        let limits = Limits { time: settings.timeout, body: MAX_ANSWER };
        let client = Client::new(limits, settings.authorities.as_deref())?;
        let mut headers = settings.headers.clone();
        let content_type = HeaderValue::from_static(settings.encoding.content_type());
        headers.insert(header::CONTENT_TYPE, content_type);
        Ok(Self { client, settings, headers, queue, dropped, fails: false })
    }

    /// Begins to send. What is dropped is counted in `metrics`.
    pub(crate) fn start(self, metrics: Metrics) -> Sending {
        tracing::info!(to = %self.settings.endpoint, "traces");
        let (end, ending) = watch::channel(false);
        Sending { end, task: tokio::spawn(self.run(metrics, ending)) }
    }

    async fn run(mut self, metrics: Metrics, mut ending: watch::Receiver<bool>) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = gather(&mut self.queue, &mut batch) => {}
                () = begun(&mut ending) => break,
            }
            self.deliver(&batch, &mut ending).await;
            self.finish(&mut batch, &metrics);
        }
        self.queue.close();
        loop {
            let room = BATCH - batch.len();
            self.queue.recv_many(&mut batch, room).await;
            if batch.is_empty() {
                return;
            }
            self.deliver(&batch, &mut ending).await;
            self.finish(&mut batch, &metrics);
        }
    }

    fn finish(&self, batch: &mut Vec<Span>, metrics: &Metrics) {
        batch.clear();
        metrics.spans_dropped(self.dropped.swap(0, Ordering::Relaxed));
    }

    /// Sends a batch, more than once if need be. What does not arrive is dropped: memory is
    /// bounded, and so is the value of old traces.
    async fn deliver(&mut self, batch: &[Span], ending: &mut watch::Receiver<bool>) {
        let body = Bytes::from(self.settings.encoding.encode(&self.settings.resource, batch));
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let problem = match self.post(body.clone()).await {
                Ok(()) => {
                    if std::mem::take(&mut self.fails) {
                        tracing::info!("traces are sent again");
                    }
                    return;
                }
                Err(problem) => problem,
            };
            if std::mem::replace(&mut self.fails, true) {
                tracing::debug!(reason = problem.reason, "traces can not be sent");
            } else {
                tracing::warn!(
                    reason = problem.reason,
                    "traces can not be sent; spans are dropped until they can"
                );
            }
            if !problem.again || attempt == ATTEMPTS || *ending.borrow() {
                break;
            }
            tokio::select! {
                () = sleep(problem.pause.unwrap_or(pause)) => {}
                () = begun(ending) => {}
            }
            pause *= 2;
        }
        self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }

    async fn post(&self, body: Bytes) -> Result<(), Problem> {
        let endpoint = &self.settings.endpoint;
        let answer = self.client.post(endpoint, &self.headers, body).await;
        let answer = answer.map_err(|error| Problem {
            reason: error.to_string(),
            again: true,
            pause: None,
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after = answer.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|value| value.to_str().ok()?.parse().ok());
        Err(Problem {
            reason: format!("{endpoint}: status {status}"),
            // As the specification lists them.
            again: matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            pause: after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE)),
        })
    }
}

impl Sending {
    /// Sends what is queued and ends, within a few seconds.
    pub(crate) async fn finish(self) {
        self.end.send_replace(true);
        if timeout(LAST, self.task).await.is_err() {
            tracing::warn!("the last traces could not be sent in time");
        }
    }
}

/// Waits for spans: until a batch is full, or its first one has waited long enough. What came is in
/// `batch`, even if this is given up.
async fn gather(queue: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    if batch.is_empty() && queue.recv_many(batch, BATCH).await == 0 {
        // Nobody records any more; the end is told otherwise.
        return std::future::pending().await;
    }
    let fill = async {
        while batch.len() < BATCH {
            if queue.recv_many(batch, BATCH - batch.len()).await == 0 {
                break;
            }
        }
    };
    let _ = timeout(DELAY, fill).await;
}

async fn begun(ending: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could wait.
    let _ = ending.wait_for(|ends| *ends).await;
}
