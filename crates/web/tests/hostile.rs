//! Requests that no honest client sends, over a real socket.
//!
//! Heads that the HTTP library refuses (malformed, too long, too many headers) are answered by
//! the library itself with a bare 400, 414 or 431 and the connection's end, before any code of
//! ours runs: they have neither a body nor the headers of a registry. Everything else is answered
//! by us, and must be an answer of a registry.

// Clippy lets tests panic, but not yet the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use support::socket::{Connection, DEADLINE, Server, read_answer, within};
use support::{Answer, Random, sha256, sha512};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;

const REQUESTS: usize = 10_000;
const CLIENTS: usize = 8;

/// How long a client that has not sent its whole body waits before it gives up.
const PATIENCE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_odd_requests() {
    let seed = Random::seed("hostile");
    let server = std::sync::Arc::new(Server::start().await);
    let things = std::sync::Arc::new(Things::push(&server).await);
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let (server, things) = (std::sync::Arc::clone(&server), std::sync::Arc::clone(&things));
        let mut random = Random::new(seed.wrapping_add(client as u64));
        clients.push(tokio::spawn(async move {
            let mut seen = Seen::default();
            for _ in 0..REQUESTS / CLIENTS {
                let request = OddRequest::invent(&mut random, &things);
                request.send(&server, &mut seen).await;
            }
            seen
        }));
    }
    let mut all = Seen::default();
    for client in clients {
        all.add(&client.await.unwrap());
    }
    println!("{all:?}");
    // The requests are odd, but not all alike.
    assert!(all.accepted > REQUESTS / 100, "{all:?}");
    assert!(all.refused > REQUESTS / 4, "{all:?}");
    assert!(all.by_library > REQUESTS / 100, "{all:?}");
    assert_works(&server).await;
}

/// What became of the odd requests.
#[derive(Debug, Default)]
struct Seen {
    accepted: usize,
    refused: usize,
    by_library: usize,
    closed: usize,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.by_library += other.by_library;
        self.closed += other.closed;
    }

    fn count(&mut self, answer: &Answer) {
        if is_by_library(answer) {
            self.by_library += 1;
        } else if answer.status < 400 {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
    }
}

fn is_by_library(answer: &Answer) -> bool {
    let bare = answer.get("x-request-id").is_none();
    if bare {
        assert!(matches!(answer.status, 400 | 414 | 431), "{answer}");
        assert!(answer.body.is_empty(), "{answer}");
        assert_eq!(answer.header("connection"), "close", "{answer}");
    }
    bare
}

/// What exists, so that odd requests also meet something.
struct Things {
    blob: String,
    manifest: String,
    uploads: Vec<String>,
}

impl Things {
    async fn push(server: &Server) -> Self {
        let registry = &server.registry;
        let blob = registry.push_blob("a/b", &Random::new(1).bytes(5000)).await;
        let manifest = registry.push_image("a/b", "v1", "image").await;
        let mut uploads = Vec::new();
        for _ in 0..20 {
            uploads.push(registry.begin_upload("a/b").await);
        }
        Self { blob, manifest, uploads }
    }
}

/// A request as bytes.
struct OddRequest {
    method: String,
    target: String,
    bytes: Vec<u8>,
    /// The body may be shorter than the head says: the server may wait for the rest.
    incomplete: bool,
}

impl OddRequest {
    fn invent(random: &mut Random, things: &Things) -> Self {
        let method = invent_method(random);
        let target = invent_target(random, things);
        let version = match random.below(40) {
            0 => "HTTP/1.0",
            1 => "HTTP/2.0",
            2 => "HTTP/9",
            3 => "http/1.1",
            _ => "HTTP/1.1",
        };
        let mut head = format!("{method} {target} {version}\r\n").into_bytes();
        head.extend(b"Host: registry.test\r\nConnection: close\r\n");
        for _ in 0..random.below(4) {
            head.extend(invent_header(random));
        }
        let incomplete = invent_body(random, &mut head);
        Self { method, target, bytes: head, incomplete }
    }

