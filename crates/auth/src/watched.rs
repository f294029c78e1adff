//! Files that are read again when they change.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use crate::Error;

/// The largest file that is read.
const MAX_SIZE: u64 = 16 << 20;

/// A file that changed less than this ago may change again within one tick of its clock.
const SETTLED: Duration = Duration::from_secs(1);

/// A file is not looked at again for this long, however many ask: about when a change is seen.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a file holds, parsed.
pub(crate) struct Watched<T> {
    path: PathBuf,
    parse: Parse<T>,
    opened: Instant,
    /// When the file is to be looked at again, in nanoseconds after `opened`.
    next_look: AtomicU64,
    state: RwLock<State<T>>,
}

type Parse<T> = Box<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

struct State<T> {
    value: Arc<T>,
    /// What the file looked like when it was read; `None` if it could not be read.
    stamp: Option<Stamp>,
    /// Whether a change after that must show in the stamp.
    settled: bool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T> Watched<T> {
    /// Reads the file for the first time.
    pub(crate) fn open(
        path: &Path,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let (stamp, settled, content) =
            read(path).map_err(|error| Error::File { path: path.to_owned(), error })?;
        let value =
            parse(&content).map_err(|reason| Error::Content { path: path.to_owned(), reason })?;
        let state = State { value: Arc::new(value), stamp: Some(stamp), settled };
        Ok(Self {
            path: path.to_owned(),
            parse: Box::new(parse),
            opened: Instant::now(),
            next_look: AtomicU64::new(0),
            state: RwLock::new(state),
        })
    }

    /// What the file holds, or held a moment ago. While it can not be read or makes no sense, what
    /// it held before: an editor that saves must not lock everybody out.
    pub(crate) fn get(&self) -> Arc<T> {
        if self.is_time_to_look() {
            return self.look();
        }
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&state.value)
    }

    /// True for one of those who ask, at most once in [`LOOK_EVERY`].
    fn is_time_to_look(&self) -> bool {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanoseconds(self.opened.elapsed());
        let due = self.next_look.load(Ordering::Relaxed);
        let next = now.saturating_add(nanoseconds(LOOK_EVERY));
        let taken =
            || self.next_look.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        now >= due && taken().is_ok()
    }

    /// What the file holds now. Costs one stat of the file.
    fn look(&self) -> Arc<T> {
        let found = std::fs::metadata(&self.path).map(|metadata| stamp(&metadata));
        let found = found.ok();
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.settled && state.stamp == found {
                return Arc::clone(&state.value);
            }
        }
        self.read_again(found)
    }

    fn read_again(&self, found: Option<Stamp>) -> Arc<T> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.settled && state.stamp == found {
            return Arc::clone(&state.value);
        }
        let known = state.stamp;
        let path = self.path.display();
        match read(&self.path) {
            Ok((stamp, settled, content)) => {
                state.stamp = Some(stamp);
                state.settled = settled;
                match (self.parse)(&content) {
                    Ok(value) => {
                        if known != Some(stamp) {
                            tracing::info!(%path, "read again, because it has changed");
                        }
                        state.value = Arc::new(value);
                    }
                    Err(reason) if known != Some(stamp) => {
                        tracing::error!(%path, reason, "what it said before goes on to hold");
                    }
                    Err(_) => {}
                }
            }
            Err(error) => {
                if known.is_some() {
                    tracing::error!(%path, %error, "what it said before goes on to hold");
                }
                state.stamp = None;
                state.settled = true;
            }
        }
        Arc::clone(&state.value)
    }
}

fn read(path: &Path) -> io::Result<(Stamp, bool, Vec<u8>)> {
    let file = File::open(path)?;
    // Before its content, so that a change in between is seen the next time.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    let mut content = Vec::new();
    if file.take(MAX_SIZE + 1).read_to_end(&mut content)? as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("the file has more than {} MiB", MAX_SIZE >> 20)));
    }
    let age = metadata.modified().map(|modified| SystemTime::now().duration_since(modified));
    let settled = matches!(age, Ok(Ok(age)) if age > SETTLED);
    Ok((stamp(&metadata), settled, content))
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(path: &Path) -> Watched<String> {
        let parse = |content: &[u8]| match content {
            b"bad" => Err("bad".to_owned()),
            _ => Ok(String::from_utf8_lossy(content).into_owned()),
        };
        Watched::open(path, parse).unwrap()
    }

    #[test]
    fn changes_are_seen_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "0").unwrap();
        let file = watched(&path);
        // Of the same size and within one tick of the clock.
        for text in ["1", "2", "3", "4"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(*file.look(), text);
        }
        // Another file in its place, as old as can be.
        let other = folder.path().join("other");
        std::fs::write(&other, "5").unwrap();
        File::open(&other).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(*file.look(), "5");
        assert_eq!(*file.look(), "5");
        std::fs::write(&path, "6").unwrap();
        assert_eq!(*file.look(), "6");
    }

    #[test]
    fn a_file_that_is_gone_or_bad_goes_on_to_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "good").unwrap();
        let file = watched(&path);
        std::fs::write(&path, "bad").unwrap();
        assert_eq!(*file.look(), "good");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*file.look(), "good");
        std::fs::write(&path, "better").unwrap();
        assert_eq!(*file.look(), "better");
    }

    #[test]
    fn many_who_ask_are_one_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "0").unwrap();
        let file = watched(&path);
        let opened = Instant::now();
        let mut looks = 0;
        while opened.elapsed() < 3 * LOOK_EVERY {
            looks += u32::from(file.is_time_to_look());
        }
        assert!((2..=4).contains(&looks), "{looks}");
        std::fs::write(&path, "1").unwrap();
        let changed = Instant::now();
        while *file.get() != "1" {
            assert!(changed.elapsed() < Duration::from_mins(1), "it is never seen");
        }
    }

    #[test]
    fn a_file_that_is_never_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let opened = Watched::open(&folder.path().join("none"), |_| Ok(()));
        assert!(matches!(opened, Err(Error::File { .. })));
        let cause = opened
            .err()
            .and_then(|error| std::error::Error::source(&error).map(ToString::to_string));
        assert_eq!(cause, None, "the message says it already");
        assert!(matches!(Watched::open(folder.path(), |_| Ok(())), Err(Error::File { .. })));
    }
}
