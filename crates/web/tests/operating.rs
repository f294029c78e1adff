//! What operators see: health and metrics.

// Clippy lets tests panic, but not yet the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::time::Duration;

use blobs::Action;
use http::header::{ACCEPT, HeaderValue};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use web::{Debug, Health, Metrics, RequestBody, Service};

use support::TestRegistry;

/// A registry with an operators' address, both without sockets.
struct Operated {
    service: Service,
    debug: Debug,
    health: Health,
    metrics: Metrics,
    _store: TestRegistry,
}

impl Operated {
    async fn new() -> Self {
        let store = TestRegistry::new().await;
        let (health, metrics) = (Health::default(), Metrics::default());
        let mut config = web::Config::new(None, true);
        config.health = health.clone();
        let service = Service::new(store.registry.clone(), config, metrics.clone());
        let path = Some("/numbers".to_owned());
        let debug = Debug::new(store.registry.clone(), health.clone(), metrics.clone(), path);
        Self { service, debug, health, metrics, _store: store }
    }

    async fn ask(&self, method: Method, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).header("host", "registry.test");
        let request = request.body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let body = RequestBody::new(&parts.headers, Empty::new());
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        text(self.service.handle(parts, body, peer.into()).await).await
    }

    async fn look(&self, path: &str) -> (u16, String) {
        self.look_for(path, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await
    }

    async fn look_for(&self, path: &str, accept: &'static str) -> (u16, String) {
        let headers = [(ACCEPT, HeaderValue::from_static(accept))].into_iter().collect();
        text(self.debug.handle(&Method::GET, path, &headers).await).await
    }
}

async fn text(response: web::Response) -> (u16, String) {
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await else { panic!("the body broke off") };
    (head.status.as_u16(), String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn while_a_check_fails_nothing_is_answered() {
    let registry = Operated::new().await;
    assert_eq!(registry.ask(Method::GET, "/v2/").await.0, 200);
    assert_eq!(registry.look("/debug/health").await, (200, "{}".to_owned()));

    registry.health.report("tcp", Err("refused".to_owned()));
    registry.health.report("other", Ok(()));
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/v2/"),
        (Method::HEAD, "/v2/a/manifests/b"),
        (Method::POST, "/v2/a/blobs/uploads/"),
        (Method::GET, "/nowhere"),
    ] {
        let (status, body) = registry.ask(method, path).await;
        assert_eq!(status, 503, "{path}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["errors"][0]["code"], "UNAVAILABLE");
        let detail = "health check failed: please see /debug/health";
        assert_eq!(body["errors"][0]["detail"], detail);
    }
    let refused = (503, "{\"tcp\":\"refused\"}".to_owned());
    assert_eq!(registry.look("/debug/health").await, refused);
    assert_eq!(registry.look("/readyz").await, refused);
    assert_eq!(registry.look("/livez").await.0, 200);
    let (_, metrics) = registry.look("/numbers").await;
    assert!(metrics.contains("\norlop_health_check_failing{check=\"tcp\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\norlop_health_check_failing{check=\"other\"} 0\n"), "{metrics}");

    registry.health.report("tcp", Ok(()));
    assert_eq!(registry.ask(Method::GET, "/").await.0, 200);
    assert_eq!(registry.look("/debug/health").await, (200, "{}".to_owned()));
}

#[tokio::test]
async fn metrics_have_the_names_of_distribution_too() {
    let registry = Operated::new().await;
    registry.ask(Method::GET, "/v2/").await;
    registry.ask(Method::GET, "/v2/a/manifests/b").await;
    registry.ask(Method::POST, "/v2/a/blobs/uploads/").await;
    registry.ask(Method::from_bytes(b"NONSENSE").unwrap(), "/v2/").await;
    registry.ask(Method::GET, "/nowhere").await;
    registry.metrics.storage("filesystem")(Action::Commit, Duration::from_millis(20));
    assert_eq!(registry.look("/metrics").await.0, 404, "the path is configured");

    let (status, metrics) = registry.look("/numbers").await;
    assert_eq!(status, 200);
    for line in [
        "registry_http_requests_total{handler=\"base\",method=\"get\",code=\"200\"} 1",
        "registry_http_requests_total{handler=\"manifest\",method=\"get\",code=\"404\"} 1",
        "registry_http_requests_total{handler=\"blob_upload\",method=\"post\",code=\"202\"} 1",
        "registry_http_request_duration_seconds_count{handler=\"base\",method=\"get\"} 1",
        "registry_http_in_flight_requests{handler=\"base\"} 0",
        "registry_http_request_size_bytes_bucket{le=\"1024.0\",handler=\"manifest\"} 1",
        "registry_http_response_size_bytes_count{handler=\"manifest\"} 1",
        "registry_storage_action_seconds_count{driver=\"filesystem\",action=\"Move\"} 1",
        "registry_storage_action_seconds_sum{driver=\"filesystem\",action=\"Move\"} 0.02",
        "registry_storage_action_seconds_bucket{le=\"0.025\",driver=\"filesystem\",action=\"Move\"} 1",
        "# TYPE process_cpu_seconds counter",
        "# TYPE process_max_fds gauge",
        "orlop_http_requests_total{handler=\"other\",method=\"get\",code=\"404\"} 1",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} is not in\n{metrics}");
    }
    for unbounded in ["nonsense", "NONSENSE", "registry_http_requests_total{handler=\"other\""] {
        assert!(!metrics.contains(unbounded), "{unbounded}\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));

    // For collectors that are older than OpenMetrics.
    let (_, metrics) = registry.look_for("/numbers", "text/plain;version=0.0.4").await;
    for line in [
        "# TYPE registry_http_requests_total counter",
        "registry_http_requests_total{handler=\"base\",method=\"get\",code=\"200\"} 1",
        "# TYPE process_max_fds gauge",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("# EOF") && !metrics.contains("# UNIT"), "{metrics}");
}
