//! A server that speaks like Google Cloud Storage passes the suite: `fake-gcs-server`, which must
//! be installed.

mod fake_gcs;
mod server;

use objects::Watch;
use objects::gcs::{self, Config};

use fake_gcs::FakeGcs;

#[tokio::test]
async fn passes_the_suite() {
    let server = FakeGcs::start();
    for root in ["", "/some/folder/"] {
        let config = Config { root: root.to_owned(), ..config(&server) };
        let store = gcs::open(&config, Watch::default()).unwrap();
        // It goes on with sessions that were ended.
        objects::conformance::run_but_aborts(&*store).await.unwrap();
    }
}

#[tokio::test]
async fn one_request_at_a_time_is_enough() {
    let server = FakeGcs::start();
    let config = Config { max_concurrency: 1, ..config(&server) };
    let store = gcs::open(&config, Watch::default()).unwrap();
    objects::conformance::run_but_aborts(&*store).await.unwrap();
}

#[tokio::test]
async fn a_bucket_must_be_there() {
    let server = FakeGcs::start();
    let config = Config { bucket: "another".to_owned(), ..config(&server) };
    let store = gcs::open(&config, Watch::default()).unwrap();
    assert!(store.put("a", vec![bytes::Bytes::from_static(b"content")]).await.is_err());
    assert!(store.find("a").await.unwrap().is_none());
}

fn config(server: &FakeGcs) -> Config {
    Config {
        bucket: fake_gcs::BUCKET.to_owned(),
        emulator: Some(server.place()),
        ..Config::default()
    }
}
