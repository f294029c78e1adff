//! What is counted, for Prometheus. Labels have few values; names of repositories are not labels.

mod compatible;
mod database;
mod disk_cache;
mod process;
mod shared_cache;
mod storage;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use compatible::Compatible;
use database::Database;
use disk_cache::DiskCache;
use process::Process;
use shared_cache::SharedCache;
pub use shared_cache::SharedCacheEvent;
use storage::Storage;

/// Upper bounds of the histogram's buckets in seconds: a manifest takes microseconds, a layer
/// minutes.
const BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0,
];

/// The registry's counters. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<HandlerLabels, Histogram>,
    response_bytes: Family<HandlerLabels, Counter>,
    auth_requests: Family<OutcomeLabels, Counter>,
    in_flight: Gauge,
    connections: Gauge<i64, std::sync::atomic::AtomicI64>,
    refused_connections: Counter<u64, AtomicU64>,
    failing_checks: Family<CheckLabels, Gauge>,
    dropped_spans: Counter<u64, AtomicU64>,
    compatible: Compatible,
    redis: SharedCache,
    disk_cache: DiskCache,
    storage: Storage,
    database: Database,
    kinds: [[OnceLock<Kind>; METHODS.len()]; HANDLERS],
}

/// The numbers of the requests of one handler and method, so that a request does not look each of
/// them up.
struct Kind {
    labels: HandlerLabels,
    durations: Histogram,
    response_bytes: Counter,
    /// Those that were answered with 200.
    good: OnceLock<Counter>,
    compatible: Option<compatible::Kind>,
}

/// How many kinds of handlers there are: the last of them is [`Handler::Tags`].
const HANDLERS: usize = Handler::Tags as usize + 1;

/// The labels of methods; the last one is for all others.
const METHODS: [&str; 7] = ["delete", "get", "head", "patch", "post", "put", "other"];

/// What a request was about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handler {
    Base,
    Blob,
    BlobUpload,
    BlobUploadChunk,
    Catalog,
    Manifest,
    Other,
    Referrers,
    Search,
    Tags,
}

