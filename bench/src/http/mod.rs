//! An HTTP/1.1 client for measuring: blocking, one request at a time, cheap enough that the server
//! and not the client is what is measured. It understands what these servers send, no more.

mod stream;

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use rustls::ClientConfig;
use sha2::{Digest as _, Sha256};

use self::stream::Stream;

const INPUT: usize = 64 * 1024;
const DISCARD: usize = 4 * 1024 * 1024;
const LONGEST_ERROR: usize = 4096;

/// The head of a request (and, if small, its body), rendered once and sent many times.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    is_head: bool,
}

impl Request {
    /// `target` is a path with query, `headers` all but `Host`.
    pub(crate) fn new(
        method: &str,
        host: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        Self { bytes: text.into_bytes(), is_head: method == "HEAD" }
    }

    /// With a body in memory, which leaves in the same write as the head.
    pub(crate) fn with_body(
        method: &str,
        host: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Self {
        let length = body.len().to_string();
        let headers = [headers, &[("Content-Length", length.as_str())]].concat();
        let mut request = Self::new(method, host, target, &headers);
        request.bytes.extend_from_slice(body);
        request
    }
}

/// What became of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) etag: Option<String>,
    /// `Content-Length` as announced; also on HEAD.
    pub(crate) announced: Option<u64>,
    /// Bytes of body that arrived.
    pub(crate) received: u64,
    /// The body of an answer with a status of 400 or more, shortened.
    pub(crate) error: String,
}

impl Response {
    /// The response if it has this status; `what` says in the error what was asked.
    pub(crate) fn expect(self, status: u16, what: &str) -> anyhow::Result<Self> {
        ensure!(
            self.status == status,
            "{what}: expected {status}, found {} {}",
            self.status,
            self.error.trim()
        );
        Ok(self)
    }
}

/// Where a body goes.
pub(crate) enum Sink<'a> {
    /// Nowhere: thrown away in the kernel.
    Discard,
    Hash(&'a mut Sha256),
    Keep(&'a mut Vec<u8>),
}

impl Sink<'_> {
    fn take(&mut self, bytes: &[u8]) {
        match self {
            Self::Discard => {}
            Self::Hash(hash) => hash.update(bytes),
            Self::Keep(kept) => kept.extend_from_slice(bytes),
        }
    }
}

