//! Files that have their name only when they are whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// A file that is being written. It is called `….partial`, is locked, and is removed if it does
/// not become whole.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    is_whole: bool,
}

impl Partial {
    /// Begins the file that is to be called `path`. With [`Error::Busy`], somebody else writes it.
    /// A link is followed, and stays.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let target = fs::canonicalize(path);
        let path = target.as_deref().unwrap_or(path);
        // Not after hours, when the name is taken.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let problem = "expected the name of a file, found something else of that name";
            return Err(Error::member(&path.to_string_lossy(), problem));
        }
        let partial = partial(path);
        let file = open_locked(&partial, path)?;
        file.set_len(0).map_err(|error| Error::io("write", &partial, error))?;
        Ok(Self { file, path: path.to_owned(), is_whole: false })
    }

    /// Gives the file its name, durably.
    pub fn commit(mut self) -> Result<(), Error> {
        let partial = partial(&self.path);
        self.file.sync_all().map_err(|error| Error::io("write", &partial, error))?;
        let named = fs::rename(&partial, &self.path);
        named.map_err(|error| Error::io("write", &self.path, error))?;
        self.is_whole = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        sync_folder(folder.unwrap_or(Path::new(".")))
    }

    /// Goes back to the first `length` bytes.
    pub(crate) fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length)).map(drop)
    }
}

impl Write for Partial {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_file(partial(&self.path));
        }
    }
}

/// Opens the file `path` for writing, as it is, and locks it until it is closed. Whoever renames
/// or removes it does that with the lock. `target` is what is being written, for the message.
pub(crate) fn open_locked(path: &Path, target: &Path) -> Result<File, Error> {
    let failed = |error| Error::io("write", path, error);
    let busy = || Error::Busy { path: target.to_owned() };
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", path, error)),
    }
    // Another one may have ended between the two, and what is open now is its work.
    let mine = file.metadata().map_err(failed)?;
    match fs::metadata(path) {
        Ok(named) if (named.dev(), named.ino()) == (mine.dev(), mine.ino()) => Ok(file),
        _ => Err(busy()),
    }
}

/// Makes the names in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("sync", folder, error))
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
