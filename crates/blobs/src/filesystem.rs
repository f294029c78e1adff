//! Bytes in files.
//!
//! An upload is one file under `orlop/uploads/`. To commit it, its data is synced, it is renamed
//! to its layout path, and the folders on the way are synced: after that it survives the loss of
//! power. Content that is there already is replaced, which heals it if it was damaged.
//!
//! Small content comes into its place in the same way, but is synced later (see `placed`), and it
//! replaces only what is not the same.

mod links;
pub(crate) mod open_files;
mod placed;

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use oci::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::{Errno, ReadWriteFlags};

use open_files::{OpenFile, OpenFiles};
use placed::Placed;

use crate::{Blobs, Buffer, Content, Error, Future, Resumed, Stored, Upload, UploadId, layout};

/// How much [`Blobs::read_upload`] reads at once.
const READ_SIZE: usize = 1 << 20;

/// A store in a folder of the file system.
#[derive(Clone, Debug)]
pub struct FileSystem {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Changes at each boot: data that was not synced before is not to be trusted after.
    boot: String,
    open_files: OpenFiles,
    /// `None` where small content is synced at once, too.
    placed: Option<Placed>,
}

impl FileSystem {
    /// Opens the store at `root`, making its folders where they are missing.
    pub fn open(root: &Path) -> Result<Self, Error> {
        prepare(root)?;
        Ok(Self::open_existing(root))
    }

    /// The same for a store that other servers use at the same time, perhaps on other machines.
    /// Nothing is left for later: what one of them has not synced, no other one can.
    pub fn open_shared(root: &Path) -> Result<Self, Error> {
        prepare(root)?;
        Ok(Self::with(root, None))
    }

    /// The store at `root`, as it is: for looking at it.
    pub fn open_existing(root: &Path) -> Self {
        Self::with(root, Placed::new(&layout::shards(root), &layout::uploads(root)))
    }

    fn with(root: &Path, placed: Option<Placed>) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default();
        let open_files = OpenFiles::new();
        Self { shared: Arc::new(Shared { root: root.to_owned(), boot, open_files, placed }) }
    }

    fn upload_path(&self, upload: UploadId) -> PathBuf {
        layout::uploads(&self.shared.root).join(upload.to_string())
    }
}

/// Makes the folders that are missing.
fn prepare(root: &Path) -> Result<(), Error> {
    let above = create_root(root)?;
    let uploads = layout::uploads(root);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&uploads)
        .map_err(|error| Error::new("create", &uploads, error))?;
    let shards = create_shards(root)?;
    // Also if they were there: whoever made them may have died before this.
    let folders = shards.ancestors().take_while(|folder| folder.starts_with(root));
    sync_at_once(folders.chain(above))
}

