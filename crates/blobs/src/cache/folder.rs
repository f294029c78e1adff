//! The folder of a cache.
//!
//! ```text
//! lock                            held by the server that uses it
//! blobs/<2 hex>/<algorithm>-<hex> content that was whole when it got its name
//! arriving/<id>                   content on its way; thrown away at the next start
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci::Digest;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::{Error, ErrorKind, UploadId};

/// A folder that nobody else uses.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    _lock: File,
}

/// A file of an earlier start.
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) size: u64,
    read: SystemTime,
}

impl Folder {
    /// Makes the folder where it is missing, and locks it.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        for folder in ["blobs", "arriving"] {
            create(&root.join(folder))?;
        }
        let path = root.join("lock");
        let failed = |error| Error::new("lock", &path, error);
        let mut options = OpenOptions::new();
        let lock = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let cause = "another server uses it; give each server a folder of its own";
                let context = format!("use the disk cache in {}", root.display());
                Err(Error::of(ErrorKind::Other, context, cause))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The place of content.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(format!("blobs/{hex:.2}/{}-{hex}", digest.algorithm().as_str()))
    }

    /// A new file with room for `size` bytes, for content that arrives.
    pub(super) fn create(&self, size: u64) -> Result<(PathBuf, File), Error> {
        let folder = self.root.join("arriving");
        create(&folder)?;
        let path = folder.join(UploadId::now_v7().to_string());
        let failed = |error| Error::new("write", &path, error);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        // A full disk is found out before anybody waits for bytes from here.
        match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok((path, file)),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(failed(error.into()))
            }
        }
    }

    /// Gives content that has arrived its place, and says where that is.
    pub(super) fn place(&self, from: &Path, digest: &Digest) -> Result<PathBuf, Error> {
        let to = self.path(digest);
        if let Some(folder) = to.parent() {
            create(folder)?;
        }
        fs::rename(from, &to).map_err(|error| Error::new("rename to", &to, error))?;
        Ok(to)
    }

    /// The content that is there, what was read last at the end. What was arriving when the server
    /// before ended is thrown away.
    pub(super) fn take_stock(&self) -> Result<Vec<Found>, Error> {
        for path in entries(&self.root.join("arriving"))? {
            remove(&path)?;
        }
        let mut found = Vec::new();
        for shard in entries(&self.root.join("blobs"))? {
            found.extend(entries(&shard)?.iter().filter_map(|path| Found::at(path)));
        }
        found.sort_by_key(|found| found.read);
        Ok(found)
    }
}

impl Found {
    /// Nothing if the file is none of a cache.
    fn at(path: &Path) -> Option<Self> {
        let digest = path.file_name()?.to_str()?.replacen('-', ":", 1).parse().ok()?;
        let found = fs::metadata(path).ok()?;
        // Most file systems note at least once a day that a file is read.
        Some(Self { digest, size: found.len(), read: found.accessed().ok()? })
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn create(folder: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Error::new("create", folder, error))
}

/// What is in a folder, if it is one.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>(),
        Err(error) if absent.contains(&error.kind()) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
    .map_err(|error| Error::new("list", folder, error))
}
