//! A layout in a folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::list::Document;
use crate::{Error, INDEX_FILE, LAYOUT, LAYOUT_FILE};

/// What is being written, below the folder.
const PARTIAL: &str = ".partial";

pub(super) struct Folder {
    root: PathBuf,
    open: Option<(File, PathBuf)>,
    /// Folders whose names must be on disk before the index is.
    changed: BTreeSet<PathBuf>,
}

impl Folder {
    pub(super) fn create(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(|error| Error::io("make the folder", root, error))?;
        let mut folder = Self { root: root.to_owned(), open: None, changed: BTreeSet::new() };
        if !root.join(LAYOUT_FILE).is_file() {
            let mut entries = fs::read_dir(root).map_err(|error| Error::io("list", root, error))?;
            if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != PARTIAL)) {
                let problem = "expected an empty folder or an OCI image layout, found other files";
                return Err(Error::member(&root.to_string_lossy(), problem));
            }
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
            sync(folder)?;
        }
        self.write(INDEX_FILE, &mut index.content)?;
        sync(&self.root)
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

pub(super) fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("sync", folder, error))
}
