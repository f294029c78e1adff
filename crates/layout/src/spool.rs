//! Opens a file in which one can go back and forth, whatever it comes from.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::Error;

/// How files that are compressed in other ways begin, and what undoes that.
const COMPRESSED: [(&[u8], &str); 4] = [
    (b"\x28\xb5\x2f\xfd", "zstd: unpack it with `zstd -d`"),
    (b"\xfd7zXZ\0", "xz: unpack it with `xz -d`"),
    (b"BZh", "bzip2: unpack it with `bzip2 -d`"),
    (b"PK\x03\x04", "zip: unpack it with `unzip`"),
];

const GZIP: &[u8] = b"\x1f\x8b";

/// Opens `path` (`-`: standard input). What is compressed by gzip, or can only be read from front
/// to back, is unpacked into a file without a name in the folder `spool`.
pub(crate) fn open(path: &Path, spool: &Path) -> Result<File, Error> {
    let failed = |error| Error::io("open", path, error);
    if path == Path::new("-") {
        return copy(BufReader::new(io::stdin().lock()), path, spool);
    }
    let mut file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return copy(BufReader::new(file), path, spool);
    }
    let mut start = Vec::new();
    Read::take(&mut file, 16).read_to_end(&mut start).map_err(failed)?;
    refuse_other_compression(&start)?;
    file.rewind().map_err(failed)?;
    if is_gzip(&start) { copy(BufReader::new(file), path, spool) } else { Ok(file) }
}

/// Whether content that begins so is compressed by gzip.
pub(crate) fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(GZIP)
}

fn refuse_other_compression(start: &[u8]) -> Result<(), Error> {
    match COMPRESSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, by)) => Err(Error::NotImages { found: format!("a file compressed by {by}") }),
        None => Ok(()),
    }
}

fn copy(mut from: impl BufRead, path: &Path, spool: &Path) -> Result<File, Error> {
    let unread = |error| Error::io("read", path, error);
    let unwritten = |error| Error::io("unpack into", spool, error);
    let start = from.fill_buf().map_err(unread)?.to_vec();
    refuse_other_compression(&start)?;
    let mut from: Box<dyn Read> =
        if is_gzip(&start) { Box::new(MultiGzDecoder::new(from)) } else { Box::new(from) };
    let mut file = tempfile::tempfile_in(spool).map_err(unwritten)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unread(error)),
        };
        let part = buffer.get(..read).unwrap_or_default();
        io::Write::write_all(&mut file, part).map_err(unwritten)?;
    }
    file.rewind().map_err(unwritten)?;
    Ok(file)
}
