//! Opens a file in which one can go back and forth, whatever it comes from.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
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

/// As many bytes tell how a file is compressed.
const START: u64 = 16;

/// Bytes that are unpacked between two looks at the disk's free space.
const STEP: u64 = 16 << 20;

/// Bytes of the disk that stay free at least, or a twentieth of it if that is less: others, such
/// as the registry's database, write there, too.
const KEEP_FREE: u64 = 1 << 30;

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
    Read::take(&mut file, START).read_to_end(&mut start).map_err(failed)?;
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

fn copy(from: impl BufRead, path: &Path, spool: &Path) -> Result<File, Error> {
    let unread = |error| Error::io("read", path, error);
    let unwritten = |error| Error::io("unpack into", spool, error);
    let (start, from) = peek(from).map_err(unread)?;
    refuse_other_compression(&start)?;
    let mut from: Box<dyn Read> =
        if is_gzip(&start) { Box::new(MultiGzDecoder::new(from)) } else { Box::new(from) };
    let mut file = tempfile::tempfile_in(spool).map_err(unwritten)?;
    let mut buffer = vec![0; 1 << 18];
    let (mut unpacked, mut checked) = (0, None);
    loop {
        if checked != Some(unpacked / STEP) {
            checked = Some(unpacked / STEP);
            let disk = rustix::fs::fstatvfs(&file).map_err(|error| unwritten(error.into()))?;
            let (free, size) = (disk.f_bavail, disk.f_blocks);
            let [free, size] = [free, size].map(|blocks| blocks.saturating_mul(disk.f_frsize));
            check_space(unpacked, free, size).map_err(unwritten)?;
        }
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unread(error)),
        };
        let part = buffer.get(..read).unwrap_or_default();
        io::Write::write_all(&mut file, part).map_err(unwritten)?;
        unpacked += read as u64;
    }
    file.rewind().map_err(unwritten)?;
    Ok(file)
}

/// How `from` begins, and all of it. A pipe may give it byte by byte.
fn peek(mut from: impl BufRead) -> io::Result<(Vec<u8>, impl BufRead)> {
    let mut start = Vec::new();
    Read::take(&mut from, START).read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(from)))
}

/// Refuses to fill the disk: of `size` bytes, `free` are left.
fn check_space(unpacked: u64, free: u64, size: u64) -> io::Result<()> {
    let keep = KEEP_FREE.min(size / 20);
    if free >= keep.saturating_add(STEP) {
        return Ok(());
    }
    let problem = format!(
        "{unpacked} bytes are unpacked and {free} bytes of the disk are free, of which {keep} stay \
         free: make room, or unpack the images elsewhere into a folder and import that"
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, as a pipe may.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            buffer.get_mut(..length).map_or(Ok(0), |buffer| self.0.read(buffer))
        }
    }

    #[test]
    fn a_slow_pipe_is_recognised() {
        let content = b"\x1f\x8b and so on, for longer than the start";
        let (start, mut whole) = peek(BufReader::new(Slow(content))).unwrap();
        assert!(is_gzip(&start));
        let mut read = Vec::new();
        whole.read_to_end(&mut read).unwrap();
        assert_eq!(read, content);
    }

    #[test]
    fn the_disk_is_not_filled() {
        let (mib, gib) = (1 << 20, 1 << 30);
        for (free, size, fits) in [
            (2 * gib, 100 * gib, true),
            (gib, 100 * gib, false),
            (100 * mib, gib, true),
            (60 * mib, gib, false),
            (0, gib, false),
        ] {
            assert_eq!(check_space(7, free, size).is_ok(), fits, "{free} of {size}");
        }
        let text = check_space(7, 0, gib).unwrap_err().to_string();
        assert!(
            text.starts_with("7 bytes are unpacked and 0 bytes of the disk are free"),
            "{text}"
        );
    }
}
