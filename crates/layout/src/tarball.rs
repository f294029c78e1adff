//! A tar, of which the place of every member is known.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use oci::{Algorithm, Digest};
use tar::{Entry, EntryType};

use crate::files::{Section, join, leads_out};
use crate::metered::Metered;
use crate::{Error, blob_path, key};

/// Bytes that the headers of one member may take: names of any sensible length.
const MAX_HEADERS: u64 = 1 << 20;

/// Members beside the blobs of a layout, at most.
const MAX_OTHERS: usize = 1 << 20;

/// Bytes of a name, as file systems have it.
const MAX_NAME: usize = 4096;

/// Bytes of the names of those members.
const MAX_NAMES: usize = 256 << 20;

/// Links that may lead from one to the next.
const MAX_LINKS: usize = 8;

/// A tar, of which the place of every member is known.
#[derive(Debug)]
pub(crate) struct Tarball {
    file: Arc<File>,
    /// Where the members `blobs/sha256/…` are, and how long: there may be millions.
    blobs: HashMap<[u8; 32], (u64, u64)>,
    others: HashMap<String, Member>,
    /// Bytes of the names in `others`.
    names: usize,
}

#[derive(Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// To another member.
    Link(String),
    /// To a place that it may not lead to.
    Astray,
}

impl Tarball {
    /// Finds all members. Content is skipped, not read.
    pub(crate) fn scan(file: File) -> Result<Self, Error> {
        let failed = |error| Error::Io { action: "cannot read the tar".to_owned(), error };
        let length = file.metadata().map_err(failed)?.len();
        let mut tarball =
            Self { file: Arc::new(file), blobs: HashMap::new(), others: HashMap::new(), names: 0 };
        let file = Arc::clone(&tarball.file);
        let budget = Cell::new(MAX_HEADERS);
        let problem = "the headers of a file are too long";
        let mut archive = tar::Archive::new(Metered { inner: &*file, left: &budget, problem });
        let mut entries = archive.entries_with_seek().map_err(failed)?;
        let mut is_first = true;
        loop {
            budget.set(MAX_HEADERS);
            let entry = match entries.next() {
                Some(Ok(entry)) => entry,
                Some(Err(_)) if is_first => {
                    return Err(Error::NotImages { found: "a file that is no tar".to_owned() });
                }
                Some(Err(error)) => {
                    let problem = format!("{error} (was it cut short?)");
                    return Err(Error::Tar { problem });
                }
                None => return Ok(tarball),
            };
            is_first = false;
            tarball.add(&entry, length)?;
        }
    }

    fn add<R: Read>(&mut self, entry: &Entry<'_, R>, length: u64) -> Result<(), Error> {
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let target = entry.link_name_bytes().unwrap_or_default();
        let longest = raw.len().max(target.len());
        if longest > MAX_NAME {
            let problem = format!("a name of {longest} bytes, but at most {MAX_NAME} are read");
            return Err(Error::member(&raw, problem));
        }
        let kind = entry.header().entry_type();
        let member = match kind {
            EntryType::Regular | EntryType::Continuous => {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    let problem = "the tar ends in the middle of it: it was cut short";
                    return Err(Error::member(&raw, problem));
                }
                Member::File { offset, size }
            }
            EntryType::Symlink | EntryType::Link => link(entry, &raw),
            EntryType::GNUSparse => {
                let problem =
                    "a sparse file, which no image has: write the tar without sparse files";
                return Err(Error::member(&raw, problem));
            }
            // Folders need not be there; devices and pipes are nothing that an image has.
            _ => return Ok(()),
        };
        let path = join("", &raw).ok_or_else(|| leads_out(&raw))?;
        let is_new = match (member, blob_of(&path)) {
            (Member::File { offset, size }, Some(digest)) => {
                self.blobs.insert(key(&digest), (offset, size)).is_none()
                    && !self.others.contains_key(&path)
            }
            (member, blob) => {
                self.names += path.len() + target.len();
                let is_blob = blob.is_some_and(|digest| self.blobs.contains_key(&key(&digest)));
                self.others.insert(path, member).is_none() && !is_blob
            }
        };
        if !is_new {
            return Err(Error::member(&raw, "it is in the tar twice"));
        }
        if self.others.len() > MAX_OTHERS || self.names > MAX_NAMES {
            let problem = format!(
                "beside blobs it has more than {MAX_OTHERS} files, or more than {MAX_NAMES} bytes \
                 of their names"
            );
            return Err(Error::Tar { problem });
        }
        Ok(())
    }

    /// The member called `path`, which is plain; `None` if there is none.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Section>, Error> {
        let mut name = path;
        for _ in 0..=MAX_LINKS {
            let blob = blob_of(name).and_then(|digest| self.blobs.get(&key(&digest)));
            if let Some((offset, size)) = blob {
                return Ok(Some(Section::new(&self.file, *offset, *size)));
            }
            match self.others.get(name) {
                None => return Ok(None),
                Some(Member::File { offset, size }) => {
                    return Ok(Some(Section::new(&self.file, *offset, *size)));
                }
                Some(Member::Link(target)) => name = target,
                Some(Member::Astray) => return Err(leads_out(name)),
            }
        }
        Err(Error::member(path, "links lead from one to the next, and nowhere"))
    }
}

fn link<R: Read>(entry: &Entry<'_, R>, path: &str) -> Member {
    let target = entry.link_name_bytes().unwrap_or_default();
    let target = String::from_utf8_lossy(&target);
    // A symbolic link is seen from its own folder, a hard link from the top of the tar.
    let base = match entry.header().entry_type() {
        EntryType::Symlink => path.rsplit_once('/').map_or("", |(folder, _)| folder),
        _ => "",
    };
    join(base, &target).map_or(Member::Astray, Member::Link)
}

/// The digest of the blob that has this path in a layout, if its name is a sha256 digest.
fn blob_of(path: &str) -> Option<Digest> {
    let hex = path.strip_prefix("blobs/sha256/")?;
    let digest: Digest = format!("sha256:{hex}").parse().ok()?;
    debug_assert!(digest.algorithm() == Algorithm::Sha256 && blob_path(&digest) == path);
    Some(digest)
}
