//! Named files: those of a folder, or those of a tar.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::tarball::Tarball;

/// Named files.
#[derive(Debug)]
pub(crate) enum Files {
    /// Those below a folder, whose path has no symbolic links in it.
    Folder(PathBuf),
    Tar(Tarball),
}

impl Files {
    /// The files below `folder`.
    pub(crate) fn of_folder(folder: &Path) -> Result<Self, Error> {
        let folder = folder.canonicalize().map_err(|error| Error::io("open", folder, error))?;
        Ok(Self::Folder(folder))
    }

    /// The file called `path`; `None` if there is none.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Section>, Error> {
        let plain = join("", path).ok_or_else(|| leads_out(path))?;
        match self {
            Self::Folder(root) => find_below(root, &plain),
            Self::Tar(tar) => tar.find(&plain),
        }
    }

    /// The content of the file called `path`, of at most `limit` bytes.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(section) = self.find(path)? else { return Ok(None) };
        if section.size() > limit {
            let problem = format!("it has {} bytes, but at most {limit} are read", section.size());
            return Err(Error::member(path, problem));
        }
        section.read_whole().map(Some)
    }
}

fn find_below(root: &Path, path: &str) -> Result<Option<Section>, Error> {
    let failed = |error| Error::io("open", &root.join(path), error);
    let found = match root.join(path).canonicalize() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !found.starts_with(root) {
        return Err(leads_out(path));
    }
    // Asked before it is opened: opening a pipe would wait for its writer.
    if !found.metadata().map_err(failed)?.is_file() {
        return Err(Error::member(path, "expected a file, found something else"));
    }
    let file = File::open(&found).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    Ok(Some(Section { file: Arc::new(file), offset: 0, size }))
}

pub(crate) fn leads_out(path: &str) -> Error {
    Error::member(path, "its name leads out of the archive or folder")
}

/// The plain name of `path`, seen from the folder `base`; `None` if it leads out of all folders.
pub(crate) fn join(base: &str, path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A stretch of a file that is open for reading.
#[derive(Clone, Debug)]
pub struct Section {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

impl Section {
    pub(crate) fn new(file: &Arc<File>, offset: u64, size: u64) -> Self {
        Self { file: Arc::clone(file), offset, size }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads from `offset` of the section; 0 at its end. It may wait for the disk.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = rest.min(buffer.len());
        match buffer.get_mut(..length) {
            Some(buffer) => self.file.read_at(buffer, self.offset.saturating_add(offset)),
            None => Ok(0),
        }
    }

    /// Reads the section from its beginning.
    pub(crate) fn reader(&self) -> SectionReader {
        SectionReader { section: self.clone(), position: 0 }
    }

    /// All bytes of a section that is known to be short.
    pub(crate) fn read_whole(&self) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        let read = self.reader().read_to_end(&mut content);
        read.map_err(|error| Error::Io { action: "cannot read the images".to_owned(), error })?;
        Ok(content)
    }
}

/// Reads a [`Section`].
#[derive(Debug)]
pub(crate) struct SectionReader {
    section: Section,
    position: u64,
}

impl Read for SectionReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.section.read_at(self.position, buffer)?;
        if read == 0 && self.position < self.section.size && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (base, path, expected) in [
            ("", "./blobs//sha256/ab", Some("blobs/sha256/ab")),
            ("", "a/../b", Some("b")),
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("a/b", "../../c", Some("c")),
            ("a", "../../c", None),
            ("", "..", None),
            ("", "/etc/passwd", None),
            ("a", "/etc/passwd", None),
            ("", "a/b/../../../c", None),
        ] {
            assert_eq!(join(base, path).as_deref(), expected, "{base} {path}");
        }
    }
}