    /// Whether the HTTP library has no reason to refuse the head. `CONNECT` is left out
    /// because of the defect that a test below describes.
    fn has_good_head(&self) -> bool {
        let end = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let mut lines = self.bytes[..end + 2].split_inclusive(|byte| *byte == b'\n');
        let first = String::from_utf8_lossy(lines.next().unwrap()).into_owned();
        let headers = lines.collect::<Vec<_>>();
        let good_header = |line: &&[u8]| {
            let Some(line) = line.strip_suffix(b"\r\n") else {
                return false;
            };
            line.iter().position(|byte| *byte == b':').is_some_and(|colon| {
                http::HeaderName::from_bytes(&line[..colon]).is_ok()
                    && http::HeaderValue::from_bytes(&line[colon + 1..]).is_ok()
            })
        };
        first.ends_with(" HTTP/1.1\r\n")
            && first.split(' ').count() == 3
            && http::Method::from_bytes(self.method.as_bytes()).is_ok()
            && self.method != "CONNECT"
            && self.target.parse::<http::Uri>().is_ok()
            && headers.len() < 100
            && headers.iter().all(good_header)
    }

    async fn send(self, server: &Server, seen: &mut Seen) {
        let shown = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(2000)]).into_owned();
        let done = tokio::time::timeout(DEADLINE, self.exchange(server)).await;
        let Ok(answer) = done else { panic!("no answer in time to\n{shown}") };
        let Some(answer) = answer else {
            assert!(self.incomplete || !self.has_good_head(), "no answer to\n{shown}");
            seen.closed += 1;
            return;
        };
        seen.count(&answer);
        if !is_by_library(&answer) {
            let problem = std::panic::catch_unwind(|| drop(answer.clone().checked()));
            assert!(problem.is_ok(), "a bad answer to\n{shown}");
        }
    }

    async fn exchange(&self, server: &Server) -> Option<Answer> {
        let mut connection = server.connect().await;
        // The server may close it early; its answer is there to be read all the same.
        let _ = connection.writer.write_all(&self.bytes).await;
        let Connection { reader, mut writer } = connection;
        let what = format!("{} {}", self.method, self.target);
        let mut reading = std::pin::pin!(read_final_answer(reader, &what));
        if self.incomplete {
            // An answer that does not need the rest of the body comes now.
            if let Ok(answer) = tokio::time::timeout(PATIENCE, reading.as_mut()).await {
                return answer;
            }
            let _ = writer.shutdown().await;
        }
        reading.await
    }
}

/// What comes after any number of "100 Continue".
async fn read_final_answer(mut reader: impl AsyncRead + Unpin, request: &str) -> Option<Answer> {
    loop {
        let answer = read_answer(&mut reader, request).await.ok().flatten()?;
        if answer.status != 100 {
            return Some(answer);
        }
    }
}

fn invent_method(random: &mut Random) -> String {
    if random.once_in(20) {
        let odd =
            ["get", "BREW", "G%45T", "GET\t", "", "CONNECT", "TRACE", "OPTIONS", "PRI", "M-X!"];
        return (random.pick(&odd)).to_owned();
    }
    (random.pick(&["GET", "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"])).to_owned()
}

