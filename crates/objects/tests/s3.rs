//! A real S3 store passes the suite: one process of `SeaweedFS`, which must be installed.

mod seaweedfs;
mod server;

use objects::Watch;
use objects::s3::{self, Config, Keys};

use seaweedfs::SeaweedFs;

#[tokio::test]
async fn passes_the_suite() {
    let server = SeaweedFs::start();
    for root in ["", "/some/folder/"] {
        let config = Config { root: root.to_owned(), ..config(&server) };
        let store = s3::open(&config, Watch::default()).unwrap();
        objects::conformance::run(&*store).await.unwrap();
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_without_secrets() {
    let server = SeaweedFs::start();
    let mut config = config(&server);
    config.keys = Some(Keys { secret: "not-the-secret".to_owned(), ..config.keys.unwrap() });
    let store = s3::open(&config, Watch::default()).unwrap();
    let error = store.find("a").await.unwrap_err();
    assert_eq!(error.kind(), objects::ErrorKind::Denied, "{error}");
    assert!(!error.to_string().contains("not-the-secret"), "{error}");
    config.bucket = "another".to_owned();
    assert!(s3::open(&config, Watch::default()).unwrap().find("a").await.is_err());
}

fn config(server: &SeaweedFs) -> Config {
    Config {
        bucket: seaweedfs::BUCKET.to_owned(),
        endpoint: Some(server.url()),
        keys: Some(Keys {
            id: seaweedfs::ACCESS_KEY.to_owned(),
            secret: seaweedfs::SECRET_KEY.to_owned(),
            session_token: None,
        }),
        ..Config::default()
    }
}