impl Blobs for FileSystem {
    fn begin(&self, upload: UploadId) -> Future<'_, Result<Box<dyn Upload>, Error>> {
        let path = self.upload_path(upload);
        let bytes = Held::Memory(Vec::new());
        let upload = Box::new(FileUpload { store: self.clone(), path, bytes, length: 0 });
        Box::pin(std::future::ready(Ok(upload as Box<dyn Upload>)))
    }

    fn resume<'a>(
        &'a self,
        upload: UploadId,
        received: u64,
        state: &'a str,
    ) -> Future<'a, Result<Resumed, Error>> {
        let path = self.upload_path(upload);
        let store = self.clone();
        let same_boot = !state.is_empty() && state == self.shared.boot;
        blocking(move || {
            let failed = |error| Error::new("resume", &path, error);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            if length < received {
                return Err(failed(io::ErrorKind::NotFound.into()));
            }
            if length > received {
                file.set_len(received).map_err(failed)?;
            }
            let bytes = Held::File(file);
            let upload = Box::new(FileUpload { store, path, bytes, length: received });
            Ok(if same_boot { Resumed::Whole(upload) } else { Resumed::Unsure(upload) })
        })
    }

    fn read_upload(&self, upload: UploadId, offset: u64) -> Future<'_, Result<Bytes, Error>> {
        let path = self.upload_path(upload);
        blocking(move || {
            let failed = |error| Error::new("read", &path, error);
            let file = File::open(&path).map_err(failed)?;
            let mut buffer = vec![0; READ_SIZE];
            let read = file.read_at(&mut buffer, offset).map_err(failed)?;
            buffer.truncate(read);
            Ok(buffer.into())
        })
    }

    fn abort<'a>(
        &'a self,
        upload: UploadId,
        _state: Option<&'a str>,
    ) -> Future<'a, Result<(), Error>> {
        let path = self.upload_path(upload);
        blocking(move || remove_upload(&path))
    }

    fn stale_uploads(&self, age_seconds: u64) -> Future<'_, Result<Vec<UploadId>, Error>> {
        let folder = layout::uploads(&self.shared.root);
        blocking(move || {
            let failed = |error| Error::new("list", &folder, error);
            let limit = SystemTime::now().checked_sub(Duration::from_secs(age_seconds));
            let mut stale = Vec::new();
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                    continue;
                };
                // A file that has gone meanwhile was committed.
                let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else {
                    continue;
                };
                if limit.is_some_and(|limit| modified < limit) {
                    stale.push(id);
                }
            }
            Ok(stale)
        })
    }

    fn put<'a>(&'a self, digest: &'a Digest, content: Bytes) -> Future<'a, Result<Stored, Error>> {
        let digest = *digest;
        let store = self.clone();
        let path = self.upload_path(UploadId::now_v7());
        blocking(move || put(&store, &path, &digest, &[content]))
    }

    fn restore<'a>(
        &'a self,
        digest: &'a Digest,
        content: Bytes,
    ) -> Future<'a, Result<Stored, Error>> {
        let digest = *digest;
        let store = self.clone();
        let path = self.upload_path(UploadId::now_v7());
        blocking(move || restore(&store, &path, &digest, content))
    }

    fn sync(&self) -> Future<'_, Result<(), Error>> {
        let store = self.clone();
        blocking(move || {
            let Some(placed) = &store.shared.placed else { return Ok(()) };
            placed.sync().map_err(|error| Error::new("sync", &store.shared.root, error))
        })
    }

    fn settle<'a>(&'a self, digest: &'a Digest) -> Future<'a, Result<(), Error>> {
        let folder = layout::blob(&self.shared.root, digest);
        blocking(move || {
            let data = folder.join("data");
            File::open(&data)
                .and_then(|file| file.sync_all())
                .map_err(|error| Error::new("sync", &data, error))?;
            sync_folders(&folder)
        })
    }

    fn size<'a>(
        &'a self,
        digest: &'a Digest,
        _location: Option<&'a str>,
    ) -> Future<'a, Result<Option<u64>, Error>> {
        let path = layout::data(&self.shared.root, digest);
        // One system call at most; cheaper here than on another thread.
        let size = match self.shared.open_files.size(digest, &path) {
            Ok(size) => Ok(Some(size)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(Error::new("look up", &path, error)),
        };
        Box::pin(std::future::ready(size))
    }

    fn open<'a>(
        &'a self,
        digest: &'a Digest,
        _location: Option<&'a str>,
        _size: u64,
    ) -> Future<'a, Result<Content, Error>> {
        let path = layout::data(&self.shared.root, digest);
        let opened = self.shared.open_files.open(digest, &path).map_err(|error| {
            let error = if is_absence(&error) { io::ErrorKind::NotFound.into() } else { error };
            Error::new("open", &path, error)
        });
        let content = opened.map(|file| Content::File(FileContent::new(file)));
        Box::pin(std::future::ready(content))
    }

    fn remove<'a>(
        &'a self,
        digest: &'a Digest,
        _location: Option<&'a str>,
    ) -> Future<'a, Result<bool, Error>> {
        let folder = layout::blob(&self.shared.root, digest);
        let (store, digest) = (self.clone(), *digest);
        blocking(move || {
            let data = folder.join("data");
            let removed = fs::remove_file(&data);
            // It keeps its space for as long as it is open.
            store.shared.open_files.forget(&digest);
            match removed {
                // What else is in the folder is not ours to remove.
                Ok(()) => drop(fs::remove_dir(&folder)),
                Err(error) if is_absence(&error) => return Ok(false),
                Err(error) => return Err(Error::new("remove", &data, error)),
            }
            Ok(true)
        })
    }

    fn list_shard(&self, shard: u8) -> Future<'_, Result<Vec<Digest>, Error>> {
        let folder = layout::shard(&self.shared.root, shard);
        blocking(move || {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if is_absence(&error) => return Ok(Vec::new()),
                Err(error) => return Err(Error::new("list", &folder, error)),
            };
            let mut digests = Vec::new();
            for entry in entries {
                let entry = entry.map_err(|error| Error::new("list", &folder, error))?;
                let name = entry.file_name();
                let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
                if let Some(digest) = digest
                    && entry.path().join("data").exists()
                {
                    digests.push(digest);
                }
            }
            digests.sort_unstable();
            Ok(digests)
        })
    }

    fn owner(&self) -> Future<'_, Result<Option<String>, Error>> {
        let path = layout::owner(&self.shared.root);
        blocking(move || match fs::read_to_string(&path) {
            Ok(id) => Ok(Some(id.trim().to_owned())),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(Error::new("read", &path, error)),
        })
    }

    fn set_owner<'a>(&'a self, id: &'a str) -> Future<'a, Result<(), Error>> {
        let path = layout::owner(&self.shared.root);
        let id = format!("{id}\n");
        blocking(move || {
            let failed = |error| Error::new("write", &path, error);
            // Several servers may start at once.
            let new = path.with_extension(format!("new-{}", UploadId::now_v7()));
            let mut file = File::create(&new).map_err(failed)?;
            file.write_all(id.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            fs::rename(&new, &path).map_err(failed)?;
            path.parent().map_or(Ok(()), sync_folder)
        })
    }

    fn links(&self) -> Option<&dyn crate::links::Links> {
        Some(self)
    }

    fn check_writable(&self) -> Future<'_, Result<(), Error>> {
        let path = self.upload_path(UploadId::now_v7());
        blocking(move || {
            let failed = |error| Error::new("write", &path, error);
            let mut file =
                OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
            let written = file.write_all(b"probe").map_err(failed);
            let removed = fs::remove_file(&path).map_err(failed);
            written.and(removed)
        })
    }
}