fn invent_target(random: &mut Random, things: &Things) -> String {
    let name = invent_name(random);
    let digest = invent_digest(random, things);
    let reference = if random.once_in(2) { digest.clone() } else { invent_text(random) };
    let upload = match random.below(3) {
        0 => random.pick(&things.uploads),
        _ => format!("/v2/{name}/blobs/uploads/{}", invent_text(random)),
    };
    let mut target = match random.below(12) {
        0 | 1 => format!("/v2/{name}/manifests/{reference}"),
        2 | 3 => format!("/v2/{name}/blobs/{digest}"),
        4 => format!("/v2/{name}/blobs/uploads/"),
        5 => upload,
        6 => format!("/v2/{name}/tags/list"),
        7 => format!("/v2/{name}/referrers/{digest}"),
        8 => "/v2/_catalog".to_owned(),
        9 => "/v1/search".to_owned(),
        10 => format!("/v2/{}", invent_text(random)),
        _ => {
            (random.pick(&["/", "*", "", "//", "/v2", "http://x/v2/", "/v2/../..", "?", "/v2/?%"]))
                .to_owned()
        }
    };
    if random.once_in(2) && target.starts_with('/') {
        target.push('?');
        let parameters = 1 + random.below(3);
        for n in 0..parameters {
            let names = [
                "n",
                "last",
                "digest",
                "mount",
                "from",
                "tag",
                "artifactType",
                "digest-algorithm",
                "q",
                "page",
                "ns",
                "",
            ];
            let value = match random.below(5) {
                0 => invent_digest(random, things),
                1 => invent_name(random),
                2 => (random.pick(&["-1", "0", "1", "99999999999999999999", "1e9", "NaN", " 1"]))
                    .replace(' ', "+"),
                _ => invent_text(random),
            };
            let separator = if n == 0 { "" } else { "&" };
            write!(target, "{separator}{}={value}", random.pick(&names)).unwrap();
        }
        if random.once_in(50) {
            target.push_str(&"&tag=x&x".repeat(1 + random.below(9000)));
        }
    }
    target
}

fn invent_name(random: &mut Random) -> String {
    match random.below(8) {
        0..=3 => "a/b".to_owned(),
        4 => "a".repeat(200 + random.below(120)),
        5 => "a/".repeat(random.below(200)),
        6 => (random
            .pick(&["..", "a/../b", "a%2Fb", "A", "a//b", "_", "a%00", "uploads", "blobs"]))
        .to_owned(),
        _ => invent_text(random),
    }
}

fn invent_digest(random: &mut Random, things: &Things) -> String {
    match random.below(9) {
        0 | 1 => things.blob.clone(),
        2 => things.manifest.clone(),
        3 => sha512(b"content"),
        4 => sha256(b"content").replace(':', "%3a"),
        5 => format!("sha256:{}", "f".repeat(random.below(70))),
        6 => format!("{}:{}", invent_text(random), invent_text(random)),
        7 => sha256(b"content").to_uppercase(),
        _ => (random.pick(&["sha256", ":", "sha256:", "sha512:00", "md5:00", "sha256:..%2f"]))
            .to_owned(),
    }
}

/// Text of a target: ASCII without spaces, with tricks.
fn invent_text(random: &mut Random) -> String {
    let pieces = [
        "a", "Z", "0", "-", "_", ".", "..", "/", "//", "%", "%2", "%2f", "%00", "%ff", "%C3%A4",
        "%0d%0a", "%25", "%u0000", "~", "!", "'", "\"", "<", ">", "\\", "|", "{", "}", "^", "`",
        ";", "@", ":", ",", "$", "(", ")", "*", "+", "=", "&amp;", "latest",
    ];
    // Most of what a URI can not hold never comes as far as to us.
    let refused = ['"', '<', '>', '\\', '|', '{', '}', '^', '`'];
    let with_refused = random.once_in(20);
    let mut text = String::new();
    for _ in 0..random.below(8) {
        let piece: &str = random.pick(&pieces);
        if with_refused || !piece.starts_with(refused) {
            text.push_str(piece);
        }
    }
    if random.once_in(100) {
        text = text.repeat(1 + random.below(2000));
    }
    text
}

fn invent_header(random: &mut Random) -> Vec<u8> {
    let names = [
        "Range",
        "Content-Range",
        "If-Match",
        "If-None-Match",
        "If-Range",
        "Accept",
        "Content-Type",
        "Accept-Encoding",
        "Content-Encoding",
        "Host",
        "Forwarded",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Authorization",
        "Cookie",
        "Upgrade",
        "Connection",
        "Expect",
        "TE",
        "Trailer",
        "User-Agent",
        "X-\u{e4}",
        "",
        "A B",
    ];
    // The last three are no names.
    let count = if random.once_in(20) { names.len() } else { names.len() - 3 };
    let name = random.pick(&names[..count]);
    let value = match random.below(8) {
        0 => "\"sha256:x\", *".as_bytes().to_vec(),
        1 => invent_range(random).into_bytes(),
        2 => "*/*;q=0.0001, a/b;q=\"\\".as_bytes().to_vec(),
        3 => "application/vnd.oci.image.manifest.v1+json".as_bytes().to_vec(),
        4 => {
            let length = random.below(40);
            let mut bytes = random.bytes(length);
            if !random.once_in(10) {
                // What a header may hold: everything but control characters.
                bytes.retain(|byte| *byte >= 32 && *byte != 127);
            }
            bytes
        }
        5 => "x,".repeat(random.below(3000)).into_bytes(),
        6 => b"100-continue".to_vec(),
        _ => invent_text(random).into_bytes(),
    };
    let mut line = name.as_bytes().to_vec();
    line.extend(random.pick(&[&b": "[..], b":", b": \t ", b": "]));
    line.extend(value);
    line.extend(b"\r\n");
    if random.once_in(200) {
        line = line.repeat(120);
    }
    line
}

