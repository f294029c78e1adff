//! The heads of requests and answers.

use std::fmt::Write as _;
use std::io::{Read, Write};

use anyhow::{Context as _, Result, ensure};

/// Longer ones are none.
const LONGEST: usize = 64 << 10;

/// The first line and the headers of a request or an answer.
pub(super) struct Head {
    pub(super) first_line: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads no byte of what follows.
    pub(super) fn read(stream: &mut impl Read) -> Result<Self> {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).context("no head")?;
            text.extend(byte);
            ensure!(text.len() < LONGEST, "a head that does not end");
        }
        let text = String::from_utf8(text)?;
        let mut lines = text.trim_end().split("\r\n");
        let first_line = lines.next().context("no first line")?.to_owned();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self { first_line, headers: headers.collect() })
    }

    pub(super) fn write(&self, stream: &mut impl Write) -> Result<()> {
        let mut text = format!("{}\r\n", self.first_line);
        for (name, value) in &self.headers {
            write!(text, "{name}: {value}\r\n")?;
        }
        stream.write_all(format!("{text}\r\n").as_bytes())?;
        Ok(())
    }

    /// Bytes of the body, if it is said how many there are.
    pub(super) fn length(&self) -> Result<Option<u64>> {
        Ok(self.get("Content-Length").map(str::parse).transpose()?)
    }

    pub(super) fn is_success(&self) -> bool {
        self.first_line.starts_with("HTTP/1.1 2")
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }

    /// Says that the range begins and ends a byte later.
    pub(super) fn shift_range(&mut self) {
        let range = self.get("Content-Range").and_then(|range| range.strip_prefix("bytes "));
        let shifted = range.and_then(|range| {
            let (bytes, size) = range.split_once('/')?;
            let (first, last) = bytes.split_once('-')?;
            let later = |at: &str| at.parse::<u64>().ok().map(|at| at + 1);
            Some(format!("bytes {}-{}/{size}", later(first)?, later(last)?))
        });
        if let Some(shifted) = shifted {
            self.set("Content-Range", &shifted);
        }
    }

    /// Says that this is all there is, whatever was asked for.
    pub(super) fn claim_to_be_whole(&mut self) {
        "HTTP/1.1 200 OK".clone_into(&mut self.first_line);
        self.remove("Content-Range");
    }
}

/// An error as S3 has them.
pub(super) fn reply(stream: &mut impl Write, status: &str, code: &str) -> Result<()> {
    let body = format!("<Error><Code>{code}</Code><Message>a fault</Message></Error>");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )?;
    Ok(())
}