/// A file that is open for reading.
#[derive(Clone, Debug)]
pub struct FileContent {
    file: Arc<OpenFile>,
}

impl FileContent {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.file.size
    }

    pub(crate) fn new(file: Arc<OpenFile>) -> Self {
        Self { file }
    }

    /// A file that will have `size` bytes and is written to meanwhile.
    pub(crate) fn growing(file: File, size: u64) -> Self {
        Self { file: Arc::new(OpenFile::growing(file, size)) }
    }

    /// Writes to a file that grows.
    pub(crate) fn write(&self, data: &[Bytes], offset: u64) -> Result<(), Error> {
        let written = write_all_at(&self.file.file, data, offset);
        written.map_err(|error| Error::new("write", Path::new("a blob"), error))
    }

    pub(crate) fn map(&self, offset: u64, length: u64) -> Option<Bytes> {
        self.file.map(offset, length)
    }

    pub(crate) fn is_cached(&self, offset: u64, length: u64) -> bool {
        let last = offset + length.saturating_sub(1);
        let looks = (offset..last).step_by(Buffer::SIZE).chain([last]);
        looks.into_iter().all(|place| read_cached(&self.file.file, &mut [0], place) == Some(1))
    }

    /// Reads what is in memory, without waiting for the disk. `None` if that is nothing.
    pub(crate) fn read_cached(&self, offset: u64, limit: usize) -> Option<Bytes> {
        let mut buffer = Buffer::take();
        let read =
            read_cached(&self.file.file, buffer.room(limit), offset).filter(|read| *read > 0)?;
        buffer.advance(read);
        Some(buffer.freeze())
    }

    /// Reads on a thread that may wait for the disk.
    pub(crate) async fn read(&self, offset: u64, limit: usize) -> Result<Bytes, Error> {
        let failed = |error| Error::new("read", Path::new("a blob"), error);
        let file = Arc::clone(&self.file.file);
        let mut buffer = Buffer::take();
        let read = tokio::task::spawn_blocking(move || {
            let read = file.read_at(buffer.room(limit), offset)?;
            buffer.advance(read);
            Ok(buffer.freeze())
        });
        read.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)
    }
}

