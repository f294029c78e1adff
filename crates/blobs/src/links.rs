//! The link files of the CNCF distribution registry: small files beside the content that say
//! which repository serves what, and which tag points where.
//!
//! Orlop keeps these facts in its database. It reads links to take over a store and writes them to
//! hand one back; no request is answered from them.

use oci::{Digest, RepositoryName, Tag};

use crate::{Error, Future};

/// A place that can hold links.
pub trait Links: Send + Sync {
    /// Whether there are repositories of the distribution registry at all.
    fn any(&self) -> Future<'_, Result<bool, Error>>;

    /// Whether `repository` has links, or had some.
    fn has<'a>(&'a self, repository: &'a RepositoryName) -> Future<'a, Result<bool, Error>>;

    /// Every repository that has a folder, in no order, and what else lies among them.
    fn repositories(&self) -> Future<'_, Result<Repositories, Error>>;

    /// The links of one kind in `repository`, in order; nothing if it has no folder.
    fn list<'a>(
        &'a self,
        repository: &'a RepositoryName,
        kind: LinkKind,
    ) -> Future<'a, Result<Listing, Error>>;

    /// Reads links, in the order of `names`. What is wrong with one is told in its place.
    fn read<'a>(
        &'a self,
        repository: &'a RepositoryName,
        names: Vec<LinkName>,
    ) -> Future<'a, Result<Vec<Link>, Error>>;

    /// Writes links, each in one step: a reader sees the old one or the new one. They survive the
    /// loss of power after [`Links::settle_links`].
    fn write<'a>(
        &'a self,
        repository: &'a RepositoryName,
        links: Vec<(LinkName, Digest)>,
    ) -> Future<'a, Result<(), Error>>;

    /// Removes links, and with a tag also its history. No error if they are not there.
    fn remove<'a>(
        &'a self,
        repository: &'a RepositoryName,
        names: Vec<LinkName>,
    ) -> Future<'a, Result<(), Error>>;

    /// Makes all that was written and removed durable.
    fn settle_links(&self) -> Future<'_, Result<(), Error>>;
}

/// What a link is called.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LinkName {
    /// The repository serves this blob: `_layers/<alg>/<hex>/link`.
    Layer(Digest),
    /// The repository has this manifest: `_manifests/revisions/<alg>/<hex>/link`.
    Revision(Digest),
    /// Where a tag points: `_manifests/tags/<tag>/current/link`.
    Tag(Tag),
    /// Where a tag points or once did: `_manifests/tags/<tag>/index/<alg>/<hex>/link`.
    TagIndex(Tag, Digest),
}

/// The kinds of links that can be listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkKind {
    /// Blobs.
    Layers,
    /// Manifests.
    Revisions,
    /// Tags.
    Tags,
}

/// A link that was read.
#[derive(Clone, Debug)]
pub struct Link {
    /// What it is called.
    pub name: LinkName,
    /// What it leads to.
    pub target: Result<Digest, BadLink>,
    /// Bytes of the content that it leads to; `None` if that is not there.
    pub size: Option<u64>,
    /// When it was written, in microseconds since the Unix epoch; 0 if that is not known.
    pub modified: i64,
}

/// Why a link leads nowhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadLink {
    /// Its folder is there, but no link in it. For blobs and manifests that is what a delete
    /// leaves.
    Missing,
    /// It has no bytes.
    Empty,
    /// It holds something else.
    NotADigest(String),
    /// It can not be read.
    Unreadable(String),
}

/// What [`Links::list`] found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The links, in order.
    pub names: Vec<LinkName>,
    /// What does not belong there: its path below the repository's folder.
    pub strange: Vec<String>,
}

/// What [`Links::repositories`] found.
#[derive(Debug, Default)]
pub struct Repositories {
    /// The repositories.
    pub found: Vec<RepositoryFolder>,
    /// What does not belong there: its path below the folder of all repositories, and why.
    pub strange: Vec<String>,
    /// Folders that can not be read now: there may be repositories in them.
    pub unreadable: Vec<Error>,
}

/// A repository that has a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RepositoryFolder {
    /// Its name.
    pub name: RepositoryName,
    /// Whether it has a manifest.
    pub has_manifest: bool,
    /// Uploads in progress.
    pub uploads: u64,
}
