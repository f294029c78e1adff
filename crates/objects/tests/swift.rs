//! A real Swift passes the suite: that of Debian, with `TempAuth`, which must be installed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod openstack;
mod server;

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use objects::swift::{self, Config};
use objects::{ErrorKind, Objects, Watch};

use openstack::Swift;

#[tokio::test]
async fn passes_the_suite() {
    let server = Swift::start();
    for prefix in ["", "some/folder"] {
        // The container is made by whoever comes first.
        let store =
            swift::open(&Config { prefix: prefix.to_owned(), ..config(&server) }, Watch::default())
                .unwrap();
        objects::conformance::run(&*store).await.unwrap();
    }
    segments_go_with_their_object(&server).await;
    many_segments_are_one_object(&server).await;
    what_registry_2_wrote_is_read_and_removed(&server).await;
    long_listings_come_in_pages(&server).await;
    signed_urls_open_the_object(&server).await;
}

#[tokio::test]
async fn a_token_that_died_is_replaced() {
    let mut server = Swift::start();
    let store = swift::open(&config(&server), Watch::default()).unwrap();
    store.put("a", vec![Bytes::from_static(b"before")]).await.unwrap();
    server.forget_tokens();
    assert!(store.find("a").await.unwrap().is_some());
    // The store may well hang up before it has heard all of it.
    server.forget_tokens();
    store.put("large", vec![Bytes::from(vec![7; 24 << 20])]).await.unwrap();
    assert_eq!(store.find("large").await.unwrap().unwrap().size, 24 << 20);
    who_may_not_is_told_so_without_secrets(&server).await;
}

async fn who_may_not_is_told_so_without_secrets(server: &Swift) {
    let wrong = Config { password: "not-the-password".to_owned(), ..config(server) };
    let other = Config { username: openstack::OTHER_USER.to_owned(), ..config(server) };
    for config in [wrong, other] {
        let error = swift::open(&config, Watch::default()).unwrap().find("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(!error.to_string().contains(&config.password), "{error}");
    }
}

async fn segments_go_with_their_object(server: &Swift) {
    let store = swift::open(&config(server), Watch::default()).unwrap();
    let before = server.objects();
    write_parts(&*store, "large", 3).await;
    assert_eq!(server.objects(), before + 4, "a manifest and its segments");
    let listed = objects::list_all(&*store, "large", false).await.unwrap().objects;
    assert_eq!(listed.len(), 1, "segments are not listed");
    assert_eq!(listed[0].1.size, 3);
    // Somebody who thinks that it was abandoned does no harm.
    let attempt = write_parts(&*store, "kept", 2).await;
    store.abort("kept", &attempt).await.unwrap();
    assert_eq!(store.get("kept", 0, u64::MAX).await.unwrap().size, 2);
    for key in ["large", "kept"] {
        store.delete(key).await.unwrap();
        assert!(store.find(key).await.unwrap().is_none());
    }
    assert_eq!(server.objects(), before, "nothing is left");
    // Nor is anything left of an attempt that was aborted.
    let attempt = store.begin("aborted").await.unwrap();
    store.part("aborted", &attempt, 0, 0, vec![Bytes::from_static(b"x")]).await.unwrap();
    assert_eq!(store.attempts("abo").await.unwrap().len(), 1);
    store.abort("aborted", &attempt).await.unwrap();
    assert_eq!(server.objects(), before, "nothing is left");
    let last = vec![Bytes::from_static(b"last")];
    let parts = vec![format!("{:032}:1", 0)];
    let error = store.complete("aborted", &attempt, parts, last).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(server.objects(), before, "nothing is left");
}

async fn many_segments_are_one_object(server: &Swift) {
    let store = swift::open(&config(server), Watch::default()).unwrap();
    let before = server.objects();
    write_parts(&*store, "many", 1001).await;
    assert_eq!(store.find("many").await.unwrap().unwrap().size, 1001);
    let opened = store.get("many", 998, u64::MAX).await.unwrap();
    assert_eq!((opened.size, collect(opened.bytes).await), (1001, vec![230, 231, 232]));
    store.delete("many").await.unwrap();
    assert_eq!(server.objects(), before, "nothing is left");
}

/// A dynamic large object, as registry:2 makes them.
async fn what_registry_2_wrote_is_read_and_removed(server: &Swift) {
    let store = swift::open(&config(server), Watch::default()).unwrap();
    let before = server.objects();
    let raw = Raw::log_in(server);
    raw.put("segments/abc/def/0000000000000001", "one", &[]);
    raw.put("segments/abc/def/0000000000000002", "two", &[]);
    raw.put("files/old/data", "", &["X-Object-Manifest: registry/segments/abc/def"]);
    assert_eq!(store.find("old/data").await.unwrap().unwrap().size, 6);
    let opened = store.get("old/data", 2, 5).await.unwrap();
    assert_eq!((opened.size, collect(opened.bytes).await), (6, b"etw".to_vec()));
    store.delete("old/data").await.unwrap();
    assert_eq!(server.objects(), before, "nothing is left");
    // Not everything that a manifest can name is a segment.
    raw.put("files/old/data", "", &["X-Object-Manifest: registry/files/"]);
    store.put("bystander", vec![Bytes::from_static(b"x")]).await.unwrap();
    store.delete("old/data").await.unwrap();
    assert!(store.find("bystander").await.unwrap().is_some());
}

async fn long_listings_come_in_pages(server: &Swift) {
    let store = swift::open(&config(server), Watch::default()).unwrap();
    let mut writing = tokio::task::JoinSet::new();
    for number in 0..1010 {
        if writing.len() == 16 {
            writing.join_next().await.unwrap().unwrap();
        }
        let store = store.clone();
        writing.spawn(async move {
            let key = format!("pages/{number:04}/{}", number % 2);
            store.put(&key, Vec::new()).await.unwrap();
        });
    }
    writing.join_all().await;
    let page = store.list("pages/", false, None).await.unwrap();
    assert!(page.objects.len() == 1000 && page.next.is_some());
    let all = objects::list_all(&*store, "pages/", false).await.unwrap();
    assert_eq!(all.objects.len(), 1010);
    let folders = objects::list_all(&*store, "pages/", true).await.unwrap();
    assert_eq!((folders.folders.len(), folders.objects.len()), (1010, 0));
}

async fn signed_urls_open_the_object(server: &Swift) {
    let url = async |config: Config, method: Method| {
        let store = swift::open(&config, Watch::default()).unwrap();
        store.put("a folder/signed", vec![Bytes::from_static(b"content")]).await.unwrap();
        store.signed_url(method, "a folder/signed", Duration::from_mins(1)).await.unwrap()
    };
    let plain = || config(server);
    assert_eq!(url(plain(), Method::GET).await, None, "nobody has said a key");
    let with_key = Config { secret_key: Some("a key".to_owned()), ..plain() };
    let first = url(with_key, Method::GET).await.unwrap();
    assert_eq!(curl(&[&first]), "content");
    // From then on the container knows it.
    let head = url(plain(), Method::HEAD).await.unwrap();
    assert!(curl(&["--head", &head]).contains("200 OK"));
    assert_eq!(curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &head]), "401");
    assert_eq!(url(plain(), Method::PATCH).await, None, "no such method is allowed");
    // A large object is opened by its manifest's URL.
    let store = swift::open(&plain(), Watch::default()).unwrap();
    write_parts(&*store, "signed-large", 3).await;
    let large = store.signed_url(Method::GET, "signed-large", Duration::from_mins(1)).await;
    assert_eq!(curl(&[&large.unwrap().unwrap()]).as_bytes(), [0, 1, 2]);
}

