//! Requests under the names, labels and buckets of `distribution`, so that its dashboards and
//! alerts go on working.

use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;

use http::request::Parts;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Handler, HandlerLabels, RequestLabels};

/// Upper bounds in seconds.
pub(super) const DURATIONS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    handler: &'static str,
}

/// `registry_http_*`.
pub(super) struct Compatible {
    in_flight: Family<Labels, Gauge<i64, AtomicI64>>,
    pub(super) requests: Family<RequestLabels, Counter>,
    durations: Family<HandlerLabels, Histogram, fn() -> Histogram>,
    request_sizes: Family<Labels, Histogram, fn() -> Histogram>,
    response_sizes: Family<Labels, Histogram, fn() -> Histogram>,
}

/// The numbers of the requests of one handler and method.
pub(super) struct Kind {
    in_flight: Gauge<i64, AtomicI64>,
    durations: Histogram,
    request_sizes: Histogram,
    response_sizes: Histogram,
    /// Those that were answered with 200.
    pub(super) good: OnceLock<Counter>,
}

/// Whether `distribution` has this kind of request, and so has numbers for it.
pub(super) fn knows(handler: Handler) -> bool {
    !matches!(handler, Handler::Other | Handler::Referrers | Handler::Search)
}

impl Compatible {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let durations: fn() -> Histogram = || Histogram::new(DURATIONS);
        // 1 KiB to 2 GiB.
        let sizes: fn() -> Histogram = || Histogram::new(exponential_buckets(1024.0, 2.0, 22));
        let metrics = Self {
            in_flight: Family::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(durations),
            request_sizes: Family::new_with_constructor(sizes),
            response_sizes: Family::new_with_constructor(sizes),
        };
        let registry = registry.sub_registry_with_prefix("registry_http");
        registry.register(
            "in_flight_requests",
            "The in-flight HTTP requests",
            metrics.in_flight.clone(),
        );
        registry.register(
            "requests",
            "Total number of HTTP requests made",
            metrics.requests.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "The HTTP request latencies in seconds",
            metrics.durations.clone(),
        );
        registry.register(
            "request_size_bytes",
            "The HTTP request sizes in bytes",
            metrics.request_sizes.clone(),
        );
        registry.register(
            "response_size_bytes",
            "The HTTP response sizes in bytes",
            metrics.response_sizes.clone(),
        );
        metrics
    }

    pub(super) fn kind(&self, labels: &HandlerLabels) -> Kind {
        let of_handler = Labels { handler: labels.handler };
        Kind {
            in_flight: self.in_flight.get_or_create(&of_handler).clone(),
            durations: self.durations.get_or_create(labels).clone(),
            request_sizes: self.request_sizes.get_or_create(&of_handler).clone(),
            response_sizes: self.response_sizes.get_or_create(&of_handler).clone(),
            good: OnceLock::new(),
        }
    }
}

impl Kind {
    pub(super) fn begin(&self, parts: &Parts) {
        self.in_flight.inc();
        self.request_sizes.observe(float(size(parts)));
    }

    pub(super) fn end(&self, length: u64, took: f64) {
        self.durations.observe(took);
        self.response_sizes.observe(float(length));
    }

    /// However the request ended.
    pub(super) fn leave(&self) {
        self.in_flight.dec();
    }
}

/// About as many bytes as the request has on the wire, its body as announced.
fn size(parts: &Parts) -> u64 {
    let headers = parts.headers.iter();
    let head: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    let line = parts.method.as_str().len() + parts.uri.path().len() + "HTTP/1.1".len();
    let announced = parts.headers.get(http::header::CONTENT_LENGTH);
    let body = announced.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    u64::try_from(head + line).unwrap_or(u64::MAX).saturating_add(body)
}

#[allow(clippy::cast_precision_loss)] // Sums of histograms are floats.
fn float(bytes: u64) -> f64 {
    bytes as f64
}
