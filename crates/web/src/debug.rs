//! The address for operators: liveness, readiness and metrics, apart from clients.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use oci::Accept;
use registry::Registry;
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::service::{empty, json};
use crate::{Health, Response, ResponseBody};

/// How long the store and the database have to answer whoever asks whether work can be sent here:
/// less than load balancers usually wait.
const READY_LIMIT: Duration = Duration::from_secs(4);

/// Answers on the operators' address.
#[derive(Clone)]
pub struct Debug {
    registry: Registry,
    health: Health,
    metrics: Metrics,
    /// Where metrics are, if they are on.
    metrics_path: Option<String>,
}

impl Debug {
    /// Tells about `registry`, its `health` and its `metrics`.
    pub fn new(
        registry: Registry,
        health: Health,
        metrics: Metrics,
        metrics_path: Option<String>,
    ) -> Self {
        Self { registry, health, metrics, metrics_path }
    }

    /// Answers one request.
    pub async fn handle(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        match path {
            "/livez" => json(StatusCode::OK, "{}".to_owned()),
            "/debug/health" => found(&self.health.failures()),
            "/readyz" => self.ready().await,
            path if self.metrics_path.as_deref() == Some(path) => self.metrics(headers),
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    /// The store is asked here and now, whether or not a check does so now and then.
    async fn ready(&self) -> Response {
        let mut failures = self.health.failures();
        let failure = match timeout(READY_LIMIT, self.registry.check_ready()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {READY_LIMIT:?}")),
        };
        if let Some(error) = failure {
            tracing::error!(error, "not ready");
            failures.insert("registry".to_owned(), error);
        }
        found(&failures)
    }

    /// As OpenMetrics for whoever asks for it, else in the older format of Prometheus, which every
    /// collector reads.
    fn metrics(&self, headers: &HeaderMap) -> Response {
        for (check, fails) in self.health.checks() {
            self.metrics.checked(check, fails);
        }
        let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (text, kind) = if Accept::parse(accept).names("application/openmetrics-text") {
            (self.metrics.text(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
        } else {
            (older_format(&self.metrics.text()), "text/plain; version=0.0.4; charset=utf-8")
        };
        let mut response = Response::new(ResponseBody::from(text));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

/// Metrics in the text format 0.0.4 of Prometheus: there a counter is described by the name that
/// its samples have, there are no units, and the text just ends.
fn older_format(metrics: &str) -> String {
    let counter =
        |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
    let counters = metrics.lines().filter_map(counter).collect::<HashSet<_>>();
    let mut text = String::with_capacity(metrics.len());
    for line in metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            ["#", what, name, rest] if counters.contains(name) => {
                for part in ["# ", what, " ", name, "_total ", rest] {
                    text.push_str(part);
                }
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// `{"check": "what is wrong"}`, as `distribution` has it.
fn found(failures: &BTreeMap<String, String>) -> Response {
    let status = if failures.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, serde_json::json!(failures).to_string())
}