fn invent_range(random: &mut Random) -> String {
    let number = |random: &mut Random| match random.below(5) {
        0 => String::new(),
        1 => random.number().to_string(),
        2 => format!("{}0", random.number()),
        3 => "-1".to_owned(),
        _ => random.below(6000).to_string(),
    };
    let mut text = (random.pick(&["bytes=", "bytes ", "", "bytes=,", "octets="])).to_owned();
    for _ in 0..=random.below(40) {
        let (start, end) = (number(random), number(random));
        write!(text, "{start}-{end}{}", random.pick(&[",", ", ", "/", "/*", ""])).unwrap();
    }
    text
}

/// Adds how the body is framed, the end of the head, and the body. True if it may be incomplete.
fn invent_body(random: &mut Random, request: &mut Vec<u8>) -> bool {
    let body = match random.below(6) {
        0 | 1 => Vec::new(),
        2 => invent_manifest(random).into_bytes(),
        3 => {
            let length = random.below(3000);
            random.bytes(length)
        }
        4 => format!("{}1{}", "[".repeat(random.below(5000)), "]".repeat(random.below(5000)))
            .into_bytes(),
        _ => b"{\"schemaVersion\":2}".to_vec(),
    };
    match random.below(12) {
        0..=5 => {
            request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            request.extend(body);
            false
        }
        6 | 7 => {
            request.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            extend_chunked(random, request, &body)
        }
        8 => {
            let odd = [
                "-1",
                "x",
                "99999999999999999999999",
                "18446744073709551615",
                "+5",
                "0x5",
                "5, 6",
                "",
                "1 1",
            ];
            request.extend(format!("Content-Length: {}\r\n\r\n", random.pick(&odd)).as_bytes());
            request.extend(body);
            true
        }
        9 => {
            let length = body.len() + 1 + random.below(10_000_000);
            request.extend(format!("Content-Length: {length}\r\n\r\n").as_bytes());
            request.extend(body);
            true
        }
        10 => {
            let odd = [
                "gzip",
                "chunked, gzip",
                "xchunked",
                "\u{b}chunked",
                "chunked\u{0}",
                "identity",
                "",
            ];
            request.extend(format!("Transfer-Encoding: {}\r\n\r\n", random.pick(&odd)).as_bytes());
            request.extend(body);
            true
        }
        _ => {
            request.extend(b"\r\n");
            false
        }
    }
}

/// True if a chunk may look like the beginning of a larger one.
fn extend_chunked(random: &mut Random, request: &mut Vec<u8>, mut body: &[u8]) -> bool {
    let mut odd = false;
    while !body.is_empty() {
        let (chunk, rest) = body.split_at((1 + random.below(700)).min(body.len()));
        let size = match random.below(12) {
            0 => format!("{:X}", chunk.len()),
            1 => format!("0000{:x}", chunk.len()),
            2 => format!("{:x};name=\"value\"", chunk.len()),
            3 => format!("{:x} ", chunk.len()),
            4 if random.once_in(8) => "ffffffffffffffffff".to_owned(),
            5 if random.once_in(8) => "-1".to_owned(),
            6 if random.once_in(8) => format!("0x{:x}", chunk.len()),
            7 if random.once_in(8) => format!("{:x}", chunk.len() + 1),
            _ => format!("{:x}", chunk.len()),
        };
        odd |= usize::from_str_radix(&size, 16).ok() != Some(chunk.len());
        request.extend(size.as_bytes());
        request.extend(b"\r\n");
        request.extend(chunk);
        request.extend(b"\r\n");
        body = rest;
    }
    let trailers = ["", "", "X: y\r\n", "Content-Length: 5\r\n", "bad trailer\r\n", "X: \u{0}\r\n"];
    request.extend(format!("0\r\n{}\r\n", random.pick(&trailers)).as_bytes());
    odd
}

