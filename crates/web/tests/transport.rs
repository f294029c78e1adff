//! The registry over everything it can be reached by: HTTP/1.1 and HTTP/2, with TLS and without,
//! unix sockets, and below a path.

// Clippy lets tests panic, but not yet the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use net::Listener;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use web::Metrics;
use web::server::{Protocols, Shutdown, serve};
use web::urls::Prefix;

use support::http2::{Client, Server};
use support::socket::{read_answer, within};
use support::{TestRegistry, images, sha256};

fn absolute(config: &mut web::Config) {
    config.urls.relative = false;
}

/// Pushes and pulls an image. Returns what the URLs of answers began with.
async fn use_registry(client: &mut Client<Full<Bytes>>) -> String {
    client.ask(Method::GET, "/v2/", "").await.expect(200);
    let layer: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let config = "{}";
    let mut base = String::new();
    for content in [layer.clone(), config.into()] {
        let begun = client.ask(Method::POST, "/v2/team/app/blobs/uploads/", "").await.status(202);
        let location = begun.header("location").to_owned();
        let (origin, path) = location.split_once("/v2/").unwrap();
        origin.clone_into(&mut base);
        let target = format!("/v2/{path}?digest={}", sha256(&content));
        client.ask(Method::PUT, &target, content).await.expect(201);
    }
    let manifest = images::image(config.as_bytes(), &[&layer]);
    client.ask(Method::PUT, "/v2/team/app/manifests/v1", manifest.clone()).await.expect(201);
    let pulled = client.ask(Method::GET, "/v2/team/app/manifests/v1", "").await.status(200);
    assert_eq!(pulled.body, manifest);
    let target = format!("/v2/team/app/blobs/{}", sha256(&layer));
    let pulled = client.ask(Method::GET, &target, "").await.status(200);
    assert!(pulled.body == layer);
    let head = client.ask(Method::HEAD, &target, "").await.status(200);
    assert_eq!(head.header("content-length"), layer.len().to_string());
    base
}

#[tokio::test]
async fn http2_over_tls() {
    let server = Server::start_tls(absolute).await;
    let base = use_registry(&mut server.client().await).await;
    assert_eq!(base, "https://registry.test");
}

#[tokio::test]
async fn http2_without_tls() {
    let server = Server::start_plain(true, absolute).await;
    let base = use_registry(&mut server.client().await).await;
    assert_eq!(base, "http://registry.test");
}

