//! Links as files (see [`Links`]).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use oci::{Digest, RepositoryName, Tag};
use rustix::fs::OFlags;

use super::{FileSystem, blocking, is_absence};
use crate::links::{BadLink, Link, LinkKind, LinkName, Links, Listing};
use crate::links::{Repositories, RepositoryFolder};
use crate::{Error, Future, layout};

/// A link has 71 or 135 bytes.
const MAX_LINK: u64 = 1024;

/// The folders of a repository that are no part of a name.
const RESERVED: [&str; 3] = ["_layers", "_manifests", "_uploads"];

impl Links for FileSystem {
    fn any(&self) -> Future<'_, Result<bool, Error>> {
        let folder = layout::repositories(&self.shared.root);
        blocking(move || {
            expect_folder(&folder)?;
            Ok(!entries(&folder)?.is_empty())
        })
    }

    fn has<'a>(&'a self, repository: &'a RepositoryName) -> Future<'a, Result<bool, Error>> {
        let folder = layout::repository(&self.shared.root, repository);
        blocking(move || {
            for part in ["_layers", "_manifests"] {
                match fs::metadata(folder.join(part)) {
                    Ok(_) => return Ok(true),
                    // A name may be longer than the file system takes.
                    Err(error) if is_absence(&error) || is_too_long(&error) => {}
                    Err(error) => return Err(Error::new("look up", &folder, error)),
                }
            }
            Ok(false)
        })
    }

    fn repositories(&self) -> Future<'_, Result<Repositories, Error>> {
        let folder = layout::repositories(&self.shared.root);
        blocking(move || {
            expect_folder(&folder)?;
            let mut walk = Repositories::default();
            walk_repositories(&folder, &mut walk);
            Ok(walk)
        })
    }

    fn list<'a>(
        &'a self,
        repository: &'a RepositoryName,
        kind: LinkKind,
    ) -> Future<'a, Result<Listing, Error>> {
        let folder = layout::repository(&self.shared.root, repository);
        blocking(move || {
            let mut listing = Listing::default();
            match kind {
                LinkKind::Layers => {
                    list_digests(&folder, "_layers", LinkName::Layer, &mut listing)?;
                }
                LinkKind::Revisions => {
                    const PARTS: [&str; 2] = ["revisions", "tags"];
                    for entry in entries(&folder.join("_manifests"))? {
                        if !PARTS.contains(&entry.name.as_str()) {
                            listing.strange.push(format!("_manifests/{}", entry.name));
                        }
                    }
                    let revisions = "_manifests/revisions";
                    list_digests(&folder, revisions, LinkName::Revision, &mut listing)?;
                }
                LinkKind::Tags => list_tags(&folder, &mut listing)?,
            }
            listing.names.sort_unstable();
            Ok(listing)
        })
    }

    fn read<'a>(
        &'a self,
        repository: &'a RepositoryName,
        names: Vec<LinkName>,
    ) -> Future<'a, Result<Vec<Link>, Error>> {
        let store = self.clone();
        let repository = repository.clone();
        blocking(move || {
            let root = &store.shared.root;
            let read = names.into_iter().map(|name| read_link(root, &repository, name));
            Ok(read.collect())
        })
    }

    fn write<'a>(
        &'a self,
        repository: &'a RepositoryName,
        links: Vec<(LinkName, Digest)>,
    ) -> Future<'a, Result<(), Error>> {
        let store = self.clone();
        let repository = repository.clone();
        blocking(move || {
            for (name, target) in links {
                let path = layout::link(&store.shared.root, &repository, &name);
                write_link(&path, &target).map_err(|error| Error::new("write", &path, error))?;
            }
            Ok(())
        })
    }

    fn remove<'a>(
        &'a self,
        repository: &'a RepositoryName,
        names: Vec<LinkName>,
    ) -> Future<'a, Result<(), Error>> {
        let store = self.clone();
        let repository = repository.clone();
        blocking(move || {
            for name in names {
                let path = layout::link(&store.shared.root, &repository, &name);
                let removed = match name {
                    LinkName::Tag(_) => {
                        let tag = path.ancestors().nth(2).unwrap_or(&path);
                        fs::remove_dir_all(tag)
                    }
                    _ => fs::remove_file(&path).map(|()| {
                        // Not if something else is in it.
                        let _ = path.parent().map(fs::remove_dir);
                    }),
                };
                match removed {
                    Err(error) if !is_absence(&error) => {
                        return Err(Error::new("remove", &path, error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
    }

    fn settle_links(&self) -> Future<'_, Result<(), Error>> {
        let folder = layout::repositories(&self.shared.root);
        blocking(move || {
            let failed = |error: io::Error| Error::new("sync", &folder, error);
            // One call for all files, however many there are.
            match File::open(&folder) {
                Ok(file) => rustix::fs::syncfs(&file).map_err(|error| failed(error.into())),
                Err(error) if is_absence(&error) => Ok(()),
                Err(error) => Err(failed(error)),
            }
        })
    }
}

/// Something in a folder.
struct Entry {
    name: String,
    is_folder: bool,
}

/// What is in a folder; nothing if it does not exist. Names that are not UTF-8, which nothing of
/// the layout has, come with replacement characters.
fn entries(folder: &Path) -> Result<Vec<Entry>, Error> {
    let failed = |error| Error::new("list", folder, error);
    let read = match fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if is_absence(&error) || is_too_long(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    read.map(|entry| {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        Ok(Entry { name: entry.file_name().to_string_lossy().into_owned(), is_folder })
    })
    .collect()
}

/// Nothing need be there, but nothing else than a folder: a store that can not be read must not be
/// taken for an empty one.
fn expect_folder(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => {
            Err(Error::new("list", path, io::ErrorKind::NotADirectory.into()))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::new("list", path, error))
        }
        _ => Ok(()),
    }
}

fn walk_repositories(root: &Path, walk: &mut Repositories) {
    let mut names = vec![String::new()];
    while let Some(name) = names.pop() {
        let folder = root.join(&name);
        let inside = |entry: &str| match name.as_str() {
            "" => entry.to_owned(),
            name => format!("{name}/{entry}"),
        };
        let mut is_repository = false;
        let before = names.len();
        let entries = match entries(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                walk.unreadable.push(error);
                continue;
            }
        };
        for entry in entries {
            if name.is_empty() && entry.name.starts_with('_') {
                walk.strange.push(format!("{}: it is not in a repository", entry.name));
            } else if RESERVED.contains(&entry.name.as_str()) && entry.is_folder {
                is_repository = true;
            } else if entry.name.starts_with('_') || !entry.is_folder {
                walk.strange.push(format!("{}: it is not part of the layout", inside(&entry.name)));
            } else {
                names.push(inside(&entry.name));
            }
        }
        if !is_repository && names.len() == before && !name.is_empty() {
            walk.strange.push(format!("{name}: the folder is empty"));
        }
        if is_repository {
            match name.parse::<RepositoryName>() {
                Ok(name) => walk.found.push(look_into(name, &folder)),
                Err(error) => walk.strange.push(format!("{name}: {error}")),
            }
        }
    }
}

/// What can not be read of a repository is found out when its links are.
fn look_into(name: RepositoryName, folder: &Path) -> RepositoryFolder {
    let uploads = entries(&folder.join("_uploads")).map_or(0, |uploads| uploads.len() as u64);
    RepositoryFolder { name, has_manifest: has_manifest(folder).unwrap_or(true), uploads }
}

/// Whether a repository has the link of a manifest.
fn has_manifest(repository: &Path) -> Result<bool, Error> {
    let revisions = repository.join("_manifests/revisions");
    for algorithm in ["sha256", "sha512"] {
        let folder = revisions.join(algorithm);
        let has_link = |entry: &Entry| folder.join(&entry.name).join("link").exists();
        if entries(&folder)?.iter().any(has_link) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn list_digests(
    repository: &Path,
    part: &str,
    name: fn(Digest) -> LinkName,
    listing: &mut Listing,
) -> Result<(), Error> {
    for algorithm in entries(&repository.join(part))? {
        let folder = format!("{part}/{}", algorithm.name);
        if !algorithm.is_folder || !["sha256", "sha512"].contains(&algorithm.name.as_str()) {
            listing.strange.push(folder);
            continue;
        }
        for entry in entries(&repository.join(&folder))? {
            match format!("{}:{}", algorithm.name, entry.name).parse() {
                Ok(digest) if entry.is_folder => listing.names.push(name(digest)),
                _ => listing.strange.push(format!("{folder}/{}", entry.name)),
            }
        }
    }
    Ok(())
}

fn list_tags(repository: &Path, listing: &mut Listing) -> Result<(), Error> {
    for entry in entries(&repository.join("_manifests/tags"))? {
        match entry.name.parse::<Tag>() {
            Ok(tag) if entry.is_folder => listing.names.push(LinkName::Tag(tag)),
            _ => listing.strange.push(format!("_manifests/tags/{}", entry.name)),
        }
    }
    Ok(())
}

fn read_link(root: &Path, repository: &RepositoryName, name: LinkName) -> Link {
    let path = layout::link(root, repository, &name);
    let (target, modified) = match read_file(&path) {
        Ok((text, modified)) if text.is_empty() => (Err(BadLink::Empty), modified),
        Ok((text, modified)) => {
            let not_a_digest = |_| BadLink::NotADigest(text.chars().take(80).collect());
            (text.parse::<Digest>().map_err(not_a_digest), modified)
        }
        Err(error) if is_absence(&error) => (Err(BadLink::Missing), 0),
        Err(error) => (Err(BadLink::Unreadable(error.to_string())), 0),
    };
    let size = target.as_ref().ok().and_then(|digest| {
        let data = fs::metadata(layout::data(root, digest)).ok()?;
        data.is_file().then_some(data.len())
    });
    Link { name, target, size, modified }
}

fn read_file(path: &Path) -> io::Result<(String, i64)> {
    // A pipe would keep whoever opens it waiting, and another file is none of the registry's.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let modified = metadata.mtime().saturating_mul(1_000_000) + metadata.mtime_nsec() / 1000;
    let mut bytes = Vec::with_capacity(136);
    file.take(MAX_LINK).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), modified))
}

fn write_link(path: &Path, target: &Digest) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let new = path.with_added_extension("tmp");
    let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new);
    let mut file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
            open()?
        }
        opened => opened?,
    };
    file.write_all(target.to_string().as_bytes())?;
    fs::rename(&new, path)
}

