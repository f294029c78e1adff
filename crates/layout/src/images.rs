//! The images in a folder or a file, whichever form they have.

use std::ops::ControlFlow;
use std::path::Path;

use oci::{Descriptor, Digest, MAX_MANIFEST_SIZE};
use serde::Deserialize;

use crate::docker::Archive;
use crate::error::shorten;
use crate::files::{Files, Section};
use crate::name::Label;
use crate::tarball::Tarball;
use crate::{DOCKER_FILE, Error, INDEX_FILE, LAYOUT_FILE, blob_path, index, spool};

/// Bytes of the file `oci-layout`, at most.
const MAX_LAYOUT_FILE: u64 = 1 << 16;

/// The images in a folder or a file.
#[derive(Debug)]
pub struct Images {
    files: Files,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// An OCI image layout.
    Layout,
    Docker(Archive),
}

/// A manifest that the index of a layout, or an archive, begins with.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is called there, for messages.
    pub place: String,
    /// The manifest and its name, or what is wrong with them.
    pub found: Result<(Descriptor, Option<Label>), String>,
}

impl Entry {
    pub(crate) fn new(
        place: &str,
        descriptor: Descriptor,
        label: Result<Option<Label>, String>,
    ) -> Self {
        Self { place: shorten(place), found: label.map(|label| (descriptor, label)) }
    }

    pub(crate) fn bad(place: &str, problem: String) -> Self {
        Self { place: shorten(place), found: Err(problem) }
    }
}

impl Images {
    /// Opens an OCI image layout (folder or tar) or an archive of `docker save`; `-` is standard
    /// input. A tar may be compressed by gzip: it, and what can not be read twice, is unpacked into
    /// a file without a name in the folder `spool`.
    ///
    /// Reads the names in a tar, and of Docker's archives the configurations. Waits for the disk.
    pub fn open(path: &Path, spool: &Path) -> Result<Self, Error> {
        let files = if path.is_dir() {
            Files::of_folder(path)?
        } else {
            Files::Tar(Tarball::scan(spool::open(path, spool)?)?)
        };
        if let Some(layout) = files.read(LAYOUT_FILE, MAX_LAYOUT_FILE)? {
            check_version(&layout)?;
            if files.find(INDEX_FILE)?.is_none() {
                let problem = "the layout has no index: it was not written to its end";
                return Err(Error::member(INDEX_FILE, problem));
            }
            return Ok(Self { files, form: Form::Layout });
        }
        if files.find(DOCKER_FILE)?.is_some() {
            let archive = Archive::read(&files)?;
            return Ok(Self { files, form: Form::Docker(archive) });
        }
        Err(Error::NotImages { found: describe(&files)? })
    }

    /// The form that they have, in words.
    pub fn form(&self) -> &'static str {
        match (&self.form, &self.files) {
            (Form::Layout, Files::Folder(_)) => "OCI image layout",
            (Form::Layout, Files::Tar(_)) => "OCI image layout in a tar",
            (Form::Docker(_), _) => "archive of docker save",
        }
    }

    /// Hands each entry to `take`, in order, until that breaks off. Waits for the disk.
    pub fn each_entry(&self, mut take: impl FnMut(Entry) -> ControlFlow<()>) -> Result<(), Error> {
        match &self.form {
            Form::Docker(archive) => {
                let _ = archive.entries.iter().cloned().try_for_each(take);
                Ok(())
            }
            Form::Layout => {
                let index = self.files.find(INDEX_FILE)?;
                let index = index.ok_or_else(|| Error::member(INDEX_FILE, "it is gone"))?;
                index::read(&index, &mut take)
            }
        }
    }

    /// The content called `digest`, which nobody has compared with it; `None` if it is not here.
    pub fn content(&self, digest: &Digest) -> Result<Option<Content>, Error> {
        if let Form::Docker(archive) = &self.form {
            if let Some(manifest) = archive.manifest(digest) {
                return Ok(Some(Content::Document(manifest.to_vec())));
            }
            return Ok(archive.blob(digest).map(Content::Section));
        }
        Ok(self.files.find(&blob_path(digest))?.map(Content::Section))
    }

    /// The manifest that `descriptor` describes, compared with its digest and size; `None` if it is
    /// not here.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>, Error> {
        let digest = descriptor.digest;
        is_short(&digest, descriptor.size)?;
        let Some(content) = self.content(&digest)? else { return Ok(None) };
        let (expected, size) = (descriptor.size, content.size());
        if expected != size {
            return Err(Error::Size { digest, expected, found: size });
        }
        let content = match content {
            Content::Document(content) => content,
            Content::Section(section) => section.read_whole()?,
        };
        let found = Digest::of(digest.algorithm(), &content);
        if found == digest {
            Ok(Some(content))
        } else {
            Err(Error::Digest { expected: digest, found })
        }
    }
}

/// Content of a layout or an archive.
#[derive(Clone, Debug)]
pub enum Content {
    /// In a file.
    Section(Section),
    /// In memory: it is short.
    Document(Vec<u8>),
}

impl Content {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Section(section) => section.size(),
            Self::Document(content) => content.len() as u64,
        }
    }

    /// Reads from `offset`; 0 at the end. It may wait for the disk.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Section(section) => section.read_at(offset, buffer),
            Self::Document(content) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = content.get(offset..).unwrap_or_default();
                let length = rest.len().min(buffer.len());
                let rest = rest.get(..length).unwrap_or_default();
                if let Some(buffer) = buffer.get_mut(..length) {
                    buffer.copy_from_slice(rest);
                }
                Ok(length)
            }
        }
    }
}

/// Refuses manifests that a registry does not take.
pub(crate) fn is_short(digest: &Digest, size: u64) -> Result<(), Error> {
    if size > MAX_MANIFEST_SIZE as u64 {
        return Err(Error::TooLarge { digest: *digest, size });
    }
    Ok(())
}

fn check_version(content: &[u8]) -> Result<(), Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let problem = match serde_json::from_slice::<Layout>(content) {
        Ok(layout) if layout.image_layout_version.starts_with("1.") => return Ok(()),
        Ok(layout) => {
            format!("expected the version 1, found {:?}", shorten(&layout.image_layout_version))
        }
        Err(error) => format!("expected the version of the layout, found {error}"),
    };
    Err(Error::member(LAYOUT_FILE, problem))
}

/// What files are that are no images.
fn describe(files: &Files) -> Result<String, Error> {
    if files.find(INDEX_FILE)?.is_some() {
        return Ok("an index.json without the file oci-layout beside it".to_owned());
    }
    if files.find("repositories")?.is_some() {
        return Ok(
            "an archive of a Docker before 1.10: load it into a current Docker and save it \
                   again"
                .to_owned(),
        );
    }
    Ok(match files {
        Files::Folder(_) => "a folder with none of these files".to_owned(),
        Files::Tar(_) => "a tar with none of these files at its top".to_owned(),
    })
}