/// Something like a manifest.
fn invent_manifest(random: &mut Random) -> String {
    let kinds = [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "text/html",
        "",
        "\\u0000",
    ];
    let numbers = ["2", "1", "-1", "2.0", "1e999", "\"2\"", "null", "[]", "99999999999999999999"];
    let digests =
        [sha256(b"x"), sha512(b"x"), "sha256:x".to_owned(), String::new(), "\\ud800".to_owned()];
    let descriptor = |random: &mut Random| match random.below(5) {
        0 => "null".to_owned(),
        1 => "\"x\"".to_owned(),
        _ => format!(
            "{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":{},\"urls\":[\"\"],\"data\":\"!\"}}",
            random.pick(&kinds),
            random.pick(&digests),
            random.pick(&numbers)
        ),
    };
    let mut text = format!(
        "{{\"schemaVersion\":{},\"mediaType\":\"{}\"",
        random.pick(&numbers[..2]),
        random.pick(&kinds[..3])
    );
    for _ in 0..random.below(5) {
        let field =
            random.pick(&["config", "layers", "manifests", "subject", "annotations", "Config"]);
        let value = match random.below(3) {
            0 => descriptor(random),
            1 => {
                let items = (0..random.below(30)).map(|_| descriptor(random)).collect::<Vec<_>>();
                format!("[{}]", items.join(","))
            }
            _ => (random.pick(&numbers)).to_owned(),
        };
        write!(text, ",\"{field}\":{value}").unwrap();
    }
    text.push('}');
    if random.once_in(30) {
        text.push_str(&" ".repeat(random.below(100_000)));
    }
    text
}