/// Reads what the page cache holds, without waiting for the disk. `None` if that is nothing, or
/// the file system can not tell.
fn read_cached(file: &File, space: &mut [u8], offset: u64) -> Option<usize> {
    let mut slices = [IoSliceMut::new(space)];
    rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT).ok()
}

/// An upload that is open for writing.
struct FileUpload {
    store: FileSystem,
    path: PathBuf,
    bytes: Held,
    length: u64,
}

/// Where the bytes of an upload are.
enum Held {
    /// There is no file yet. If it is not needed, so much the better.
    Memory(Vec<Bytes>),
    File(File),
}

impl Upload for FileUpload {
    fn append(
        mut self: Box<Self>,
        mut data: Vec<Bytes>,
    ) -> Future<'static, Result<Box<dyn Upload>, Error>> {
        let length = self.length + data.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        if let Held::Memory(held) = &mut self.bytes
            && length <= placed::SMALL
        {
            held.append(&mut data);
            self.length = length;
            return Box::pin(std::future::ready(Ok(self as Box<dyn Upload>)));
        }
        blocking(move || {
            let (path, before) = (self.path.clone(), self.length);
            let file = self.file()?;
            if let Err(error) = write_all_at(file, &data, before) {
                // Give back what a full disk took, if it can be given back.
                let _ = file.set_len(before);
                return Err(Error::new("write", &path, error));
            }
            self.length = length;
            Ok(self as Box<dyn Upload>)
        })
    }

    fn flush(mut self: Box<Self>) -> Future<'static, Result<Box<dyn Upload>, Error>> {
        if let Held::File(_) = self.bytes {
            return Box::pin(std::future::ready(Ok(self as Box<dyn Upload>)));
        }
        blocking(move || {
            self.file()?;
            Ok(self as Box<dyn Upload>)
        })
    }

    fn state(&self) -> String {
        self.store.shared.boot.clone()
    }

    fn discard(self: Box<Self>) -> Future<'static, Result<(), Error>> {
        blocking(move || remove_upload(&self.path))
    }

    fn commit(self: Box<Self>, digest: Digest) -> Future<'static, Result<Stored, Error>> {
        blocking(move || {
            let Self { store, path, bytes, length } = *self;
            let file = match bytes {
                Held::Memory(held) => return put(&store, &path, &digest, &held),
                Held::File(file) => file,
            };
            let failed = |error| Error::new("write", &path, error);
            // Bytes after the end are of a request that died before they were counted.
            if file.metadata().map_err(failed)?.len() > length {
                file.set_len(length).map_err(failed)?;
            }
            if let Ok(size) = usize::try_from(length)
                && takes(&store, length)
            {
                let mut content = vec![0; size];
                if let Err(error) = file.read_exact_at(&mut content, 0) {
                    return counted(&store, length, Err(failed(error)));
                }
                let placed = place(&store, &path, &file, &digest, content.into());
                return counted(&store, length, placed);
            }
            move_to_layout(&store, &path, &file, &digest)
        })
    }
}