#[tokio::test]
async fn http1_beside_it() {
    let h2c = Server::start_plain(true, absolute).await;
    let mut socket = within(TcpStream::connect(h2c.address)).await.unwrap();
    // The first bytes are those of HTTP/2, and they come one at a time.
    for byte in b"PR /" {
        socket.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    socket.write_all(b"v2/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let answer = within(read_answer(&mut socket, "PR /v2/")).await.unwrap().unwrap();
    assert_eq!(answer.status, 405);
    socket.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let answer = within(read_answer(&mut socket, "GET /v2/")).await.unwrap().unwrap();
    assert_eq!(answer.status, 200);

    let tls = Server::start_tls(absolute).await;
    for protocols in [&["http/1.1"][..], &[]] {
        let mut stream = tls.connect_tls(protocols).await;
        let request = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: r.test\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = within(read_answer(&mut stream, "POST /")).await.unwrap().unwrap();
        assert_eq!(answer.status, 202);
        assert!(answer.header("location").starts_with("https://r.test/v2/a/"), "{answer}");
    }
}

#[tokio::test]
async fn http2_without_tls_is_off_unless_it_is_switched_on() {
    let server = Server::start_plain(false, absolute).await;
    let mut socket = within(TcpStream::connect(server.address)).await.unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // However it ends: there is no settings frame, with which HTTP/2 would begin.
    let _ = within(socket.read_to_end(&mut answer)).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
}

#[tokio::test]
async fn an_early_refusal_overtakes_the_body() {
    let server = Server::start_tls(absolute).await;
    let mut client = server.client().await;
    let (sender, body) = support::live_body();
    let body = body.map_err(|_| std::io::Error::other("broken"));
    let response =
        client.send(Method::PUT, "/v2/a/blobs/uploads/nosuchsession?digest=x", body).await;
    let response = response.unwrap();
    assert_eq!(response.status(), 400);
    let text = within(response.into_body().collect()).await.unwrap().to_bytes();
    assert!(text.starts_with(b"{\"errors\""), "{text:?}");
    // What the client had begun to send is taken: some forget the answer where it is not.
    for _ in 0..40 {
        sender.send(vec![0; 64 << 10]).await;
    }
    within(sender.taken()).await;
    assert!(!sender.is_broken());
}

#[tokio::test]
async fn who_has_finished_speaking_still_gets_the_answer() {
    let server = Server::start_plain(false, absolute).await;
    let content: Vec<u8> = (0..5_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let digest = server.registry.push_blob("a", &content).await;
    for request in [
        format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n"),
        format!("GET /v2/a/blobs/{digest} HTTP/1.0\r\n\r\n"),
    ] {
        let mut socket = within(TcpStream::connect(server.address)).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        within(socket.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.ends_with(&content), "{} bytes", answer.len());
    }
}

/// Parts of a file, between other answers on the same connection, all asked for at once.
#[tokio::test]
async fn what_leaves_by_sendfile_is_what_was_asked_for() {
    let server = Server::start_plain(false, absolute).await;
    let mut state = 7_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    let content: Vec<u8> = (0..3_000_001).map(|_| byte()).collect();
    let digest = server.registry.push_blob("a", &content).await;
    let ranges = [(0, 3_000_001), (1, 100_000), (4_097, 2_999_999), (70_000, 70_001)];
    let requests = ranges.map(|(start, end)| {
        let range = format!("Range: bytes={start}-{}", end - 1);
        format!(
            "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: r\r\n{range}\r\n\r\n\
             HEAD /v2/ HTTP/1.1\r\nHost: r\r\n\r\n"
        )
    });
    let mut socket = within(TcpStream::connect(server.address)).await.unwrap();
    socket.write_all(requests.concat().as_bytes()).await.unwrap();
    let mut socket = tokio::io::BufReader::new(socket);
    for (start, end) in ranges {
        let answer = within(read_answer(&mut socket, "GET /")).await.unwrap().unwrap();
        assert_eq!(answer.status, 206);
        assert!(answer.body == content[start..end], "{start} to {end}");
        let answer = within(read_answer(&mut socket, "HEAD /v2/")).await.unwrap().unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    }
}

/// A connection that rests is taken from hyper, and given back with the next request.
#[tokio::test]
async fn a_connection_may_rest() {
    const REST: Duration = Duration::from_millis(300);
    async fn use_now_and_then(mut connection: impl AsyncRead + AsyncWrite + Unpin) {
        for _ in 0..2 {
            tokio::time::sleep(REST).await;
            connection.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\nGET /v2/ HT").await.unwrap();
            let answer = within(read_answer(&mut connection, "GET /v2/")).await.unwrap().unwrap();
            assert_eq!(answer.status, 200);
            tokio::time::sleep(REST).await;
            connection.write_all(b"TP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
            let answer = within(read_answer(&mut connection, "GET /v2/")).await.unwrap().unwrap();
            assert_eq!(answer.status, 200);
        }
    }
    let (plain, tls) =
        (Server::start_plain(true, absolute).await, Server::start_tls(absolute).await);
    let socket = within(TcpStream::connect(plain.address)).await.unwrap();
    tokio::join!(use_now_and_then(socket), use_now_and_then(tls.connect_tls(&["http/1.1"]).await),);
}

/// RFC 9112 §3.2.
#[tokio::test]
async fn a_request_has_one_host() {
    let server = Server::start_plain(false, absolute).await;
    for (head, status) in [
        ("GET /v2/ HTTP/1.1\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /v2/ HTTP/1.0\r\n\r\n", 200),
    ] {
        let mut socket = within(TcpStream::connect(server.address)).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        let answer = within(read_answer(&mut socket, "GET /v2/")).await.unwrap().unwrap();
        assert_eq!(answer.status, status, "{head}");
    }
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let server = Server::start_tls(absolute).await;
    let content = vec![7; 400_000];
    let digest = server.registry.push_blob("a", &content).await;
    let client = server.client().await;
    let pulls = (0..150).map(|_| {
        let (mut client, target) = (client.clone(), format!("/v2/a/blobs/{digest}"));
        tokio::spawn(async move { client.ask(Method::GET, &target, "").await.status(200).body })
    });
    for pull in pulls.collect::<Vec<_>>() {
        assert!(pull.await.unwrap() == content);
    }
}

#[tokio::test]
async fn running_requests_finish_when_the_server_stops() {
    let server = Server::start_tls(absolute).await;
    let content = vec![3; 8 << 20];
    let digest = server.registry.push_blob("a", &content).await;
    let mut client = server.client().await;
    let target = format!("/v2/a/blobs/{digest}");
    let response = client.send(Method::GET, &target, Full::<Bytes>::default()).await.unwrap();
    let stopping = tokio::spawn(server.shutdown.run(Duration::from_secs(20)));
    let body = within(response.into_body().collect()).await.unwrap().to_bytes();
    assert!(body == content);
    drop(client);
    assert!(within(stopping).await.unwrap(), "nothing had to be cut");
}

#[tokio::test]
async fn a_unix_socket() {
    let registry = TestRegistry::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orlop.sock");
    let listener = Listener::bind_unix(&path).unwrap();
    let shutdown = Shutdown::default();
    let service = registry.service.clone();
    let (protocols, metrics) = (Protocols::default(), Metrics::default());
    tokio::spawn(serve(listener, protocols, service, metrics, shutdown.ending()));
    let mut socket = within(UnixStream::connect(&path)).await.unwrap();
    socket.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let answer = within(read_answer(&mut socket, "GET /v2/")).await.unwrap().unwrap();
    assert_eq!(answer.status, 200);
    drop(socket);
    assert!(within(shutdown.run(Duration::from_secs(20))).await);
    assert!(!path.exists());
}

async fn below_a_path(configure: impl FnOnce(&mut web::Config)) -> TestRegistry {
    TestRegistry::with(registry::Config::default(), |config| {
        config.urls.prefix = Prefix::parse("/images/").unwrap();
        configure(config);
    })
    .await
}

#[tokio::test]
async fn everything_is_below_the_prefix() {
    let registry = below_a_path(absolute).await;
    registry.get("/images/v2/").await.expect(200);
    registry.get("/images/v1/search?q=a").await.expect(200);
    registry.get("/images/").await.expect(200);
    registry.get("/").await.expect(200);
    let moved = registry.get("/images/v2").await.status(301);
    assert_eq!(moved.header("location"), "/images/v2/");
    for outside in ["/images", "/imagesv2/", "/v1/search?q=a", "/other/v2/"] {
        registry.get(outside).await.expect(404);
    }
}

#[tokio::test]
async fn urls_have_the_prefix() {
    let location = async |configure: fn(&mut web::Config)| {
        let registry = below_a_path(configure).await;
        let target = "/images/v2/a/blobs/uploads/";
        let begun = registry.request(Method::POST, target).send().await.status(202);
        begun.header("location").rsplit_once('/').unwrap().0.to_owned()
    };
    let path = "/v2/a/blobs/uploads";
    assert_eq!(location(absolute).await, format!("http://registry.test/images{path}"));
    assert_eq!(location(|_| ()).await, format!("/images{path}"));
    let host: fn(&mut web::Config) = |config| {
        config.urls.host = Some("https://r.test/outside/".to_owned());
    };
    assert_eq!(location(host).await, format!("https://r.test/outside{path}"));
}

#[tokio::test]
async fn links_have_the_prefix() {
    for (host, expected) in [(None, "/images"), (Some("https://r.test/outside"), "/outside")] {
        let registry = below_a_path(|config| config.urls.host = host.map(str::to_owned)).await;
        for name in ["a", "b"] {
            let target = format!("/images/v2/{name}/blobs/uploads/?digest={}", sha256(b"{}"));
            registry.request(Method::POST, target).body("{}").send().await.expect(201);
            registry
                .request(Method::PUT, format!("/images/v2/{name}/manifests/v1"))
                .header("content-type", oci::media_type::OCI_MANIFEST)
                .body(images::image(b"{}", &[]))
                .send()
                .await
                .expect(201);
        }
        let page = registry.get("/images/v2/_catalog?n=1").await.status(200);
        let link = format!("<{expected}/v2/_catalog?last=a&n=1>; rel=\"next\"");
        assert_eq!(page.header("link"), link);
    }
}