fn is_too_long(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidFilename
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), kind, mode, 0).unwrap();
        assert_eq!(read_file(&path("file")).unwrap().0, "text");
        for odd in ["link", "pipe", ""] {
            assert!(read_file(&path(odd)).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_file_in_place_of_the_repositories_is_no_empty_store() {
        let folder = tempfile::tempdir().unwrap();
        assert!(expect_folder(&folder.path().join("none")).is_ok());
        assert!(expect_folder(folder.path()).is_ok());
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(expect_folder(&folder.path().join("file")).is_err());
        assert!(expect_folder(&folder.path().join("file/below")).is_err());
    }

    #[test]
    fn links_lie_where_distribution_keeps_them() {
        let name: RepositoryName = "team/app".parse().unwrap();
        let digest = Digest::sha256(b"");
        let hex = digest.hex();
        let tag: Tag = "v1".parse().unwrap();
        let below = |name_of: &LinkName| -> PathBuf {
            let path = layout::link(Path::new("/r"), &name, name_of);
            path.strip_prefix("/r/docker/registry/v2/repositories/team/app").unwrap().to_owned()
        };
        assert_eq!(
            below(&LinkName::Layer(digest)),
            Path::new(&format!("_layers/sha256/{hex}/link"))
        );
        assert_eq!(
            below(&LinkName::Revision(digest)),
            Path::new(&format!("_manifests/revisions/sha256/{hex}/link"))
        );
        assert_eq!(
            below(&LinkName::Tag(tag.clone())),
            Path::new("_manifests/tags/v1/current/link")
        );
        assert_eq!(
            below(&LinkName::TagIndex(tag, digest)),
            Path::new(&format!("_manifests/tags/v1/index/sha256/{hex}/link"))
        );
    }
}