/// One connection, made when first needed and again after the server closed it.
pub(crate) struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    stream: Option<Stream>,
    input: Vec<u8>,
    /// What of `input` is received and not yet used.
    unread: Range<usize>,
    /// Never touched: only its length matters to a receive that discards.
    discard: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            stream: None,
            input: vec![0; INPUT],
            unread: 0..0,
            discard: vec![0; DISCARD],
        }
    }

    /// One that speaks TLS.
    pub(crate) fn with_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        Self { tls: Some(config), ..Self::new(address) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn send(&mut self, request: &Request, sink: Sink<'_>) -> anyhow::Result<Response> {
        self.begin(request)?;
        self.finish(request, sink)
    }

    /// Sends a head; the body follows with [`Client::write`].
    pub(crate) fn begin(&mut self, request: &Request) -> anyhow::Result<()> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(Stream::connect(self.address, self.tls.as_ref())?),
        };
        stream.write_all(&request.bytes).context("cannot send a request")
    }

    /// Sends a part of the body.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?.write_all(bytes)
    }

    /// Reads the answer to what was sent.
    pub(crate) fn finish(&mut self, request: &Request, sink: Sink<'_>) -> anyhow::Result<Response> {
        let (response, reusable) =
            self.receive(request.is_head, sink).context("cannot read an answer")?;
        if !reusable {
            self.stream = None;
            self.unread = 0..0;
        }
        Ok(response)
    }

    /// The response, and whether the connection takes another request.
    fn receive(&mut self, is_head: bool, sink: Sink<'_>) -> anyhow::Result<(Response, bool)> {
        let (mut response, framing) = self.head()?;
        let mut error = Vec::new();
        let mut sink = if response.status >= 400 { Sink::Keep(&mut error) } else { sink };
        let has_body = !is_head && response.status != 204 && response.status != 304;
        if has_body && framing.chunked {
            loop {
                let line = self.line()?;
                let size = std::str::from_utf8(self.part(line))?.split(';').next().unwrap_or("");
                let size = u64::from_str_radix(size.trim(), 16).context("bad chunk size")?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    break;
                }
                self.body(size, &mut sink)?;
                ensure!(self.line()?.is_empty(), "a chunk is longer than it said");
                response.received += size;
            }
        } else if has_body {
            let length = response.announced.context("an answer without a length")?;
            self.body(length, &mut sink)?;
            response.received = length;
        }
        error.truncate(LONGEST_ERROR);
        response.error = String::from_utf8_lossy(&error).into_owned();
        Ok((response, !framing.close))
    }

    fn head(&mut self) -> anyhow::Result<(Response, Framing)> {
        let line = self.line()?;
        let line = self.part(line);
        let status = line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let Some(status) = status.and_then(|digits| str_of(digits).parse().ok()) else {
            bail!("expected a status line, found {:?}", String::from_utf8_lossy(line));
        };
        let mut response = Response { status, ..Response::default() };
        let mut framing = Framing::default();
        loop {
            let line = self.line()?;
            let line = self.part(line);
            if line.is_empty() {
                return Ok((response, framing));
            }
            let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            let value = str_of(value.strip_prefix(b":").unwrap_or_default()).trim();
            if name.eq_ignore_ascii_case(b"content-length") {
                response.announced = Some(value.parse().context("bad Content-Length")?);
            } else if name.eq_ignore_ascii_case(b"location") {
                response.location = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case(b"etag") {
                response.etag = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                framing.chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case(b"connection") {
                framing.close = value.eq_ignore_ascii_case("close");
            }
        }
    }

    fn body(&mut self, length: u64, sink: &mut Sink<'_>) -> anyhow::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.unread.is_empty() {
                if matches!(sink, Sink::Discard) {
                    return self.throw_away(left);
                }
                self.fill()?;
            }
            let usable = usize::try_from(left).unwrap_or(usize::MAX).min(self.unread.len());
            let part = self.unread.start..self.unread.start + usable;
            sink.take(self.input.get(part).unwrap_or_default());
            self.unread.start += usable;
            left -= usable as u64;
        }
        Ok(())
    }

    /// Receives without keeping anything.
    fn throw_away(&mut self, length: u64) -> anyhow::Result<()> {
        let mut left = length;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.discard.len());
            let target = self.discard.get_mut(..wanted).unwrap_or_default();
            let dropped = connected(self.stream.as_mut())?.drop_bytes(target)?;
            ensure!(dropped > 0, "the connection ended {left} bytes before the end of a body");
            left -= dropped as u64;
        }
        Ok(())
    }

    /// The next line without its end.
    fn line(&mut self) -> anyhow::Result<Range<usize>> {
        let mut searched = 0;
        loop {
            let unread = self.input.get(self.unread.clone()).unwrap_or_default();
            let fresh = unread.get(searched..).unwrap_or_default();
            if let Some(found) = fresh.iter().position(|&byte| byte == b'\n') {
                let start = self.unread.start;
                let end = start + searched + found;
                self.unread.start = end + 1;
                let ends_with_return = end > start && self.input.get(end - 1) == Some(&b'\r');
                return Ok(start..end - usize::from(ends_with_return));
            }
            searched = unread.len();
            self.fill()?;
        }
    }

    /// Receives more behind what is unread.
    fn fill(&mut self) -> anyhow::Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.input.len() {
            self.input.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let free = self.input.get_mut(self.unread.end..).unwrap_or_default();
        ensure!(!free.is_empty(), "a line is longer than {INPUT} bytes");
        let received = connected(self.stream.as_mut())?.read(free)?;
        ensure!(received > 0, "the server closed the connection");
        self.unread.end += received;
        Ok(())
    }

    fn part(&self, range: Range<usize>) -> &[u8] {
        self.input.get(range).unwrap_or_default()
    }
}

fn connected(stream: Option<&mut Stream>) -> anyhow::Result<&mut Stream> {
    stream.context("not connected")
}

/// How the body of an answer is delimited.
#[derive(Default)]
struct Framing {
    chunked: bool,
    close: bool,
}

fn str_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with `answer` whatever it asks.
    fn serve(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            // In two pieces, so that a line is cut.
            let (first, second) = answer.split_at(answer.len() / 2);
            stream.write_all(first.as_bytes()).unwrap();
            stream.flush().unwrap();
            stream.write_all(second.as_bytes()).unwrap();
        });
        address
    }

    fn ask(answer: &'static str, method: &str) -> (Response, Vec<u8>) {
        let address = serve(answer);
        let mut body = Vec::new();
        let request = Request::new(method, address, "/v2/", &[]);
        let response = Client::new(address).send(&request, Sink::Keep(&mut body)).unwrap();
        (response, body)
    }

    #[test]
    fn a_body_with_a_length_is_read() {
        let (response, body) =
            ask("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nLocation: /v2/x\r\n\r\nhello", "GET");
        assert_eq!(response.status, 200);
        assert_eq!(response.location.as_deref(), Some("/v2/x"));
        assert_eq!(body, b"hello");
    }

    #[test]
    fn a_chunked_body_is_joined() {
        let (response, body) = ask(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            "GET",
        );
        assert_eq!(response.received, 11);
        assert_eq!(body, b"hello world");
    }

    #[test]
    fn head_has_a_length_and_no_body() {
        let (response, body) = ask("HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n", "HEAD");
        assert_eq!(response.announced, Some(4096));
        assert!(body.is_empty());
    }

    #[test]
    fn an_error_shows_what_the_server_said() {
        let (response, _) =
            ask("HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nunknown", "GET");
        let error = response.expect(200, "GET /v2/").unwrap_err().to_string();
        assert_eq!(error, "GET /v2/: expected 200, found 404 unknown");
    }
}
