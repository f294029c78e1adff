//! A layout in a folder.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::list::Document;
use crate::partial::{open_locked, sync_folder};
use crate::{Error, INDEX_FILE, LAYOUT, LAYOUT_FILE};

/// What is being written, below the folder.
const PARTIAL: &str = ".partial";

/// Locked by whoever writes.
const LOCK: &str = ".lock";

pub(super) struct Folder {
    root: PathBuf,
    /// Held to the end.
    _lock: File,
    open: Option<(File, PathBuf)>,
    /// Folders whose names must be on disk before the index is.
    changed: BTreeSet<PathBuf>,
}

impl Folder {
    pub(super) fn create(root: &Path) -> Result<Self, Error> {
        let changed = create_root(root)?;
        let is_new = !root.join(LAYOUT_FILE).is_file();
        if is_new {
            refuse_others(root)?;
        }
        let lock = open_locked(&root.join(LOCK), root)?;
        let mut folder = Self { root: root.to_owned(), _lock: lock, open: None, changed };
        if is_new {
            folder.write(LAYOUT_FILE, &mut LAYOUT.as_bytes())?;
        }
        Ok(folder)
    }

    /// False if the file is there. It has its name only since it is whole.
    pub(super) fn begin(&mut self, path: &str, size: u64) -> Result<bool, Error> {
        let path = self.root.join(path);
        if fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == size) {
            // Whoever wrote it may have died before its name was on disk.
            self.note_change(&path);
            return Ok(false);
        }
        let partial = self.partial();
        let file = File::create(&partial).map_err(|error| Error::io("write", &partial, error))?;
        self.open = Some((file, path));
        Ok(true)
    }

    pub(super) fn append(&mut self, part: &[u8]) -> Result<(), Error> {
        let partial = self.partial();
        let Some((file, _)) = &mut self.open else { return Ok(()) };
        file.write_all(part).map_err(|error| Error::io("write", &partial, error))
    }

    pub(super) fn end(&mut self) -> Result<(), Error> {
        let Some((file, path)) = self.open.take() else { return Ok(()) };
        let failed = |error| Error::io("write", &path, error);
        if self.note_change(&path)
            && let Some(folder) = path.parent()
        {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        fs::rename(self.partial(), &path).map_err(failed)
    }

    /// Remembers to sync the folders of `path`. True if that is new.
    fn note_change(&mut self, path: &Path) -> bool {
        let Some(folder) = path.parent().filter(|folder| !self.changed.contains(*folder)) else {
            return false;
        };
        let folders = folder.ancestors().take_while(|above| above.starts_with(&self.root));
        self.changed.extend(folders.map(Path::to_owned));
        true
    }

    pub(super) fn abandon(&mut self) {
        self.open = None;
        let _ = fs::remove_file(self.partial());
    }

    /// Makes the blobs durable, then the index.
    pub(super) fn finish(mut self, mut index: Document) -> Result<(), Error> {
        for folder in &self.changed {
            sync_folder(folder)?;
        }
        self.write(INDEX_FILE, &mut index.content)?;
        sync_folder(&self.root)
    }

    fn write(&mut self, name: &str, content: &mut dyn io::Read) -> Result<(), Error> {
        let partial = self.partial();
        let failed = |error| Error::io("write", &partial, error);
        let mut file = File::create(&partial).map_err(failed)?;
        io::copy(content, &mut file).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&partial, self.root.join(name)).map_err(failed)
    }

    fn partial(&self) -> PathBuf {
        self.root.join(PARTIAL)
    }
}

impl Drop for Folder {
    /// The lock is still held here, so both are ours.
    fn drop(&mut self) {
        self.abandon();
        let _ = fs::remove_file(self.root.join(LOCK));
    }
}

/// Makes the folder, and returns the folders above in which something was made.
fn create_root(root: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let missing = root.ancestors().take_while(|folder| !folder.exists());
    let above = missing
        .filter_map(Path::parent)
        .map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    let above = above.map(Path::to_owned).collect();
    fs::create_dir_all(root).map_err(|error| Error::io("make the folder", root, error))?;
    Ok(above)
}

fn refuse_others(root: &Path) -> Result<(), Error> {
    let mut entries = fs::read_dir(root).map_err(|error| Error::io("list", root, error))?;
    let is_other = |name: OsString| name != PARTIAL && name != LOCK && name != LAYOUT_FILE;
    if entries.any(|entry| entry.is_ok_and(|entry| is_other(entry.file_name()))) {
        let problem = "expected an empty folder or an OCI image layout, found other files";
        return Err(Error::member(&root.to_string_lossy(), problem));
    }
    Ok(())
}