/// Writes an object in parts of a byte each.
async fn write_parts(store: &dyn Objects, key: &str, count: u64) -> String {
    let attempt = store.begin(key).await.unwrap();
    let mut parts = Vec::new();
    for number in 0..count {
        let content = vec![Bytes::from(vec![u8::try_from(number % 256).unwrap()])];
        let number_in_all = usize::try_from(number).unwrap();
        let part = store.part(key, &attempt, number_in_all, number, content).await;
        parts.push(part.unwrap());
    }
    store.complete(key, &attempt, parts, Vec::new()).await.unwrap();
    attempt
}

/// Requests that the store under test does not make.
struct Raw {
    token: String,
    container: String,
}

impl Raw {
    fn log_in(server: &Swift) -> Self {
        let user = format!("X-Auth-User: {}", openstack::USER);
        let key = format!("X-Auth-Key: {}", openstack::PASSWORD);
        let head = curl(&["--include", "--header", &user, "--header", &key, &server.auth_url()]);
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} in {head}")).trim().to_owned()
        };
        let container = format!("{}/registry", header("X-Storage-Url:"));
        Self { token: format!("X-Auth-Token: {}", header("X-Auth-Token:")), container }
    }

    fn put(&self, name: &str, content: &str, headers: &[&str]) {
        let url = format!("{}/{name}", self.container);
        let headers = headers.iter().flat_map(|header| ["--header", header]);
        let mut arguments = vec!["--fail", "--request", "PUT", "--data-binary", content, &url];
        arguments.extend(["--header", &self.token]);
        arguments.extend(headers);
        curl(&arguments);
    }
}

fn curl(arguments: &[&str]) -> String {
    let made = Command::new("curl").arg("--silent").args(arguments).output();
    let made = made.unwrap_or_else(|error| panic!("curl: {error}"));
    assert!(made.status.success(), "{arguments:?}: {}", made.status);
    String::from_utf8(made.stdout).unwrap()
}

async fn collect(mut bytes: objects::ByteStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(next) = std::future::poll_fn(|context| bytes.as_mut().poll_next(context)).await {
        all.extend_from_slice(&next.unwrap());
    }
    all
}

fn config(server: &Swift) -> Config {
    Config {
        username: openstack::USER.to_owned(),
        password: openstack::PASSWORD.to_owned(),
        auth_url: server.auth_url(),
        container: "registry".to_owned(),
        ..Config::default()
    }
}