/// A push and a pull, to see that the server has taken no harm.
async fn assert_works(server: &Server) {
    let mut connection = server.connect().await;
    let content = b"after all that";
    let digest = sha256(content);
    let head = format!(
        "POST /v2/after/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    connection.send(head.as_bytes()).await;
    connection.send(content).await;
    connection.answer("POST /v2/after").await.unwrap().checked().expect(201);
    let get = format!("GET /v2/after/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n");
    connection.send(get.as_bytes()).await;
    let answer = connection.answer("GET /v2/after").await.unwrap().checked().status(200);
    assert_eq!(&answer.body[..], content);
}

const HIDDEN: &str = "GET /v2/hidden/tags/list HTTP/1.1\r\nHost: h\r\n\r\n";
const SENTINEL: &str =
    "GET /v2/sentinel/tags/list HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// Every one of these has a second request in what one reader takes for the body of the first. A
/// proxy in front of us that reads it as a body must never get an answer to it.
#[tokio::test]
async fn no_request_is_smuggled_in_a_body() {
    let server = Server::start().await;
    let long = HIDDEN.len();
    let hidden_in_chunk = format!("{long:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    let post = "POST /v2/outer/blobs/uploads/ HTTP/1.1\r\nHost: h\r\n";
    let shapes = [
        ("honest length", format!("{post}Content-Length: {long}\r\n\r\n{HIDDEN}")),
        ("honest chunk", format!("{post}Transfer-Encoding: chunked\r\n\r\n{hidden_in_chunk}")),
        (
            "length and chunked, the length covers it",
            format!(
                "{post}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}",
                long + 5
            ),
        ),
        (
            "chunked and length, the length covers it",
            format!(
                "{post}Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{HIDDEN}",
                long + 5
            ),
        ),
        (
            "length and chunked, the chunk covers it",
            format!(
                "{post}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{hidden_in_chunk}"
            ),
        ),
        (
            "two lengths",
            format!("{post}Content-Length: 0\r\nContent-Length: {long}\r\n\r\n{HIDDEN}"),
        ),
        (
            "two lengths, the other way",
            format!("{post}Content-Length: {long}\r\nContent-Length: 0\r\n\r\n{HIDDEN}"),
        ),
        ("a list of lengths", format!("{post}Content-Length: 0, {long}\r\n\r\n{HIDDEN}")),
        ("a signed length", format!("{post}Content-Length: +{long}\r\n\r\n{HIDDEN}")),
        ("a length below zero", format!("{post}Content-Length: -1\r\n\r\n{HIDDEN}")),
        ("a length in hexadecimal", format!("{post}Content-Length: 0x{long:x}\r\n\r\n{HIDDEN}")),
        ("a space before the colon", format!("{post}Content-Length : {long}\r\n\r\n{HIDDEN}")),
        (
            "a space before the colon of chunked",
            format!("{post}Transfer-Encoding : chunked\r\n\r\n{hidden_in_chunk}"),
        ),
        ("a folded line", format!("{post}X: y\r\n Content-Length: {long}\r\n\r\n{HIDDEN}")),
        (
            "a folded encoding",
            format!("{post}Transfer-Encoding:\r\n chunked\r\n\r\n{hidden_in_chunk}"),
        ),
        (
            "a bare line feed before the length",
            format!("{post}X: y\nContent-Length: {long}\r\n\r\n{HIDDEN}"),
        ),
        (
            "a bare carriage return before the length",
            format!("{post}X: y\rContent-Length: {long}\r\n\r\n{HIDDEN}"),
        ),
        ("a NUL in a name", format!("{post}Content-Length\0: {long}\r\n\r\n{HIDDEN}")),
        (
            "the encoding with a tab",
            format!("{post}Transfer-Encoding: \tchunked\r\n\r\n{hidden_in_chunk}"),
        ),
        (
            "the encoding in capitals",
            format!("{post}transfer-ENCODING: CHUNKED\r\n\r\n{hidden_in_chunk}"),
        ),
        (
            "an encoding that looks like it",
            format!("{post}Transfer-Encoding: xchunked\r\n\r\n{hidden_in_chunk}"),
        ),
        (
            "an encoding with a vertical tab",
            format!("{post}Transfer-Encoding: \u{b}chunked\r\n\r\n{hidden_in_chunk}"),
        ),
        (
            "an encoding in quotes",
            format!("{post}Transfer-Encoding: \"chunked\"\r\n\r\n{hidden_in_chunk}"),
        ),
        (
            "chunked, then another encoding",
            format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n{hidden_in_chunk}"),
        ),
        (
            "two encodings",
            format!(
                "{post}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n{hidden_in_chunk}"
            ),
        ),
        (
            "two encodings, chunked first",
            format!(
                "{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{hidden_in_chunk}"
            ),
        ),
        (
            "chunked in the old version",
            format!(
                "{}Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n{hidden_in_chunk}",
                post.replace("1.1", "1.0")
            ),
        ),
        (
            "a chunk size that overflows",
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n10000000000000000{long:x}\r\n{HIDDEN}\r\n0\r\n\r\n"
            ),
        ),
        (
            "a chunk size with a prefix",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0x{long:x}\r\n{HIDDEN}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk size below zero",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n-1\r\n{HIDDEN}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk extension with a line feed",
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n{long:x};x\n0\r\n\r\n{HIDDEN}\r\n0\r\n\r\n"
            ),
        ),
        (
            "a chunk extension",
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n{long:x};a=\"0\"\r\n{HIDDEN}\r\n0;b\r\n\r\n"
            ),
        ),
        (
            "a chunk that ends with a line feed only",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n{long:x}\n{HIDDEN}\n0\n\n"),
        ),
        (
            "a chunk that is longer than it says",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n{HIDDEN}"),
        ),
        (
            "trailers that frame",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: {long}\r\n\r\n"),
        ),
        (
            "a body that nobody reads",
            format!(
                "GET /v2/outer/tags/list HTTP/1.1\r\nHost: h\r\nContent-Length: {long}\r\n\r\n{HIDDEN}"
            ),
        ),
        (
            "a body of HEAD",
            format!(
                "HEAD /v2/outer/tags/list HTTP/1.1\r\nHost: h\r\nContent-Length: {long}\r\n\r\n{HIDDEN}"
            ),
        ),
        (
            "a body that is refused",
            format!(
                "PUT /v2/_catalog HTTP/1.1\r\nHost: h\r\nContent-Length: {long}\r\n\r\n{HIDDEN}"
            ),
        ),
        (
            "a refused chunked body",
            format!(
                "PUT /v2/_catalog HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{hidden_in_chunk}"
            ),
        ),
    ];
    for (shape, bytes) in shapes {
        let answers = answers_to(&server, &format!("{bytes}{SENTINEL}")).await;
        for answer in &answers {
            let body = String::from_utf8_lossy(&answer.body);
            assert!(!body.contains("hidden"), "{shape}: the hidden request was answered\n{answer}");
            assert!(answer.status < 500, "{shape}: {answer}");
        }
        let refused = answers.first().is_none_or(|first| first.status == 400);
        let went_on =
            answers.iter().any(|answer| String::from_utf8_lossy(&answer.body).contains("sentinel"));
        assert!(!(refused && went_on), "{shape}: refused, but the connection went on");
        assert!(went_on || !shape.starts_with("honest"), "{shape}: refused");
    }
    assert_works(&server).await;
}

