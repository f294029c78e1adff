//! A layout in a tar.

use std::collections::HashSet;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use oci::Digest;
use tar::{EntryType, Header};

use super::list::Document;
use crate::{DOCKER_FILE, Error, INDEX_FILE, LAYOUT, LAYOUT_FILE, Partial, key};

/// Tars consist of blocks of so many bytes.
const BLOCK: usize = 512;

/// Bytes of a name that a header has room for.
const MAX_NAME: usize = 100;

pub(super) struct TarFile {
    out: BufWriter<Box<dyn Out>>,
    /// Its name when it is whole; `None`: standard output.
    path: Option<PathBuf>,
    /// What is in it.
    written: HashSet<[u8; 32]>,
    /// Bytes written.
    position: u64,
    /// Where the member that is being written begins.
    member: u64,
}

/// Where the tar goes to.
trait Out: Write + Send {
    /// Goes back, if that can be.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Ends it, when all is written and flushed.
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

impl Out for Partial {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        Partial::cut(self, length)
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        self.commit()
    }
}

impl Out for io::Stdout {
    fn cut(&mut self, _length: u64) -> io::Result<()> {
        Err(io::Error::other("what was written can not be taken back: export to a file"))
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

impl TarFile {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        Self::begin_tar(Box::new(Partial::create(path)?), Some(path.to_owned()))
    }

    pub(super) fn output() -> Result<Self, Error> {
        Self::begin_tar(Box::new(io::stdout()), None)
    }

    fn begin_tar(out: Box<dyn Out>, path: Option<PathBuf>) -> Result<Self, Error> {
        let out = BufWriter::with_capacity(1 << 18, out);
        let mut tar = Self { out, path, written: HashSet::new(), position: 0, member: 0 };
        tar.write_member(LAYOUT_FILE, LAYOUT.len() as u64, &mut LAYOUT.as_bytes())?;
        Ok(tar)
    }

    /// False if it is in the tar already.
    pub(super) fn begin(&mut self, digest: &Digest, path: &str, size: u64) -> Result<bool, Error> {
        if self.written.contains(&key(digest)) {
            return Ok(false);
        }
        self.write_header(path, size).map_err(|error| self.failed(error))?;
        Ok(true)
    }

    pub(super) fn append(&mut self, part: &[u8]) -> Result<(), Error> {
        self.write(part).map_err(|error| self.failed(error))
    }

    pub(super) fn end(&mut self, digest: &Digest) -> Result<(), Error> {
        self.pad().map_err(|error| self.failed(error))?;
        self.written.insert(key(digest));
        Ok(())
    }

    /// Takes back the member that was begun.
    pub(super) fn abandon(&mut self) -> Result<(), Error> {
        self.position = self.member;
        let cut = self.out.flush().and_then(|()| self.out.get_mut().cut(self.member));
        cut.map_err(|error| self.failed(error))
    }

    pub(super) fn finish(
        mut self,
        mut index: Document,
        docker: Option<Document>,
    ) -> Result<(), Error> {
        self.write_member(INDEX_FILE, index.length, &mut index.content)?;
        if let Some(mut docker) = docker {
            self.write_member(DOCKER_FILE, docker.length, &mut docker.content)?;
        }
        let ended = self.write(&[0; 2 * BLOCK]).and_then(|()| self.out.flush());
        ended.map_err(|error| self.failed(error))?;
        // All is flushed: into_parts has nothing left to give.
        let (out, _) = self.out.into_parts();
        out.finish()
    }

    fn write_member(&mut self, name: &str, size: u64, from: &mut dyn Read) -> Result<(), Error> {
        let mut buffer = vec![0; 1 << 16];
        let mut write = || {
            self.write_header(name, size)?;
            loop {
                let read = from.read(&mut buffer)?;
                if read == 0 {
                    return self.pad();
                }
                self.write(buffer.get(..read).unwrap_or_default())?;
            }
        };
        write().map_err(|error| self.failed(error))
    }

    fn write_header(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.member = self.position;
        if name.len() > MAX_NAME {
            // Only the names of sha512 digests are so long.
            let name = format!("{name}\0");
            let long = header("././@LongLink", name.len() as u64, EntryType::GNULongName)?;
            self.write(long.as_bytes())?;
            self.write(name.as_bytes())?;
            self.pad()?;
        }
        let short = name.get(..MAX_NAME).unwrap_or(name);
        let header = header(short, size, EntryType::Regular)?;
        self.write(header.as_bytes())
    }

    fn pad(&mut self) -> io::Result<()> {
        let rest = self.position.next_multiple_of(BLOCK as u64) - self.position;
        let rest = usize::try_from(rest).unwrap_or_default();
        self.write([0; BLOCK].get(..rest).unwrap_or_default())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        match &self.path {
            Some(path) => Error::io("write", path, error),
            None => Error::io("write to", Path::new("standard output"), error),
        }
    }
}

/// A header with nothing in it that differs from one time to the next.
fn header(name: &str, size: u64, kind: EntryType) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}
