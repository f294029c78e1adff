//! Writes an OCI image layout: a folder, or a tar.
//!
//! The same images give the same bytes. What is not finished has another name: a folder has no new
//! index, a tar is called `….partial`. Only one may write to a place at a time. Blobs that a folder has already are not written again.

mod folder;
mod list;
mod tar;

use std::path::{Path, PathBuf};

use oci::{Algorithm, Descriptor, Digest, Hasher};
use serde::Serialize;

use crate::{Error, blob_path};
use folder::Folder;
use list::List;
use tar::TarFile;

const INDEX_START: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#;
const INDEX_END: &str = "]}\n";

/// Where a layout is written to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A folder.
    Folder(PathBuf),
    /// A tar.
    Tar(PathBuf),
    /// A tar on standard output.
    Output,
}

impl Target {
    /// `-` is standard output, and a name that ends in `.tar` a tar.
    pub fn of(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Output
        } else if path.extension().is_some_and(|extension| extension == "tar") {
            Self::Tar(path.to_owned())
        } else {
            Self::Folder(path.to_owned())
        }
    }
}

/// An image of one platform, which a Docker without OCI layouts can load.
#[derive(Clone, Debug)]
pub struct RunnableImage {
    /// Its full name, with a tag.
    pub name: String,
    /// The digest of its configuration.
    pub config: Digest,
    /// The digests of its layers.
    pub layers: Vec<Digest>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Written {
    /// Blobs and manifests.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs and manifests that were there already.
    pub present: u64,
    /// Entries of the index.
    pub entries: u64,
}

/// Writes an OCI image layout. Everything here waits for the disk.
pub struct Writer {
    place: Place,
    /// The blob that is being written.
    open: Option<Open>,
    index: List,
    /// Docker's list; `None` where it makes no sense.
    docker: Option<List>,
    written: Written,
}

enum Place {
    Folder(Folder),
    Tar(TarFile),
}

struct Open {
    digest: Digest,
    size: u64,
    hasher: Hasher,
}

/// An image in the list of `docker save`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: [String; 1],
    layers: Vec<String>,
}

impl Writer {
    /// Begins a layout. `for_docker` says whether a tar shall have Docker's list, too: not if
    /// blobs are left out, without which Docker would break off.
    pub fn create(target: &Target, for_docker: bool) -> Result<Self, Error> {
        let place = match target {
            Target::Folder(path) => Place::Folder(Folder::create(path)?),
            Target::Tar(path) => Place::Tar(TarFile::create(path)?),
            Target::Output => Place::Tar(TarFile::output()?),
        };
        let is_tar = matches!(place, Place::Tar(_));
        let docker = (is_tar && for_docker).then(List::new).transpose()?;
        let written = Written::default();
        Ok(Self { place, open: None, index: List::new()?, docker, written })
    }

    /// Begins a blob; false if it is there already.
    pub fn begin(&mut self, digest: &Digest, size: u64) -> Result<bool, Error> {
        let path = blob_path(digest);
        let is_new = match &mut self.place {
            Place::Folder(folder) => folder.begin(&path, size)?,
            Place::Tar(tar) => tar.begin(digest, &path, size)?,
        };
        if is_new {
            let also = Some(digest.algorithm()).filter(|also| *also != Algorithm::Sha256);
            self.open = Some(Open { digest: *digest, size, hasher: Hasher::new(also) });
        } else {
            self.written.present += 1;
        }
        Ok(is_new)
    }

    /// Writes the next bytes of the blob that was begun.
    pub fn append(&mut self, part: &[u8]) -> Result<(), Error> {
        if let Some(open) = &mut self.open {
            open.hasher.update(part);
        }
        match &mut self.place {
            Place::Folder(folder) => folder.append(part),
            Place::Tar(tar) => tar.append(part),
        }
    }

    /// Ends the blob that was begun. With [`Error::Size`] or [`Error::Digest`] it is as if it had
    /// not been; with [`Error::Spoiled`] the layout is of no use any more.
    pub fn end(&mut self) -> Result<(), Error> {
        let Some(Open { digest, size, hasher }) = self.open.take() else { return Ok(()) };
        let hashed = hasher.finish();
        let wrong = match hashed.digest(digest.algorithm()) {
            _ if hashed.size != size => {
                Some(Error::Size { digest, expected: size, found: hashed.size })
            }
            Some(found) if found != digest => Some(Error::Digest { expected: digest, found }),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(match self.abandon() {
                Ok(()) => wrong,
                Err(error) => Error::Spoiled { wrong: Box::new(wrong), error: Box::new(error) },
            });
        }
        match &mut self.place {
            Place::Folder(folder) => folder.end()?,
            Place::Tar(tar) => tar.end(&digest)?,
        }
        self.written.blobs += 1;
        self.written.bytes += size;
        Ok(())
    }

    /// Takes back the blob that was begun. On standard output that can not be, and is an error.
    pub fn abandon(&mut self) -> Result<(), Error> {
        let open = self.open.take();
        let taken_back = match &mut self.place {
            Place::Folder(folder) => {
                folder.abandon();
                Ok(())
            }
            Place::Tar(tar) => tar.abandon(),
        };
        taken_back.map_err(|error| match open {
            Some(open) => {
                let wrong = Error::member(&open.digest.to_string(), "it was not read to its end");
                Error::Spoiled { wrong: Box::new(wrong), error: Box::new(error) }
            }
            None => error,
        })
    }

    /// Writes a whole blob; false if it is there already.
    pub fn put(&mut self, digest: &Digest, content: &[u8]) -> Result<bool, Error> {
        let is_new = self.begin(digest, content.len() as u64)?;
        if is_new {
            self.append(content)?;
            self.end()?;
        }
        Ok(is_new)
    }

    /// Adds an entry to the index.
    pub fn add(&mut self, entry: &Descriptor) -> Result<(), Error> {
        self.written.entries += 1;
        self.index.add(entry)
    }

    /// Adds an image to Docker's list.
    pub fn add_runnable(&mut self, image: RunnableImage) -> Result<(), Error> {
        let Some(docker) = &mut self.docker else { return Ok(()) };
        docker.add(&DockerImage {
            config: blob_path(&image.config),
            repo_tags: [image.name],
            layers: image.layers.iter().map(blob_path).collect(),
        })
    }

    /// Writes the index, and makes all of it durable. Before this there is no new layout.
    pub fn finish(mut self) -> Result<Written, Error> {
        let index = self.index.finish(INDEX_START, INDEX_END)?;
        let docker = self.docker.take().filter(|list| !list.is_empty());
        let docker = docker.map(|list| list.finish("[", "]\n")).transpose()?;
        match self.place {
            Place::Folder(folder) => folder.finish(index)?,
            Place::Tar(tar) => tar.finish(index, docker)?,
        }
        Ok(self.written)
    }
}
