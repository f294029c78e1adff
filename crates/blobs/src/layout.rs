//! Where things lie below a store's root.
//!
//! Content lies where the CNCF distribution registry keeps it, so that either can use what the
//! other left: `docker/registry/v2/blobs/sha256/<2 hex>/<64 hex>/data`. What is Orlop's own lies
//! under `orlop/`.

use std::path::{Path, PathBuf};

use oci::{Digest, RepositoryName};

use crate::links::LinkName;

/// The key of one blob's content, where a store has keys and no folders.
pub(crate) fn data_key(digest: &Digest) -> String {
    data(Path::new(""), digest).to_string_lossy().into_owned()
}

/// What the keys of one of the 256 shards begin with.
pub(crate) fn shard_key(shard: u8) -> String {
    format!("{}/", self::shard(Path::new(""), shard).to_string_lossy())
}

/// What the keys of the links of all repositories begin with.
pub(crate) fn repositories_key() -> String {
    format!("{}/", repositories(Path::new("")).to_string_lossy())
}

/// What the keys of one repository's links begin with.
pub(crate) fn repository_key(name: &RepositoryName) -> String {
    format!("{}/", repository(Path::new(""), name).to_string_lossy())
}

/// The key of one link.
pub(crate) fn link_key(repository: &RepositoryName, name: &LinkName) -> String {
    link(Path::new(""), repository, name).to_string_lossy().into_owned()
}

/// The folder of all content.
pub(crate) fn blobs(root: &Path) -> PathBuf {
    root.join("docker/registry/v2/blobs")
}

/// The folder of all shards of sha256 content.
pub(crate) fn shards(root: &Path) -> PathBuf {
    blobs(root).join("sha256")
}

/// The folder of one of the 256 shards.
pub(crate) fn shard(root: &Path, shard: u8) -> PathBuf {
    shards(root).join(format!("{shard:02x}"))
}

/// The folder of one blob.
pub(crate) fn blob(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    let (prefix, _) = hex.split_at_checked(2).unwrap_or((&hex, ""));
    // All at once: a pull of a small blob would notice each time that it has to grow.
    let mut path = PathBuf::with_capacity(root.as_os_str().len() + hex.len() + 50);
    path.push(root);
    path.extend(["docker/registry/v2/blobs", digest.algorithm().as_str(), prefix, &hex]);
    path
}

/// The file of one blob.
pub(crate) fn data(root: &Path, digest: &Digest) -> PathBuf {
    let mut path = blob(root, digest);
    path.push("data");
    path
}

/// The folder in which distribution keeps the links of all repositories.
pub(crate) fn repositories(root: &Path) -> PathBuf {
    root.join("docker/registry/v2/repositories")
}

/// The folder of one repository's links.
pub(crate) fn repository(root: &Path, name: &RepositoryName) -> PathBuf {
    repositories(root).join(name.as_str())
}

/// The file of one link.
pub(crate) fn link(root: &Path, repository: &RepositoryName, name: &LinkName) -> PathBuf {
    let mut path = self::repository(root, repository);
    let digest = match name {
        LinkName::Layer(digest) => {
            path.push("_layers");
            digest
        }
        LinkName::Revision(digest) => {
            path.push("_manifests/revisions");
            digest
        }
        LinkName::Tag(tag) => {
            path.extend(["_manifests/tags", tag.as_str(), "current/link"]);
            return path;
        }
        LinkName::TagIndex(tag, digest) => {
            path.extend(["_manifests/tags", tag.as_str(), "index"]);
            digest
        }
    };
    path.extend([digest.algorithm().as_str(), &digest.hex(), "link"]);
    path
}

/// The folder of uploads in progress.
pub(crate) fn uploads(root: &Path) -> PathBuf {
    root.join("orlop/uploads")
}

/// The file that says which database the store belongs to.
pub(crate) fn owner(root: &Path) -> PathBuf {
    root.join("orlop/owner")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_lie_where_distribution_keeps_them() {
        let digest = Digest::sha256(b"");
        assert_eq!(
            data(Path::new("/var/lib/registry"), &digest),
            Path::new(
                "/var/lib/registry/docker/registry/v2/blobs/sha256/e3/\
                 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/data"
            )
        );
    }
}
