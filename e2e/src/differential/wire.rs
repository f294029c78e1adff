//! One request on one connection, as it was written: no library puts it right.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::requests::Request;

pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(found, value)| (found == name).then_some(value.as_str()))
    }
}

/// The connection stays open until the answer is there: a server that closes
/// it with bytes unread takes its own answer back.
pub(super) fn send(host: &str, request: &Request) -> Result<Answer> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        write!(head, "{name}: {value}\r\n")?;
    }
    if let Some(body) = &request.body {
        write!(head, "Content-Length: {}\r\n", body.len())?;
    }
    head += "\r\n";
    stream.write_all(head.as_bytes())?;
    // A server that has refused already may not take the body.
    let _ = stream.write_all(request.body.as_deref().unwrap_or_default());
    let mut reader = BufReader::new(stream);
    let mut answer = read_head(&mut reader)?;
    if request.method != "HEAD" && ![204, 304].contains(&answer.status) {
        answer.body = read_body(&mut reader, &answer)?;
    }
    Ok(answer)
}

fn read_line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn read_head(reader: &mut impl BufRead) -> Result<Answer> {
    let line = read_line(reader)?;
    let status = line.split(' ').nth(1).with_context(|| format!("no status in {line:?}"))?;
    let mut answer = Answer { status: status.parse()?, headers: Vec::new(), body: Vec::new() };
    loop {
        let line = read_line(reader)?;
        let Some((name, value)) = line.split_once(':') else { return Ok(answer) };
        answer.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(reader: &mut impl BufRead, answer: &Answer) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if answer.header("transfer-encoding") == Some("chunked") {
        loop {
            let length = u64::from_str_radix(&read_line(reader)?, 16)?;
            reader.take(length).read_to_end(&mut body)?;
            read_line(reader)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
    match answer.header("content-length") {
        Some(length) => reader.take(length.parse()?).read_to_end(&mut body)?,
        None => reader.read_to_end(&mut body)?,
    };
    Ok(body)
}
