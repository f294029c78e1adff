//! The requests for Alibaba OSS are signed as they arrive, and do at an S3 store what they should.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod aliyun;
mod seaweedfs;
mod server;

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use objects::oss::{self, Config, SignatureVersion};
use objects::{ErrorKind, Watch};

use aliyun::Oss;
use seaweedfs::SeaweedFs;

#[tokio::test]
async fn passes_the_suite() {
    let store = SeaweedFs::start();
    let server = Oss::start(&store).await;
    for (signature, root) in [(SignatureVersion::V4, ""), (SignatureVersion::V1, "/a folder/")] {
        let config = Config { signature, root_directory: root.to_owned(), ..config(&server) };
        let store = oss::open(&config, Watch::default()).unwrap();
        objects::conformance::run(&*store).await.unwrap();
        signed_urls_open_the_object(&config).await;
        who_may_not_is_told_so_without_secrets(&config).await;
    }
    assert_eq!(server.encrypted(), 0);
    let config = Config { encrypt: true, ..config(&server) };
    let store = oss::open(&config, Watch::default()).unwrap();
    store.put("encrypted", vec![Bytes::from_static(b"x")]).await.unwrap();
    let attempt = store.begin("encrypted").await.unwrap();
    store.abort("encrypted", &attempt).await.unwrap();
    assert_eq!(server.encrypted(), 2, "whatever makes an object asks for it");
}

async fn signed_urls_open_the_object(config: &Config) {
    let store = oss::open(config, Watch::default()).unwrap();
    store.put("a b/signed", vec![Bytes::from_static(b"content")]).await.unwrap();
    let url = store.signed_url(Method::GET, "a b/signed", Duration::from_mins(1)).await;
    let url = url.unwrap().unwrap();
    let curl = |arguments: &[&str]| {
        let made = Command::new("curl").arg("--silent").args(arguments).output().unwrap();
        String::from_utf8(made.stdout).unwrap()
    };
    let (url_of_get, status) = (url.clone(), ["--head", "--write-out", "%{http_code}"]);
    let answers = tokio::task::spawn_blocking(move || {
        (curl(&[&url]), curl(&[&status[..], &[&url]].concat()))
    });
    let (content, head) = answers.await.unwrap();
    assert_eq!(content, "content", "{url_of_get}");
    assert!(head.ends_with("403"), "for no other method: {head}");
}

async fn who_may_not_is_told_so_without_secrets(config: &Config) {
    let secret = "not-the-secret".to_owned();
    let wrong = Config { access_key_secret: secret, ..config.clone() };
    let error = oss::open(&wrong, Watch::default()).unwrap().find("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(!error.to_string().contains("not-the-secret"), "{error}");
}

fn config(server: &Oss) -> Config {
    Config {
        access_key_id: aliyun::ID.to_owned(),
        access_key_secret: aliyun::SECRET.to_owned(),
        region: format!("oss-{}", aliyun::REGION),
        bucket: aliyun::BUCKET.to_owned(),
        endpoint: Some(server.url.clone()),
        ..Config::default()
    }
}
