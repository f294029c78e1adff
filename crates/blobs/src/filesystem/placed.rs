//! Small content is put in its place without a wait for the disk. One call syncs all of it later;
//! until then its caller keeps the bytes where they do survive the loss of power.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FsWord, fstatfs, syncfs};

/// The largest content that is not synced at once. For a larger one the second copy costs more
/// than the wait.
pub(super) const SMALL: u64 = 64 << 10;

/// Bytes that may wait for a sync: what a start after a crash has to look at.
const MAX_WAITING: u64 = 16 << 20;

/// File systems of which it is known that `syncfs(2)` returns when all is on the disk, and not
/// before (as `statfs(2)` calls them).
const TRUSTED: [FsWord; 5] = [
    0xEF53,      // ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0xF2F5_2010, // F2FS
    0x0102_1994, // tmpfs, which has no disk
];

/// The first kernel whose `syncfs(2)` tells of all that could not be written.
const TELLS_ERRORS: (u32, u32) = (5, 17);

/// In the place of a number of bytes: a sync has failed.
const FAILED: u64 = u64::MAX;

/// Content in its place that was not synced yet.
#[derive(Debug)]
pub(super) struct Placed {
    /// A folder of the file system. It was open before all that it has to sync: that is how it
    /// hears of errors.
    folder: File,
    bytes: AtomicU64,
}

impl Placed {
    /// For content below `content` that comes from files below `uploads`. `None` where a sync of
    /// the whole file system can not be relied on.
    pub(super) fn new(content: &Path, uploads: &Path) -> Option<Self> {
        let folder = File::open(content).ok()?;
        let trusted = fstatfs(&folder).is_ok_and(|found| TRUSTED.contains(&found.f_type));
        let same = folder.metadata().ok()?.dev() == fs::metadata(uploads).ok()?.dev();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let usable = trusted && same && version_of(&kernel) >= Some(TELLS_ERRORS);
        usable.then(|| Self { folder, bytes: AtomicU64::new(0) })
    }

    /// Whether content of this length may wait for the next sync; if so, it is counted.
    pub(super) fn takes(&self, length: u64) -> bool {
        let add = |bytes: u64| bytes.checked_add(length).filter(|sum| *sum <= MAX_WAITING);
        length <= SMALL
            && self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// Content of this length that was counted does not wait.
    pub(super) fn give_back(&self, length: u64) {
        let subtract = |bytes: u64| (bytes != FAILED).then(|| bytes.saturating_sub(length));
        // It fails if a sync has failed, after which nothing is counted.
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
    }

    /// Waits until all that was put in its place before is on the disk. After a failure nothing
    /// waits any more, and this fails: what the disk has lost, a second sync would not tell.
    pub(super) fn sync(&self) -> io::Result<()> {
        let before = self.bytes.load(Ordering::Relaxed);
        let synced = match before {
            FAILED => Err(io::Error::other("an earlier sync has failed")),
            _ => syncfs(&self.folder).map_err(io::Error::from),
        };
        let after = |bytes| match (&synced, bytes) {
            (Err(_), _) | (Ok(()), FAILED) => FAILED,
            (Ok(()), bytes) => bytes.saturating_sub(before),
        };
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |b| Some(after(b)));
        synced
    }
}

/// The first two numbers of a kernel's release.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_waits() {
        let folder = tempfile::tempdir().unwrap();
        let placed =
            Placed { folder: File::open(folder.path()).unwrap(), bytes: AtomicU64::new(0) };
        assert!(!placed.takes(SMALL + 1));
        for _ in 0..MAX_WAITING / SMALL {
            assert!(placed.takes(SMALL));
        }
        assert!(!placed.takes(1));
        placed.give_back(5);
        assert!(placed.takes(5) && !placed.takes(1));
        placed.sync().unwrap();
        assert!(placed.takes(1));
    }

    #[test]
    fn after_a_failure_nothing_waits() {
        let file = File::open("/dev/null").unwrap();
        let placed = Placed { folder: file, bytes: AtomicU64::new(FAILED) };
        assert!(placed.sync().is_err());
        assert!(!placed.takes(0));
    }

    #[test]
    fn releases_of_kernels() {
        assert_eq!(version_of("6.18.44-arch1"), Some((6, 18)));
        assert_eq!(version_of("5.8"), Some((5, 8)));
        assert_eq!(version_of("4.18.0-553.el8"), Some((4, 18)));
        assert_eq!(version_of(""), None);
        assert!(version_of("unknown") < Some(TELLS_ERRORS));
    }
}
