//! From requests to what a collector is sent.

mod collector;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use blobs::{Blobs, FileSystem, Observed};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use registry::Registry;
use tempfile::TempDir;
use tracing::subscriber::DefaultGuard;
use web::{Debug, Health, Metrics, RequestBody, Service};

use super::{Exporter, Recorder, Settings, TARGET, open};
use crate::config::{Formatter, Level, Log};
use crate::logging;
use collector::{Collector, Seen};

/// A registry whose log is kept, and whose requests are recorded if there is a recorder.
struct Traceable {
    service: Service,
    debug: Debug,
    metrics: Metrics,
    log: Page,
    _recording: DefaultGuard,
    _folder: TempDir,
}

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Traceable {
    async fn new(recorder: Option<Recorder>) -> Self {
        let log = Page::default();
        let output = log.clone();
        let wanted = Log {
            level: Level::Info,
            formatter: Formatter::Text,
            access_log: true,
            report_caller: false,
            fields: std::collections::BTreeMap::new(),
        };
        let (subscriber, _) = logging::subscriber(&wanted, move || output.clone(), false, recorder);
        let recording = tracing::subscriber::set_default(subscriber);
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Blobs> =
            Arc::new(Observed::new(FileSystem::open(folder.path()).unwrap(), |_, _| {}));
        let database = folder.path().join("metadata.sqlite");
        let database = metadata::Metadata::open_sqlite(&database).await.unwrap();
        let registry = Registry::new(database, store, registry::Config::default());
        let metrics = Metrics::default();
        let config = web::Config::new(None, true);
        let service = Service::new(registry.clone(), config, metrics.clone());
        let path = Some("/metrics".to_owned());
        let debug = Debug::new(registry, Health::default(), metrics.clone(), path);
        Self { service, debug, metrics, log, _recording: recording, _folder: folder }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static [u8],
    ) -> StatusCode {
        let mut request =
            Request::builder().method(method).uri(path).header("host", "r.example:5000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let body = RequestBody::new(&parts.headers, Full::new(bytes::Bytes::from_static(body)));
        let peer = std::net::SocketAddr::from(([10, 1, 2, 3], 4711));
        let (head, body) = self.service.handle(parts, body, peer.into()).await.into_parts();
        assert!(body.collect().await.is_ok(), "the body broke off");
        head.status
    }

    async fn dropped(&self) -> String {
        let answer = self.debug.handle(&Method::GET, "/metrics", &http::HeaderMap::new()).await;
        let Ok(body) = answer.into_body().collect().await else { panic!("no metrics") };
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        let line = text.lines().find(|line| line.starts_with("orlop_traces_dropped_spans_total"));
        line.unwrap().split_once(' ').unwrap().1.to_owned()
    }

    fn warnings(&self) -> Vec<String> {
        let log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        let log = String::from_utf8(log.clone()).unwrap();
        log.lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
    }
}

fn tracing_to(url: &str, more: &[(&str, &str)]) -> (Recorder, Exporter) {
    let (settings, warnings) = Settings::read(&|name| {
        let more = more.iter().find(|(known, _)| *known == name);
        let endpoint = (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then_some(url);
        more.map(|(_, value)| *value).or(endpoint).map(str::to_owned)
    });
    assert!(warnings.is_empty(), "{warnings:?}");
    open(settings.unwrap()).unwrap()
}

fn named<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {names:?}"))
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

async fn a_push_and_a_pull(encoding: &str) {
    let collector = Collector::start().await;
    let (recorder, exporter) = tracing_to(
        &collector.url,
        &[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", encoding),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=word"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=here"),
        ],
    );
    let registry = Traceable::new(Some(recorder)).await;
    let sending = exporter.start(registry.metrics.clone());
    let digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "a=1"), ("user-agent", "u/1")];
    let push = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    assert_eq!(registry.ask(Method::POST, &push, &headers, b"hello").await, 201);
    let pull = format!("/v2/team/app/blobs/{digest}");
    assert_eq!(registry.ask(Method::GET, &pull, &[], b"").await, 200);
    let unsampled = [("traceparent", &*parent.replace("-01", "-00"))];
    assert_eq!(registry.ask(Method::GET, "/v2/", &unsampled, b"").await, 200);
    assert_eq!(registry.ask(Method::GET, "/nowhere", &[], b"").await, 404);
    sending.finish().await;

    let received = collector.received();
    assert_eq!(received.len(), 1, "one batch");
    assert_eq!(received[0].path, "/v1/traces");
    assert!(received[0].head.contains("\r\nx-key: word\r\n"), "{}", received[0].head);
    let resource = &received[0].resource;
    let is = |name: &str, value: &str| resource.contains(&(name.to_owned(), value.to_owned()));
    assert!(is("service.name", "orlop") && is("deployment.environment.name", "here"));

    let spans = &received[0].spans;
    let server = named(spans, "POST /v2/{name}/blobs/uploads/");
    assert_eq!((server.trace.as_str(), server.parent.as_str()), (TRACE, CALLER));
    assert_eq!((server.kind, server.state.as_str(), server.failed), (2, "a=1", false));
    assert_eq!(server.flags, 0x301, "sampled; its parent is remote");
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v2/{name}/blobs/uploads/"),
        ("http.response.status_code", "201"),
        ("url.path", "/v2/team/app/blobs/uploads/"),
        ("url.scheme", "http"),
        ("client.address", "10.1.2.3"),
        ("user_agent.original", "u/1"),
        ("network.protocol.version", "1.1"),
    ] {
        assert_eq!(server.attributes.get(name).map(String::as_str), Some(value), "{name}");
    }
    for name in ["storage write", "storage receive", "storage commit", "database write"] {
        let child = spans.iter().find(|span| span.name == name && span.trace == TRACE);
        let child = child.unwrap_or_else(|| panic!("{name}: {spans:?}"));
        assert_eq!((&child.parent, child.kind), (&server.id, 1), "{name}");
        assert_eq!(child.flags, 0x101, "{name}");
        assert!(server.start <= child.start && child.end <= server.end, "{name}: {child:?}");
    }

    let server = named(spans, "GET /v2/{name}/blobs/{digest}");
    assert_eq!((server.parent.as_str(), server.flags), ("", 0x101));
    assert_ne!(server.trace, TRACE);
    assert_eq!(server.attributes["server.address"], "r.example");
    assert_eq!(server.attributes["server.port"], "5000");
    for name in ["database read", "storage open", "send body"] {
        let child = named(spans, name);
        assert_eq!((&child.trace, &child.parent), (&server.trace, &server.id), "{name}");
    }
    let read = &named(spans, "database read").attributes;
    assert_eq!(read["db.system.name"], "sqlite");
    assert!(read["code.function.name"].ends_with("find_blob"), "{read:?}");

    let stranger = named(spans, "GET");
    assert_eq!(stranger.attributes["http.response.status_code"], "404");
    assert!(!stranger.attributes.contains_key("http.route"));
    assert!(!spans.iter().any(|span| span.name == "GET /v2/"), "its caller does not record it");
    let log = String::from_utf8(registry.log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains("otel.") && !log.contains("storage commit"), "{log}");
    assert_eq!(registry.dropped().await, "0");
}

