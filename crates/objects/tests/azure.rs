//! A server that speaks like Azure Blob Storage passes the suite: Azurite, which must be installed.

mod azurite;
mod server;

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use objects::Watch;
use objects::azure::{self, Config};

use azurite::Azurite;

#[tokio::test]
async fn passes_the_suite() {
    let server = Azurite::start();
    for root in ["", "/some/folder/"] {
        let config = Config { root: root.to_owned(), ..config(&server) };
        let store = azure::open(&config, Watch::default()).unwrap();
        objects::conformance::run(&*store).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_string_is_enough() {
    let server = Azurite::start();
    let (account, key, url) = (azurite::ACCOUNT, azurite::KEY, server.url());
    let text = format!("AccountName={account};AccountKey={key};BlobEndpoint={url};");
    let config = Config {
        container: azurite::CONTAINER.to_owned(),
        connection_string: Some(text),
        ..Config::default()
    };
    let store = azure::open(&config, Watch::default()).unwrap();
    store.put("a", vec![Bytes::from_static(b"content")]).await.unwrap();
    assert_eq!(store.find("a").await.unwrap().unwrap().size, 7);
}

#[tokio::test]
async fn signed_urls_need_no_key() {
    let server = Azurite::start();
    let config = Config { root: "folder".to_owned(), ..config(&server) };
    let store = azure::open(&config, Watch::default()).unwrap();
    store.put("a/b", vec![Bytes::from_static(b"content")]).await.unwrap();
    let signed = async |method, key| {
        let valid = Duration::from_mins(20);
        store.signed_url(method, key, valid).await.unwrap().unwrap()
    };
    let url = signed(Method::GET, "a/b").await;
    let answer = Command::new("curl").args(["--silent", "--fail", &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "content");
    let head = signed(Method::HEAD, "a/b").await;
    let answer = Command::new("curl").args(["--silent", "--head", "--fail", &head]).output();
    assert!(answer.unwrap().status.success());
    // It is good for nothing else.
    let other = url.replace("a/b", "a/c");
    for refused in [["--get", &other], ["--request=DELETE", &url]] {
        let answer = Command::new("curl").args(["--silent", "--fail"]).args(refused).output();
        assert!(!answer.unwrap().status.success());
    }

    // Who has no more than such a signature can read with it, and can not make others.
    let (place, signature) = url.split_once('?').unwrap();
    let service = place.split(&format!("/{}/", azurite::CONTAINER)).next().unwrap();
    let text = format!("BlobEndpoint={service};SharedAccessSignature={signature}");
    let reader = Config { account_key: None, connection_string: Some(text), ..config };
    let reader = azure::open(&reader, Watch::default()).unwrap();
    assert_eq!(reader.find("a/b").await.unwrap().unwrap().size, 7);
    let none = reader.signed_url(Method::GET, "a/b", Duration::from_mins(20)).await.unwrap();
    assert_eq!(none, None);
}

#[tokio::test]
async fn who_may_not_is_told_so_without_secrets() {
    let server = Azurite::start();
    let wrong = "bm90LXRoZS1zZWNyZXQ=";
    let mut config = Config { account_key: Some(wrong.to_owned()), ..config(&server) };
    let store = azure::open(&config, Watch::default()).unwrap();
    let error = store.find("a").await.unwrap_err();
    assert_eq!(error.kind(), objects::ErrorKind::Denied, "{error}");
    assert!(!error.to_string().contains(wrong), "{error}");
    config.account_key = Some(azurite::KEY.to_owned());
    config.container = "another".to_owned();
    let store = azure::open(&config, Watch::default()).unwrap();
    assert!(store.put("a", vec![Bytes::from_static(b"content")]).await.is_err());
}

fn config(server: &Azurite) -> Config {
    Config {
        account_name: azurite::ACCOUNT.to_owned(),
        account_key: Some(azurite::KEY.to_owned()),
        container: azurite::CONTAINER.to_owned(),
        service_url: Some(server.url()),
        ..Config::default()
    }
}