/// All answers to some bytes on one connection, until the server closes it. What it waits for in
/// vain ends when the client closes its side.
async fn answers_to(server: &Server, bytes: &str) -> Vec<Answer> {
    let mut connection = server.connect().await;
    connection.send(bytes.as_bytes()).await;
    let mut answers = Vec::new();
    let method = bytes.split(' ').next().unwrap();
    loop {
        // A server that waits for more of a body that never comes is as safe as one that closes.
        let what = if answers.is_empty() { format!("{method} ?") } else { "GET ?".to_owned() };
        let reading = read_answer(&mut connection.reader, &what);
        match tokio::time::timeout(Duration::from_millis(500), reading).await {
            Ok(Ok(Some(answer))) => answers.push(answer),
            _ => return answers,
        }
    }
}

/// What is refused before it is read: the client is still sending when the answer comes, and must
/// be able to read it.
const REFUSALS: [(&str, u16); 5] = [
    ("PUT /v2/a/b/manifests/v1", 413),
    ("PUT /v2/a/b/tags/list", 405),
    ("POST /v2/nowhere", 404),
    ("PUT /v2/A/manifests/v1", 400),
    ("PATCH /v2/a/b/blobs/uploads/no-such-upload", 404),
];

const LARGE: usize = 20 << 20;

