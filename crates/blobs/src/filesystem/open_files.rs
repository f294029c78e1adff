//! Files that were opened or looked up lately: content that many ask for is not looked up, opened and
//! mapped for each of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci::Digest;
use quick_cache::sync::Cache;

/// Files that are kept open, at most.
const CAPACITY: usize = 128;

/// Files of which it is known when they were seen, at most.
const SEEN_CAPACITY: usize = 4096;

/// A file is not looked up again for this long after it was seen in its place: what somebody else
/// does to it shows by then.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The files of some content.
pub(crate) struct OpenFiles {
    files: Cache<Digest, Arc<OpenFile>>,
    /// The size that a file had in its place, and when that was.
    seen: Cache<Digest, (u64, Instant)>,
}

impl OpenFiles {
    pub(crate) fn new() -> Self {
        Self { files: Cache::new(CAPACITY), seen: Cache::new(SEEN_CAPACITY) }
    }

    /// The file of this content, which lies at `path`: one that is open, or it is opened now.
    pub(crate) fn open(&self, digest: &Digest, path: &Path) -> io::Result<Arc<OpenFile>> {
        if let Some(file) = self.files.get(digest) {
            if self.seen_lately(digest) == Some(file.size) {
                return Ok(file);
            }
            if file.is_at(path) {
                self.saw(digest, file.size);
                return Ok(file);
            }
            self.forget(digest);
        }
        let file = Arc::new(OpenFile::open(path)?);
        self.files.insert(*digest, Arc::clone(&file));
        // Somebody may have replaced it meanwhile, and it would keep its space.
        if !file.is_at(path) {
            self.forget(digest);
        }
        Ok(file)
    }

    /// The size of this content, which lies at `path`.
    pub(crate) fn size(&self, digest: &Digest, path: &Path) -> io::Result<u64> {
        if let Some(size) = self.seen_lately(digest) {
            return Ok(size);
        }
        let size = std::fs::metadata(path)?.len();
        self.saw(digest, size);
        Ok(size)
    }

    /// Another file has this content from now on, or none.
    pub(crate) fn forget(&self, digest: &Digest) {
        self.files.remove(digest);
        self.seen.remove(digest);
    }

    fn saw(&self, digest: &Digest, size: u64) {
        self.seen.insert(*digest, (size, Instant::now()));
    }

    fn seen_lately(&self, digest: &Digest) -> Option<u64> {
        let (size, at) = self.seen.get(digest)?;
        (at.elapsed() < LOOK_EVERY).then_some(size)
    }
}

impl std::fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} open files", self.files.len())
    }
}

/// A file that is open for reading.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: Arc<File>,
    pub(crate) size: u64,
    /// Its device and number.
    identity: (u64, u64),
    /// All of it, to be sent without being read. Nothing inside if it can not be mapped.
    mapped: OnceLock<Option<Bytes>>,
}

impl OpenFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        let identity = (found.dev(), found.ino());
        Ok(Self { file: Arc::new(file), size: found.len(), identity, mapped: OnceLock::new() })
    }

    /// A file that will have `size` bytes and is written to meanwhile. It is never mapped.
    pub(crate) fn growing(file: File, size: u64) -> Self {
        Self { file: Arc::new(file), size, identity: (0, 0), mapped: OnceLock::from(None) }
    }

    /// Whether it is the file at `path`, as long as it was: neither removed nor replaced nor cut.
    fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|found| {
            (found.dev(), found.ino()) == self.identity && found.len() == self.size
        })
    }

    /// A part of it that can be sent without being read.
    pub(crate) fn map(&self, offset: u64, length: u64) -> Option<Bytes> {
        let whole = self.mapped.get_or_init(|| self.map_whole()).as_ref()?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        (end <= whole.len()).then(|| whole.slice(start..end))
    }

    #[expect(unsafe_code, reason = "only a store knows what becomes of its files")]
    fn map_whole(&self) -> Option<Bytes> {
        let length = usize::try_from(self.size).ok()?;
        // SAFETY: the file had this length when it was opened, and nobody writes to one that has
        // its place in the layout, or in a cache. Content is written to a file of its own, which takes that place
        // when it is whole; what is removed or replaced keeps its bytes for those who have it open.
        unsafe { sendfile::map(&self.file, length) }.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn a_file_is_open_until_it_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let digest = Digest::sha256(b"");
        let files = OpenFiles::new();
        assert!(files.open(&digest, &path).is_err());
        fs::write(&path, "one").unwrap();
        let first = files.open(&digest, &path).unwrap();
        assert!(Arc::ptr_eq(&files.open(&digest, &path).unwrap(), &first));
        assert_eq!(first.map(1, 2).unwrap(), "ne");
        assert!(first.map(1, 3).is_none() && first.map(u64::MAX, 2).is_none());

        let other = folder.path().join("other");
        fs::write(&other, "more").unwrap();
        fs::hard_link(&path, folder.path().join("backup")).unwrap();
        fs::rename(&other, &path).unwrap();
        thread::sleep(LOOK_EVERY);
        assert_eq!(files.open(&digest, &path).unwrap().size, 4, "it was replaced");
        fs::remove_file(&path).unwrap();
        thread::sleep(LOOK_EVERY);
        assert!(files.open(&digest, &path).is_err(), "it was removed");
        assert_eq!(first.map(0, 3).unwrap(), "one", "for those who have it");
    }

    #[test]
    fn a_file_that_was_seen_is_not_looked_up_at_once_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let digest = Digest::sha256(b"");
        let files = OpenFiles::new();
        assert!(files.size(&digest, &path).is_err());
        fs::write(&path, "one").unwrap();
        assert_eq!(files.size(&digest, &path).unwrap(), 3, "that there is none is not kept");
        files.saw(&digest, 4);
        assert_eq!(files.size(&digest, &path).unwrap(), 4);
        files.forget(&digest);
        assert_eq!(files.size(&digest, &path).unwrap(), 3);
        files.saw(&digest, 4);
        thread::sleep(LOOK_EVERY);
        assert_eq!(files.size(&digest, &path).unwrap(), 3);
    }

    #[test]
    fn only_so_many_stay_open() {
        let folder = tempfile::tempdir().unwrap();
        let files = OpenFiles::new();
        let opened = (0..2 * CAPACITY).map(|number| {
            let path = folder.path().join(number.to_string());
            fs::write(&path, "x").unwrap();
            files.open(&Digest::sha256(path.as_os_str().as_encoded_bytes()), &path).unwrap()
        });
        let opened = opened.collect::<Vec<_>>();
        let kept = opened.iter().filter(|file| Arc::strong_count(file) > 1).count();
        assert!(kept <= CAPACITY, "{kept}");
    }
}