#[tokio::test]
async fn a_request_is_seen_in_protobuf() {
    a_push_and_a_pull("http/protobuf").await;
}

#[tokio::test]
async fn a_request_is_seen_in_json() {
    a_push_and_a_pull("http/json").await;
}

#[tokio::test]
async fn nothing_is_recorded_unless_somebody_asks() {
    let registry = Traceable::new(None).await;
    assert!(!tracing::enabled!(target: TARGET, tracing::Level::ERROR));
    assert!(tracing::info_span!(target: TARGET, "any").is_disabled());
    assert_eq!(registry.ask(Method::GET, "/v2/", &[], b"").await, 200);
}

/// A span as a request has it.
fn record_one() {
    drop(tracing::info_span!(target: TARGET, "one", otel.kind = "server"));
}

#[tokio::test]
async fn a_collector_that_is_down_costs_spans_and_one_warning() {
    let (recorder, exporter) = tracing_to("http://127.0.0.1:1", &[]);
    let registry = Traceable::new(Some(recorder)).await;
    (0..600).for_each(|_| record_one());
    exporter.start(registry.metrics.clone()).finish().await;
    assert_eq!(registry.dropped().await, "600");
    let warnings = registry.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("refused"), "{warnings:?}");
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again() {
    let collector = Collector::start().await;
    collector.refuse("503 Busy\r\nretry-after: 0");
    let (recorder, exporter) = tracing_to(&collector.url, &[]);
    let registry = Traceable::new(Some(recorder)).await;
    record_one();
    let sending = exporter.start(registry.metrics.clone());
    collector.until_received(1).await;
    sending.finish().await;
    assert_eq!(registry.dropped().await, "0");
    assert_eq!(registry.warnings().len(), 1);

    // One that does not want them is not.
    let collector = Collector::start().await;
    collector.refuse("400 No");
    let (recorder, exporter) = tracing_to(&collector.url, &[]);
    drop(registry);
    let registry = Traceable::new(Some(recorder)).await;
    record_one();
    exporter.start(registry.metrics.clone()).finish().await;
    assert_eq!(registry.dropped().await, "1");
    assert!(collector.received().is_empty());
}

#[tokio::test]
async fn what_waits_is_bounded_and_so_is_a_trace() {
    let collector = Collector::start().await;
    let (recorder, exporter) = tracing_to(&collector.url, &[]);
    let registry = Traceable::new(Some(recorder)).await;
    {
        let _server = tracing::info_span!(target: TARGET, "all", otel.kind = "server").entered();
        (0..200).for_each(|_| drop(tracing::info_span!(target: TARGET, "part")));
    }
    (0..2000).for_each(|_| record_one());
    exporter.start(registry.metrics.clone()).finish().await;
    let spans: usize = collector.received().iter().map(|request| request.spans.len()).sum();
    assert_eq!(spans, 2048);
    // 73 of the trace with 201 spans, then what the queue has no room for.
    assert_eq!(registry.dropped().await, (73 + 128 + 2000 - 2048).to_string());
}