async fn refuse(server: &Server, request: &str, framing: &str, body: &[u8]) -> Answer {
    let Connection { mut reader, mut writer } = server.connect().await;
    let head = format!("{request} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n");
    within(writer.write_all(head.as_bytes())).await.unwrap();
    // Everything is sent before anything is read, as simple clients do.
    for part in body.chunks(1 << 20) {
        let written = within(writer.write_all(part)).await;
        assert!(written.is_ok(), "{request} {framing}: the connection broke while sending");
    }
    let answer = within(read_answer(&mut reader, request)).await.unwrap();
    answer.unwrap_or_else(|| panic!("{request} {framing}: closed without an answer"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_still_sending_reads_the_refusal() {
    let server = Server::start().await;
    let body = vec![b'x'; LARGE];
    for (request, status) in REFUSALS {
        let framing = format!("Content-Length: {LARGE}");
        refuse(&server, request, &framing, &body).await.checked().expect(status);
        let mut chunked = Vec::with_capacity(LARGE + 100);
        chunked.extend(format!("{LARGE:x}\r\n").as_bytes());
        chunked.extend(&body);
        chunked.extend(b"\r\n0\r\n\r\n");
        let framing = "Transfer-Encoding: chunked";
        refuse(&server, request, framing, &chunked).await.checked().expect(status);
    }
    assert_works(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_first_is_refused_without_sending() {
    let server = Server::start().await;
    for (request, status) in REFUSALS {
        let framing = format!("Content-Length: {LARGE}\r\nExpect: 100-continue");
        let answer = refuse(&server, request, &framing, b"").await.checked();
        if status == 404 && request.starts_with("PATCH") {
            // Whether an upload exists is found out before its bytes are asked for.
            assert_eq!(answer.status, 404, "{answer}");
        } else {
            answer.expect(status);
        }
    }
    // Where the body is wanted, it is asked for.
    let upload = server.registry.begin_upload("a/b").await;
    let mut connection = server.connect().await;
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    );
    connection.send(head.as_bytes()).await;
    assert_eq!(connection.answer("PATCH /v2/a/b").await.unwrap().status, 100);
    connection.send(b"data").await;
    connection.answer("PATCH /v2/a/b").await.unwrap().checked().expect(202);
    assert_works(&server).await;
}

/// docker and podman try TLS first and wait for an answer before they try plain HTTP.
#[tokio::test]
async fn a_tls_greeting_on_the_plain_port_is_answered_at_once() {
    let server = Server::start().await;
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.extend(Random::new(1).bytes(506));
    for length in [hello.len(), 11, 1] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&hello[..length]).await.unwrap();
        let reading = read_answer(&mut stream, "GET ?");
        let answer = tokio::time::timeout(Duration::from_secs(5), reading).await;
        let answer = answer.expect("a client waits for its own timeout");
        // Or the connection is closed, which tells a client as much.
        if let Ok(Some(answer)) = answer {
            assert_eq!(answer.status, 400);
        }
    }
}

/// A client that made a mistake is told so; a connection that just ends looks like a crash.
#[tokio::test]
async fn malformed_heads_are_answered_400() {
    let server = Server::start().await;
    for head in [
        "\u{16}\u{3}\u{1}",
        "GET\r\n\r\n",
        "GET /v2/ HTTP/9\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nbad header: x\r\n\r\n",
        "GET /v2/<> HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
        "PUT /v2/ HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\nbody",
    ] {
        let mut connection = server.connect().await;
        connection.send(head.as_bytes()).await;
        let answer = connection.answer("GET ?").await;
        let answer = answer.unwrap_or_else(|| panic!("no answer to {head:?}"));
        assert!(is_by_library(&answer) && answer.status == 400, "{answer}");
    }
}

/// The same, where the body has come along with the head.
#[tokio::test]
async fn a_small_body_behind_expect_does_not_cost_the_answer() {
    let server = Server::start().await;
    for expect in ["100-continue", "something-else"] {
        for (request, status) in REFUSALS.into_iter().filter(|(_, status)| *status != 413) {
            let framing = format!("Content-Length: 4\r\nExpect: {expect}");
            let mut connection = server.connect().await;
            let head = format!("{request} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\nbody");
            connection.send(head.as_bytes()).await;
            let answer = connection.answer(request).await;
            let answer = answer.unwrap_or_else(|| panic!("{head}: no answer"));
            answer.checked().expect(status);
        }
    }
}

/// There is no tunnel here.
#[tokio::test]
async fn connect_is_refused() {
    let server = Server::start().await;
    for target in ["/", "/v1/_ping", "/v2/", "example.org:443"] {
        let mut connection = server.connect().await;
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        connection.send(head.as_bytes()).await;
        let answer = connection.answer("CONNECT ?").await;
        let answer = answer.unwrap_or_else(|| panic!("{target}: no answer"));
        assert!((400..500).contains(&answer.status), "{answer}");
    }
}

#[tokio::test]
async fn requests_in_one_go_are_answered_in_order() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    let mut requests = String::new();
    for n in 0..50 {
        write!(requests, "GET /v2/r{n}/tags/list HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    }
    requests.push_str(SENTINEL);
    connection.send(requests.as_bytes()).await;
    let answers = connection.answers_to_the_end().await;
    assert_eq!(answers.len(), 51);
    for (n, answer) in answers.iter().take(50).enumerate() {
        assert!(answer.message().ends_with(&format!(" r{n}")), "{answer}");
    }
}
