//! The address for operators: liveness, readiness and metrics, apart from clients.

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use registry::Registry;

use crate::metrics::Metrics;
use crate::service::{empty, json};
use crate::{Response, ResponseBody};

/// Answers on the operators' address.
#[derive(Clone)]
pub struct Debug {
    registry: Registry,
    metrics: Metrics,
    /// Where metrics are, if they are on.
    metrics_path: Option<String>,
}

impl Debug {
    /// Tells about `registry` and `metrics`.
    pub fn new(registry: Registry, metrics: Metrics, metrics_path: Option<String>) -> Self {
        Self { registry, metrics, metrics_path }
    }

    /// Answers one request.
    pub async fn handle(&self, method: &Method, path: &str) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        match path {
            "/livez" => json(StatusCode::OK, "{}".to_owned()),
            "/readyz" | "/debug/health" => self.ready().await,
            path if self.metrics_path.as_deref() == Some(path) => self.metrics(),
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    async fn ready(&self) -> Response {
        match self.registry.check_ready().await {
            Ok(()) => json(StatusCode::OK, "{}".to_owned()),
            Err(error) => {
                tracing::error!(%error, "not ready");
                let body = serde_json::json!({ "registry": error.to_string() });
                json(StatusCode::SERVICE_UNAVAILABLE, body.to_string())
            }
        }
    }

    fn metrics(&self) -> Response {
        let mut response = Response::new(ResponseBody::from(self.metrics.text()));
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}
