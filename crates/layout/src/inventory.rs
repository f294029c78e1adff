//! What a registry holds, as a list of digests that another registry need not send.
//!
//! One sha256 digest a line, in order, so that a list of any length can be searched where it lies.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use oci::{Algorithm, Digest};

use crate::Error;

/// `sha256:`, 64 hexadecimal digits and the end of the line.
const LINE: usize = 72;

/// A list that is searched on disk.
#[derive(Debug)]
pub struct Inventory {
    path: PathBuf,
    file: File,
    lines: u64,
}

impl Inventory {
    /// Opens the list at `path` and reads it once, to be sure that it can be searched.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        let mut reader = BufReader::with_capacity(1 << 18, &file);
        let (mut line, mut last, mut lines) = (Vec::with_capacity(LINE), None, 0);
        loop {
            line.clear();
            let limited = &mut std::io::Read::take(&mut reader, LINE as u64);
            limited.read_until(b'\n', &mut line).map_err(|error| Error::io("read", path, error))?;
            if line.is_empty() {
                break;
            }
            lines += 1;
            let digest = parse(&line).filter(|digest| Some(*digest) > last);
            let Some(digest) = digest else {
                let problem = format!(
                    "line {lines}: expected sha256 digests, one a line and in order, as `orlop \
                     export --inventory` writes them"
                );
                return Err(Error::member(&path.to_string_lossy(), problem));
            };
            last = Some(digest);
        }
        drop(reader);
        Ok(Self { path: path.to_owned(), file, lines })
    }

    /// How many digests it lists.
    pub fn len(&self) -> u64 {
        self.lines
    }

    /// Whether it lists none.
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Whether it lists `digest`. It may wait for the disk.
    pub fn contains(&self, digest: &Digest) -> Result<bool, Error> {
        let (mut low, mut high) = (0, self.lines);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut line = [0; LINE];
            self.file
                .read_exact_at(&mut line, middle * LINE as u64)
                .map_err(|error| Error::io("read", &self.path, error))?;
            match parse(&line) {
                Some(found) if found == *digest => return Ok(true),
                Some(found) if found < *digest => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(false)
    }
}

fn parse(line: &[u8]) -> Option<Digest> {
    let text = str::from_utf8(line).ok()?.strip_suffix('\n')?;
    text.parse().ok().filter(|digest: &Digest| digest.algorithm() == Algorithm::Sha256)
}

/// Writes such a list.
pub struct InventoryWriter<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> InventoryWriter<W> {
    /// A list into `out`.
    pub fn new(out: W) -> Self {
        Self { out: BufWriter::with_capacity(1 << 18, out) }
    }

    /// Adds a sha256 digest, greater than all before.
    pub fn add(&mut self, digest: &Digest) -> std::io::Result<()> {
        writeln!(self.out, "{digest}")
    }

    /// Writes what is left, and returns where to.
    pub fn finish(self) -> std::io::Result<W> {
        self.out.into_inner().map_err(std::io::IntoInnerError::into_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(digests: &[Digest]) -> tempfile::NamedTempFile {
        let mut list = InventoryWriter::new(Vec::new());
        for digest in digests {
            list.add(digest).unwrap();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), list.finish().unwrap()).unwrap();
        file
    }

    #[test]
    fn finds_what_it_lists() {
        let mut digests: Vec<_> = (0_u8..50).map(|n| Digest::sha256(&[n])).collect();
        digests.sort();
        for length in [0, 1, 2, 3, 50] {
            let (listed, left) = digests.split_at(length);
            let file = written(listed);
            let inventory = Inventory::open(file.path()).unwrap();
            assert_eq!(inventory.len(), length as u64);
            assert!(listed.iter().all(|digest| inventory.contains(digest).unwrap()));
            assert!(left.iter().all(|digest| !inventory.contains(digest).unwrap()));
            assert!(!inventory.contains(&Digest::sha512(b"")).unwrap());
        }
    }

    #[test]
    fn refuses_what_can_not_be_searched() {
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let (low, high) = (one.min(two), one.max(two));
        for (text, line) in [
            (format!("{high}\n{low}\n"), 2),
            (format!("{low}\n{low}\n"), 2),
            (format!("{low}\n{high}"), 2),
            (format!("{low} \n"), 1),
            ("hello\n".to_owned(), 1),
            (format!("{}\n", Digest::sha512(b"")), 1),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &text).unwrap();
            let error = Inventory::open(file.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}: expected sha256 digests")), "{error}");
        }
    }
}
