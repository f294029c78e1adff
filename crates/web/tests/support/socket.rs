//! The registry behind a real socket, and a client that sends whatever bytes it is given.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use net::Listener;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use web::Metrics;
use web::server::{Protocols, Shutdown, serve};

use super::{Answer, TestRegistry};

/// No answer may take longer. Generous, for machines that are busy with other things.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A registry that listens.
pub struct Server {
    pub address: SocketAddr,
    pub registry: TestRegistry,
    /// Connections end when it goes.
    _shutdown: Shutdown,
}

impl Server {
    pub async fn start() -> Self {
        let registry = TestRegistry::new().await;
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let service = registry.service.clone();
        let protocols = Protocols::default();
        tokio::spawn(serve(listener, protocols, service, Metrics::default(), shutdown.ending()));
        Self { address, registry, _shutdown: shutdown }
    }

    pub async fn connect(&self) -> Connection {
        let stream = within(TcpStream::connect(self.address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        Connection { reader: BufReader::new(reader), writer }
    }
}

/// Panics if `work` takes too long.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("the server hangs")
}

/// A connection of a client.
pub struct Connection {
    pub reader: BufReader<OwnedReadHalf>,
    pub writer: OwnedWriteHalf,
}

impl Connection {
    /// Sends bytes. False if the server has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        within(self.writer.write_all(bytes)).await.is_ok()
    }

    /// Reads one answer; `None` if the server closes the connection instead.
    pub async fn answer(&mut self, request: &str) -> Option<Answer> {
        within(read_answer(&mut self.reader, request)).await.ok().flatten()
    }

    /// Reads answers until the server closes the connection.
    pub async fn answers_to_the_end(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer("GET ?").await {
            answers.push(answer);
        }
        answers
    }
}

/// Reads one answer to `request` (its method and target); `None` at the end.
pub async fn read_answer(
    reader: &mut (impl AsyncRead + Unpin),
    request: &str,
) -> io::Result<Option<Answer>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if reader.read(&mut byte).await? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(invalid("the head is cut off")) };
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(|_| invalid("the head is not text"))?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .or(status_line.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| invalid("not a status line"))?;
    let mut headers = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("not a header"))?;
        let name = http::HeaderName::try_from(name).map_err(|_| invalid("not a header's name"))?;
        let value = value.trim().parse().map_err(|_| invalid("not a header's value"))?;
        headers.append(name, value);
    }
    assert!(!headers.contains_key("transfer-encoding"), "every length is known: {head}");
    let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let has_body = !(request.starts_with("HEAD ") || status < 200 || matches!(status, 204 | 304));
    let mut body = vec![0; if has_body { length.unwrap_or(0) } else { 0 }];
    reader.read_exact(&mut body).await?;
    let body = Bytes::from(body);
    Ok(Some(Answer { what: request.to_owned(), status, headers, body }))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