impl Handler {
    fn label(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Blob => "blob",
            Self::BlobUpload => "blob_upload",
            Self::BlobUploadChunk => "blob_upload_chunk",
            Self::Catalog => "catalog",
            Self::Manifest => "manifest",
            Self::Other => "other",
            Self::Referrers => "referrers",
            Self::Search => "search",
            Self::Tags => "tags",
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    handler: &'static str,
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct HandlerLabels {
    handler: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The names of checks come from the configuration.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CheckLabels {
    check: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::default();
        let durations =
            Family::<HandlerLabels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let response_bytes = Family::default();
        let auth_requests = Family::default();
        let in_flight = Gauge::default();
        let connections = Gauge::default();
        let refused_connections = Counter::default();
        let failing_checks = Family::default();
        let dropped_spans = Counter::default();
        let mut root = Registry::default();
        let compatible = Compatible::register(&mut root);
        let storage = Storage::register(&mut root);
        root.register_collector(Box::new(Process::default()));
        let database = Database::default();
        root.register_collector(Box::new(database.clone()));
        let registry = root.sub_registry_with_prefix("orlop");
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time until the head of the answer",
            durations.clone(),
        );
        registry.register(
            "http_response_bytes",
            "Bytes in the bodies of answers, as announced",
            response_bytes.clone(),
        );
        registry.register(
            "auth_requests",
            "Requests by what became of their credentials",
            auth_requests.clone(),
        );
        registry.register("http_in_flight_requests", "Requests being handled", in_flight.clone());
        registry.register("http_connections", "Open connections", connections.clone());
        registry.register(
            "http_connection_errors",
            "Connections that ended with a protocol error or a timeout",
            refused_connections.clone(),
        );
        registry.register(
            "health_check_failing",
            "1 for a health check that fails, else 0",
            failing_checks.clone(),
        );
        registry.register(
            "traces_dropped_spans",
            "Spans of traces that were sent nowhere",
            dropped_spans.clone(),
        );
        let redis = SharedCache::register(registry);
        let disk_cache = DiskCache::register(registry);
        let shared = Shared {
            registry: root,
            requests,
            durations,
            response_bytes,
            auth_requests,
            in_flight,
            connections,
            refused_connections,
            failing_checks,
            dropped_spans,
            compatible,
            redis,
            disk_cache,
            storage,
            database,
            kinds: Default::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Metrics {
    /// Counts a request that begins.
    pub(crate) fn begin(&self, handler: Handler, parts: &Parts) -> Measured<'_> {
        self.shared.in_flight.inc();
        let kind = self.kind(handler, &parts.method);
        if let Some(compatible) = &kind.compatible {
            compatible.begin(parts);
        }
        Measured { metrics: self, kind, started: Instant::now() }
    }

    fn kind(&self, handler: Handler, method: &Method) -> &Kind {
        let method = method_index(method);
        let shared = &self.shared;
        #[expect(clippy::indexing_slicing, reason = "there is a place for each of both")]
        shared.kinds[handler as usize][method].get_or_init(|| {
            let labels = HandlerLabels { handler: handler.label(), method: METHODS[method] };
            Kind {
                durations: shared.durations.get_or_create(&labels).clone(),
                response_bytes: shared.response_bytes.get_or_create(&labels).clone(),
                good: OnceLock::new(),
                compatible: compatible::knows(handler).then(|| shared.compatible.kind(&labels)),
                labels,
            }
        })
    }

    /// Counts what became of a request's credentials: one of the few words that access has for it.
    pub(crate) fn authenticated(&self, outcome: &'static str) {
        self.shared.auth_requests.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(crate) fn connection_opened(&self) {
        self.shared.connections.inc();
    }

    pub(crate) fn connection_closed(&self, failed: bool) {
        self.shared.connections.dec();
        if failed {
            self.shared.refused_connections.inc();
        }
    }

    /// What has become of a health check.
    pub(crate) fn checked(&self, check: String, fails: bool) {
        let labels = CheckLabels { check };
        self.shared.failing_checks.get_or_create(&labels).set(i64::from(fails));
    }

    /// Takes down what a store does and how long it takes; `driver` is what the configuration calls
    /// its kind. For [`blobs::Observed`].
    pub fn storage(
        &self,
        driver: &'static str,
    ) -> impl Fn(blobs::Action, Duration) + Send + Sync + 'static + use<> {
        let storage = self.shared.storage.clone();
        move |action, took| storage.observe(driver, action, took)
    }

    /// Takes down how the cache is used that servers share.
    pub fn shared_cache(&self) -> impl Fn(SharedCacheEvent) + Send + Sync + 'static + use<> {
        let cache = self.shared.redis.clone();
        move |event| cache.observe(event)
    }

    /// Takes down what happens in a cache on disk. For [`blobs::Cached`].
    pub fn disk_cache(&self) -> impl Fn(blobs::CacheEvent) + Send + Sync + 'static + use<> {
        let disk_cache = self.shared.disk_cache.clone();
        move |event| disk_cache.observe(event)
    }

    /// Counts requests to an object store, by one of the few words for what has become of them.
    pub fn storage_requests(
        &self,
        driver: &'static str,
    ) -> impl Fn(&Method, &'static str) + Send + Sync + 'static + use<> {
        let storage = self.shared.storage.clone();
        move |method, outcome| storage.count(driver, method, outcome)
    }

    /// Counts spans of traces that were sent nowhere.
    pub fn spans_dropped(&self, count: u64) {
        self.shared.dropped_spans.inc_by(count);
    }

    /// Shows how the registry uses the connections of its database.
    pub fn database(&self, registry: &registry::Registry) {
        let _ = self.shared.database.0.set(registry.clone());
    }

    /// All of it in the text format of OpenMetrics.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.shared.registry);
        text
    }
}

/// A request that is being handled.
pub(crate) struct Measured<'a> {
    metrics: &'a Metrics,
    kind: &'a Kind,
    started: Instant,
}

impl Measured<'_> {
    pub(crate) fn end(self, status: StatusCode, length: u64) {
        let (shared, kind) = (&self.metrics.shared, self.kind);
        let HandlerLabels { handler, method } = kind.labels;
        let labels = RequestLabels { handler, method, code: status.as_u16() };
        let count = |good: &OnceLock<Counter>, requests: &Family<RequestLabels, Counter>| {
            if status == StatusCode::OK {
                good.get_or_init(|| requests.get_or_create(&labels).clone()).inc();
            } else {
                requests.get_or_create(&labels).inc();
            }
        };
        count(&kind.good, &shared.requests);
        let took = self.started.elapsed().as_secs_f64();
        kind.durations.observe(took);
        kind.response_bytes.inc_by(length);
        if let Some(compatible) = &kind.compatible {
            compatible.end(length, took);
            count(&compatible.good, &shared.compatible.requests);
        }
    }
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.metrics.shared.in_flight.dec();
        if let Some(compatible) = &self.kind.compatible {
            compatible.leave();
        }
    }
}

/// What a method is called where requests are counted.
#[expect(clippy::indexing_slicing, reason = "there is a place for each")]
fn method_label(method: &Method) -> &'static str {
    METHODS[method_index(method)]
}

/// The place of a method in [`METHODS`]. Clients may invent some; labels may not grow.
fn method_index(method: &Method) -> usize {
    match *method {
        Method::DELETE => 0,
        Method::GET => 1,
        Method::HEAD => 2,
        Method::PATCH => 3,
        Method::POST => 4,
        Method::PUT => 5,
        _ => 6,
    }
}
