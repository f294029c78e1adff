//! The address for operators: liveness, readiness and metrics, apart from clients.

use std::collections::BTreeMap;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use registry::Registry;

use crate::metrics::Metrics;
use crate::service::{empty, json};
use crate::{Health, Response, ResponseBody};

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
    pub async fn handle(&self, method: &Method, path: &str) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        match path {
            "/livez" => json(StatusCode::OK, "{}".to_owned()),
            "/debug/health" => found(&self.health.failures()),
            "/readyz" => self.ready().await,
            path if self.metrics_path.as_deref() == Some(path) => self.metrics(),
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    /// The store is asked here and now, whether or not a check does so now and then.
    async fn ready(&self) -> Response {
        let mut failures = self.health.failures();
        if let Err(error) = self.registry.check_ready().await {
            tracing::error!(%error, "not ready");
            failures.insert("registry".to_owned(), error.to_string());
        }
        found(&failures)
    }

    fn metrics(&self) -> Response {
        for (check, fails) in self.health.checks() {
            self.metrics.checked(check, fails);
        }
        let mut response = Response::new(ResponseBody::from(self.metrics.text()));
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

/// `{"check": "what is wrong"}`, as `distribution` has it.
fn found(failures: &BTreeMap<String, String>) -> Response {
    let status = if failures.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, serde_json::json!(failures).to_string())
}