impl FileUpload {
    /// The file, which is made now if there is none yet.
    fn file(&mut self) -> Result<&File, Error> {
        if let Held::Memory(held) = &self.bytes {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&self.path)
                .map_err(|error| Error::new("create", &self.path, error))?;
            if let Err(error) = write_all_at(&file, held, 0) {
                let _ = file.set_len(0);
                return Err(Error::new("write", &self.path, error));
            }
            self.bytes = Held::File(file);
        }
        match &self.bytes {
            Held::File(file) => Ok(file),
            Held::Memory(_) => Err(Error::new("create", &self.path, io::ErrorKind::Other.into())),
        }
    }
}

fn remove_upload(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Writes all of `data` at `offset`.
fn write_all_at(file: &File, data: &[Bytes], offset: u64) -> io::Result<()> {
    let parts = data.iter().filter(|part| !part.is_empty());
    let mut slices = parts.map(|part| IoSlice::new(part)).collect::<Vec<_>>();
    let mut rest = slices.as_mut_slice();
    let mut total = 0;
    while !rest.is_empty() {
        let written = rustix::io::pwritev(file, rest, offset + total)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        total += written as u64;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// Makes `content` the content of `digest`, by way of a new file at `path`.
fn put(
    store: &FileSystem,
    path: &Path,
    digest: &Digest,
    content: &[Bytes],
) -> Result<Stored, Error> {
    let length = content.iter().map(|bytes| bytes.len() as u64).sum();
    let small = takes(store, length).then(|| join(content));
    if let Some(content) = &small
        && holds(&layout::data(&store.shared.root, digest), content)
    {
        return Ok(Stored { unsynced: small, ..Stored::default() });
    }
    let failed = |error| Error::new("write", path, error);
    // One of a request that died may be there.
    let file = match File::create(path).map_err(failed) {
        Ok(file) => file,
        Err(error) if small.is_some() => return counted(store, length, Err(error)),
        Err(error) => return Err(error),
    };
    let written = write_all_at(&file, content, 0).map_err(failed);
    let stored = match small {
        Some(content) => {
            let placed = written.and_then(|()| place(store, path, &file, digest, content));
            counted(store, length, placed)
        }
        None => written.and_then(|()| move_to_layout(store, path, &file, digest)),
    };
    if stored.is_err() {
        let _ = fs::remove_file(path);
    }
    stored
}

/// Makes `content` the content of `digest`, whatever is there: a copy that is somewhere else
/// counts until the next sync.
fn restore(
    store: &FileSystem,
    path: &Path,
    digest: &Digest,
    content: Bytes,
) -> Result<Stored, Error> {
    let failed = |error| Error::new("write", path, error);
    let file = File::create(path).map_err(failed)?;
    let written = write_all_at(&file, std::slice::from_ref(&content), 0).map_err(failed);
    let restored = written.and_then(|()| {
        let length = content.len() as u64;
        if !takes(store, length) {
            return move_to_layout(store, path, &file, digest);
        }
        let moved = rename_to_layout(store, path, digest);
        let stored = moved.map(|_| Stored { unsynced: Some(content), ..Stored::default() });
        counted(store, length, stored)
    });
    if restored.is_err() {
        let _ = fs::remove_file(path);
    }
    restored
}

/// Whether content of this length can wait for its sync.
fn takes(store: &FileSystem, length: u64) -> bool {
    store.shared.placed.as_ref().is_some_and(|placed| placed.takes(length))
}

/// What became of content that was counted among those that wait: unless it does wait, it is not.
fn counted(
    store: &FileSystem,
    length: u64,
    stored: Result<Stored, Error>,
) -> Result<Stored, Error> {
    let waits = matches!(&stored, Ok(Stored { unsynced: Some(_), .. }));
    if let Some(placed) = &store.shared.placed
        && !waits
    {
        placed.give_back(length);
    }
    stored
}

/// Makes the written file `from` the content of `digest`, to be synced later.
fn place(
    store: &FileSystem,
    from: &Path,
    file: &File,
    digest: &Digest,
    content: Bytes,
) -> Result<Stored, Error> {
    let folder = layout::blob(&store.shared.root, digest);
    create_folder(&folder)?;
    let to = folder.join("data");
    // What is there may be on the disk already, and must not give way to what is not.
    match renameat_with(CWD, from, CWD, &to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST) if holds(&to, &content) => {
            fs::remove_file(from).map_err(|error| Error::new("remove", from, error))?;
        }
        Err(_) => return move_to_layout(store, from, file, digest),
    }
    Ok(Stored { unsynced: Some(content), ..Stored::default() })
}

/// Whether this is what the file holds. It is small.
fn holds(path: &Path, content: &[u8]) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let same_size = file.metadata().is_ok_and(|found| found.len() == content.len() as u64);
    let mut found = vec![0; content.len()];
    same_size && file.read_exact_at(&mut found, 0).is_ok() && found == content
}

fn join(parts: &[Bytes]) -> Bytes {
    match parts {
        [one] => one.clone(),
        parts => parts.concat().into(),
    }
}

/// Makes the written file `from` the content of `digest`, durably.
fn move_to_layout(
    store: &FileSystem,
    from: &Path,
    file: &File,
    digest: &Digest,
) -> Result<Stored, Error> {
    file.sync_data().map_err(|error| Error::new("sync", from, error))?;
    sync_folders(&rename_to_layout(store, from, digest)?)?;
    Ok(Stored::default())
}

/// Puts a file in the place of `digest`, whatever is there. Returns the folder that it is in.
fn rename_to_layout(store: &FileSystem, from: &Path, digest: &Digest) -> Result<PathBuf, Error> {
    let folder = layout::blob(&store.shared.root, digest);
    create_folder(&folder)?;
    let to = folder.join("data");
    fs::rename(from, &to).map_err(|error| Error::new("rename to", &to, error))?;
    store.shared.open_files.forget(digest);
    Ok(folder)
}

/// Makes the name of a blob's file durable, then that of its folder. Another upload may have made
/// the folder and not synced it yet, so both are needed whoever made it.
fn sync_folders(folder: &Path) -> Result<(), Error> {
    sync_folder(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

/// Makes the root. Its name is durable when the folders above it that are returned are synced.
fn create_root(root: &Path) -> Result<Vec<&Path>, Error> {
    let missing = root.ancestors().take_while(|folder| !folder.exists());
    let above = missing
        .filter_map(Path::parent)
        .map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    let above = above.collect();
    fs::create_dir_all(root).map_err(|error| Error::new("create", root, error))?;
    Ok(above)
}

/// Makes the folders of all shards and returns the one that they are in. They are made durable
/// beforehand, so that a commit need not ask whether somebody else has made its shard a moment ago
/// and not synced it yet.
fn create_shards(root: &Path) -> Result<PathBuf, Error> {
    for shard in 0..=u8::MAX {
        create_folder(&layout::shard(root, shard))?;
    }
    Ok(layout::shards(root))
}

/// Syncs several folders, and waits for the disk about as long as for one.
fn sync_at_once<'a>(folders: impl Iterator<Item = &'a Path>) -> Result<(), Error> {
    thread::scope(|scope| {
        let syncing = folders.map(|folder| scope.spawn(|| sync_folder(folder)));
        let syncing = syncing.collect::<Vec<_>>();
        syncing
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Makes a folder, and those above it, unless it is there.
fn create_folder(folder: &Path) -> Result<(), Error> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::create_dir_all(folder).map_err(|error| Error::new("create", folder, error)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::new("sync", folder, error))
}

/// Whether the error says that something is not there.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Runs what may wait for the disk on a thread that may wait.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Future<'static, Result<T, Error>> {
    let task = tokio::task::spawn_blocking(work);
    Box::pin(async move {
        task.await.unwrap_or_else(|error| {
            Err(Error::new("run", Path::new("a storage task"), io::Error::other(error)))
        })
    })
}
