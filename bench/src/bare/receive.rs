//! What every push takes at least: to receive, to hash, to write, and to wait for the disk. One
//! thread does one after the other, with one buffer.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use sha256::Sha256;

const BUFFER: usize = 256 * 1024;

/// Serves the uploads of a connection, one after the other, each into a file of its own.
pub(super) fn serve(stream: TcpStream, folder: &Path) -> anyhow::Result<()> {
    let connection = stream.peer_addr()?.port();
    let mut input = Input { stream, buffer: vec![0; BUFFER], start: 0, end: 0 };
    let mut uploads =
        (0..).map(|number| Upload::new(&folder.join(format!("{connection}-{number}"))));
    let mut next = || uploads.next().context("no more uploads")?;
    let mut upload = next()?;
    while let Some(head) = input.head()? {
        input.body(&head, &mut upload)?;
        let answer = match head.method.as_str() {
            "POST" => format!("202 Accepted\r\nLocation: {}upload", head.target),
            "PATCH" => format!("202 Accepted\r\nLocation: {}", head.target),
            "PUT" => {
                let digest = std::mem::replace(&mut upload, next()?).finish()?;
                // In place of reading it back.
                ensure!(head.target.ends_with(&digest), "{}: found {digest}", head.target);
                "201 Created".to_owned()
            }
            other => bail!("expected a push, found {other}"),
        };
        write!(input.stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n")?;
    }
    Ok(())
}

struct Upload {
    file: File,
    hash: Sha256,
}

impl Upload {
    fn new(path: &Path) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { file, hash: Sha256::default() })
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }

    /// The digest in hexadecimal, once everything is on the disk.
    fn finish(self) -> io::Result<String> {
        self.file.sync_all()?;
        Ok(data_encoding::HEXLOWER.encode(&self.hash.finish()))
    }
}

struct Head {
    method: String,
    target: String,
    length: usize,
    chunked: bool,
}

/// A connection and what was received and not used yet.
struct Input {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// The next request; nothing when the client has closed.
    fn head(&mut self) -> anyhow::Result<Option<Head>> {
        if self.start == self.end && self.fill()? == 0 {
            return Ok(None);
        }
        let first = self.line()?;
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            bail!("expected a request, found {first:?}");
        };
        let mut head = Head { method, target, length: 0, chunked: false };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Some(head));
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            if name.eq_ignore_ascii_case("content-length") {
                head.length = value.trim().parse().context("bad Content-Length")?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = true;
            }
        }
    }

    fn body(&mut self, head: &Head, upload: &mut Upload) -> anyhow::Result<()> {
        if !head.chunked {
            return self.part(head.length, upload);
        }
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(&line, 16).context("bad chunk size")?;
            self.part(length, upload)?;
            ensure!(self.line()?.is_empty(), "a chunk is longer than it said");
            if length == 0 {
                return Ok(());
            }
        }
    }

    /// Moves so many bytes of the body, a full buffer at a time.
    fn part(&mut self, length: usize, upload: &mut Upload) -> anyhow::Result<()> {
        let mut left = length;
        while left > 0 {
            while self.end - self.start < left && self.end < BUFFER {
                ensure!(self.fill()? > 0, "the connection ended within a body");
            }
            let taken = left.min(self.end - self.start);
            upload.take(self.buffer.get(self.start..self.start + taken).unwrap_or_default())?;
            self.start += taken;
            left -= taken;
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            } else if self.end == BUFFER {
                self.make_room();
            }
        }
        Ok(())
    }

    /// The next line without its end.
    fn line(&mut self) -> anyhow::Result<String> {
        loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            if let Some(length) = unread.iter().position(|&byte| byte == b'\n') {
                let line = unread.get(..length).unwrap_or_default();
                let line = std::str::from_utf8(line)?.trim_end_matches('\r').to_owned();
                self.start += length + 1;
                return Ok(line);
            }
            ensure!(self.fill()? > 0, "the connection ended within a line");
        }
    }

    /// Receives more behind what is there.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end || self.end == BUFFER {
            self.make_room();
        }
        let received = self.stream.read(self.buffer.get_mut(self.end..).unwrap_or_default())?;
        self.end += received;
        Ok(received)
    }

    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::http::Client;
    use crate::registry::{Blob, Upload, push};

    #[test]
    fn every_way_of_pushing_is_received_and_hashed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().to_owned();
        let server =
            std::thread::spawn(move || serve(listener.accept().unwrap().0, &written).unwrap());
        let blob = Blob::new("received", 1_000_003);
        let mut client = Client::new(address);
        for upload in [Upload::Monolithic, Upload::Stream, Upload::Chunked] {
            assert_eq!(push(&mut client, "bench/write", &blob, upload).unwrap(), 1_000_003);
        }
        drop(client);
        server.join().unwrap();
    }
}
