//! One repository as its link files describe it, in batches, with everything odd about it.

use std::collections::{HashMap, HashSet};

use blobs::links::{BadLink, Link, LinkKind, LinkName, Links, Listing};
use blobs::{Blobs, ErrorKind};
use metadata::adoption::{FoundBlob, FoundManifest, FoundTag};
use metadata::blobs::Blob;
use metadata::manifests::ReferenceKind;
use oci::{Algorithm, Digest, MAX_MANIFEST_SIZE, RepositoryName, Tag};

use super::recognise;
use crate::Error;
use crate::pull::read_whole;

/// Links read at once.
const LINKS: usize = 1000;

/// Manifests read at once: they bring their references.
const MANIFESTS: usize = 100;

/// How the finding goes on that is about a link which is adopted all the same.
const ADOPTED_ALTHOUGH: &str = "adopted, although ";

/// A part of a repository.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) blobs: Vec<FoundBlob>,
    pub(super) manifests: Vec<FoundManifest>,
    pub(super) tags: Vec<FoundTag>,
    /// What is odd, a line each.
    pub(super) problems: Vec<String>,
}

impl Batch {
    pub(super) fn append(&mut self, mut other: Self) {
        self.blobs.append(&mut other.blobs);
        self.manifests.append(&mut other.manifests);
        self.tags.append(&mut other.tags);
        self.problems.append(&mut other.problems);
    }

    /// About how many rows it becomes.
    pub(super) fn weight(&self) -> usize {
        let references = self.manifests.iter().map(|found| found.manifest.references.len());
        let manifests = self.manifests.len() + references.sum::<usize>();
        self.blobs.len() + manifests + self.tags.len() + self.problems.len()
    }
}

/// What a repository has links for, however odd they are.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub(super) layers: HashSet<Digest>,
    pub(super) revisions: HashSet<Digest>,
    pub(super) tags: HashSet<Tag>,
}

/// Reads a repository: manifests, then blobs, then tags.
pub(super) struct RepositoryReader<'a> {
    blobs: &'a dyn Blobs,
    links: &'a dyn Links,
    name: &'a RepositoryName,
    /// Links that are not newer are left out, unless something newer needs them.
    since: Option<i64>,
    /// What earlier rounds have found in the repository, by the link that it is about. It counts
    /// for links that are not newer: content that they lead to may be deleted by now.
    earlier: HashMap<String, Vec<String>>,
    stage: Stage,
    present: Present,
    /// Manifests that were handed out.
    manifests: HashSet<Digest>,
    /// Blobs that the repository serves.
    served: HashSet<Digest>,
    /// Manifests that were too old.
    skipped: HashSet<Digest>,
    /// What each manifest names, until it is known what the repository serves.
    references: Vec<(Digest, Vec<(Digest, ReferenceKind)>)>,
}

enum Stage {
    Start,
    Revisions(std::vec::IntoIter<LinkName>),
    Layers(std::vec::IntoIter<LinkName>),
    References,
    Tags(std::vec::IntoIter<LinkName>),
    End,
}

impl<'a> RepositoryReader<'a> {
    pub(super) fn new(
        blobs: &'a dyn Blobs,
        links: &'a dyn Links,
        name: &'a RepositoryName,
        since: Option<i64>,
        earlier: Vec<String>,
    ) -> Self {
        let mut by_link = HashMap::<String, Vec<String>>::new();
        for problem in earlier {
            let link = problem.split_once(": ").map(|(link, _)| link.to_owned());
            let problems = by_link.entry(link.unwrap_or_default()).or_default();
            // A reading that was cut short has told it once more.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        Self {
            blobs,
            links,
            name,
            since,
            earlier: by_link,
            stage: Stage::Start,
            present: Present::default(),
            manifests: HashSet::new(),
            served: HashSet::new(),
            skipped: HashSet::new(),
            references: Vec::new(),
        }
    }

    /// The next part; nothing after the last one. An error says that a folder can not be read, so
    /// that nothing is known about what is in it.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, Error> {
        let mut batch = Batch::default();
        match &mut self.stage {
            Stage::Start => {
                let names = self.list(LinkKind::Revisions, &mut batch).await?;
                self.stage = Stage::Revisions(names);
            }
            Stage::Revisions(names) => {
                let names = names.take(MANIFESTS).collect::<Vec<_>>();
                if names.is_empty() {
                    let needed = self.needed_manifests();
                    self.stage = if needed.is_empty() {
                        Stage::Layers(self.list(LinkKind::Layers, &mut batch).await?)
                    } else {
                        Stage::Revisions(needed.into_iter())
                    };
                } else {
                    self.read_revisions(names, &mut batch).await?;
                }
            }
            Stage::Layers(names) => {
                let names = names.take(LINKS).collect::<Vec<_>>();
                if names.is_empty() {
                    self.stage = Stage::References;
                } else {
                    self.read_layers(names, &mut batch).await?;
                }
            }
            Stage::References => {
                self.check_references(&mut batch);
                self.stage = Stage::Tags(self.list(LinkKind::Tags, &mut batch).await?);
            }
            Stage::Tags(names) => {
                let names = names.take(LINKS).collect::<Vec<_>>();
                if names.is_empty() {
                    let mut skipped =
                        std::mem::take(&mut self.skipped).into_iter().collect::<Vec<_>>();
                    skipped.sort_unstable();
                    for digest in skipped {
                        self.repeat_earlier(&LinkName::Revision(digest), &mut batch);
                    }
                    self.stage = Stage::End;
                } else {
                    self.read_tags(names, &mut batch).await?;
                }
            }
            Stage::End => return Ok(None),
        }
        Ok(Some(batch))
    }

    /// What there are links for, after the last part.
    pub(super) fn into_present(self) -> Present {
        self.present
    }

    async fn list(
        &self,
        kind: LinkKind,
        batch: &mut Batch,
    ) -> Result<std::vec::IntoIter<LinkName>, Error> {
        let Listing { names, strange } = self.links.list(self.name, kind).await?;
        let strange = strange.into_iter().map(|path| format!("{path}: not part of the layout"));
        batch.problems.extend(strange);
        Ok(names.into_iter())
    }

    async fn read_revisions(
        &mut self,
        names: Vec<LinkName>,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        for link in self.links.read(self.name, names).await? {
            let LinkName::Revision(digest) = link.name else { continue };
            if link.target == Err(BadLink::Missing) {
                continue;
            }
            // The second time it is asked for by name.
            let asked = self.skipped.remove(&digest);
            self.present.revisions.insert(digest);
            if !asked && self.is_old(&link) {
                self.skipped.insert(digest);
                continue;
            }
            self.read_manifest(digest, &link, batch).await?;
        }
        Ok(())
    }

    /// Reads the manifest that a link leads to. What is wrong with it is written down.
    async fn read_manifest(
        &mut self,
        digest: Digest,
        link: &Link,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        match load_manifest(self.blobs, digest, link).await? {
            Ok((found, objection)) => {
                let objection =
                    objection.map(|why| format!("manifest {digest}: {ADOPTED_ALTHOUGH}{why}"));
                batch.problems.extend(objection);
                self.references.push((digest, found.manifest.references.clone()));
                self.manifests.insert(digest);
                batch.manifests.push(found);
            }
            Err(problem) => batch.problems.push(problem),
        }
        Ok(())
    }

    /// Manifests that were too old, but that newer ones list.
    fn needed_manifests(&self) -> Vec<LinkName> {
        if self.skipped.is_empty() {
            return Vec::new();
        }
        let named = self.references.iter().flat_map(|(_, references)| references);
        let mut needed = named
            .filter(|(digest, _)| self.skipped.contains(digest))
            .map(|(digest, _)| LinkName::Revision(*digest))
            .collect::<Vec<_>>();
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    async fn read_layers(&mut self, names: Vec<LinkName>, batch: &mut Batch) -> Result<(), Error> {
        let needed = self.since.map(|_| {
            let named = self.references.iter().flat_map(|(_, references)| references);
            named.map(|(digest, _)| *digest).collect::<HashSet<_>>()
        });
        for link in self.links.read(self.name, names).await? {
            let LinkName::Layer(digest) = link.name else { continue };
            if link.target == Err(BadLink::Missing) {
                continue;
            }
            self.present.layers.insert(digest);
            match resolve_layer(digest, &link) {
                Ok(found) => {
                    self.served.insert(digest);
                    self.served.insert(found.sha256);
                    if needed
                        .as_ref()
                        .is_none_or(|needed| !self.is_old(&link) || needed.contains(&digest))
                    {
                        batch.blobs.push(found);
                    } else {
                        self.repeat_earlier(&link.name, batch);
                    }
                }
                Err(_) if self.is_old(&link) => self.repeat_earlier(&link.name, batch),
                Err(problem) => batch.problems.push(problem),
            }
        }
        Ok(())
    }

    /// A manifest that names what is not there is served all the same, as registry:2 does.
    fn check_references(&mut self, batch: &mut Batch) {
        for (manifest, references) in std::mem::take(&mut self.references) {
            for (digest, kind) in references {
                let (what, there) = match kind {
                    ReferenceKind::Config => ("configuration", self.served.contains(&digest)),
                    ReferenceKind::Layer => ("layer", self.served.contains(&digest)),
                    ReferenceKind::ForeignLayer => continue,
                    ReferenceKind::Child => {
                        let there = self.manifests.contains(&digest);
                        ("manifest", there || self.skipped.contains(&digest))
                    }
                };
                if !there {
                    batch.problems.push(format!(
                        "manifest {manifest}: {ADOPTED_ALTHOUGH}its {what} {digest} is not in the \
                         repository"
                    ));
                }
            }
        }
    }

    async fn read_tags(&mut self, names: Vec<LinkName>, batch: &mut Batch) -> Result<(), Error> {
        for link in self.links.read(self.name, names).await? {
            let LinkName::Tag(tag) = link.name.clone() else { continue };
            self.present.tags.insert(tag.clone());
            let digest = match &link.target {
                Ok(digest) => *digest,
                Err(bad) => {
                    batch.problems.push(format!("tag {tag}: {}", describe(bad)));
                    continue;
                }
            };
            if self.is_old(&link) {
                self.repeat_earlier(&link.name, batch);
                continue;
            }
            if !self.manifests.contains(&digest) && !self.find_tagged(digest, batch).await? {
                batch.problems.push(dangling_tag(&tag, &digest));
                continue;
            }
            batch.tags.push(FoundTag { tag, digest, linked_at: link.modified });
        }
        Ok(())
    }

    /// Looks for a manifest that only a tag leads to: one that was too old, or one that
    /// registry 2.1.0 has put among the layers, where later ones still find it.
    async fn find_tagged(&mut self, digest: Digest, batch: &mut Batch) -> Result<bool, Error> {
        let name = if self.skipped.remove(&digest) {
            LinkName::Revision(digest)
        } else if self.served.contains(&digest) && !self.present.revisions.contains(&digest) {
            LinkName::Layer(digest)
        } else {
            return Ok(false);
        };
        for link in self.links.read(self.name, vec![name]).await? {
            self.read_manifest(digest, &link, batch).await?;
        }
        Ok(self.manifests.contains(&digest))
    }

    /// What was odd about a link that is not judged again is odd still.
    fn repeat_earlier(&mut self, name: &LinkName, batch: &mut Batch) {
        batch.problems.extend(self.earlier.remove(&describe_name(name)).unwrap_or_default());
    }

    fn is_old(&self, link: &Link) -> bool {
        self.since.is_some_and(|since| link.modified <= since)
    }
}

/// The links that were not adopted, as [`describe_name`] has them, by what was found in their
/// repository.
pub(crate) fn left_out(problems: &[String]) -> HashSet<&str> {
    let about = problems.iter().filter_map(|problem| problem.split_once(": "));
    about.filter(|(_, why)| !why.starts_with(ADOPTED_ALTHOUGH)).map(|(link, _)| link).collect()
}

/// What a link is called in findings, which then go on with `: ` and what is odd.
pub(crate) fn describe_name(name: &LinkName) -> String {
    match name {
        LinkName::Layer(digest) => format!("layer {digest}"),
        LinkName::Revision(digest) => format!("manifest {digest}"),
        LinkName::Tag(tag) | LinkName::TagIndex(tag, _) => format!("tag {tag}"),
    }
}

/// Reads a manifest and recognises it. Inside: what is wrong with it, or why we would not have
/// taken it.
async fn load_manifest(
    blobs: &dyn Blobs,
    digest: Digest,
    link: &Link,
) -> Result<Result<(FoundManifest, Option<String>), String>, Error> {
    let problem = |why: &str| Ok(Err(format!("manifest {digest}: {why}")));
    let sha256 = match &link.target {
        Ok(target) if target.algorithm() == Algorithm::Sha256 => *target,
        Ok(target) => {
            return problem(&format!("its link leads to {target}, not to sha256 content"));
        }
        Err(bad) => return problem(&describe(bad)),
    };
    let size = match link.size {
        None => return problem("its content is not in the store"),
        Some(size) if size > MAX_MANIFEST_SIZE as u64 => {
            return problem(&format!("{size} bytes are more than a manifest may have"));
        }
        Some(size) => size,
    };
    let blob = Blob { digest: sha256, size, location: None };
    let content = match read_whole(blobs, &blob).await {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return problem("its content is not in the store");
        }
        Err(error) => return problem(&error.to_string()),
    };
    let found = Digest::of(digest.algorithm(), &content);
    if found != digest {
        return problem(&format!("its content has the digest {found}"));
    }
    if sha256 != digest && Digest::sha256(&content) != sha256 {
        return problem(&format!("its content does not have the digest {sha256}"));
    }
    // A long one is work, and nothing above may have let others run.
    tokio::task::yield_now().await;
    match recognise(&content, digest) {
        Ok(recognised) => {
            let manifest = recognised.manifest;
            let found = FoundManifest { manifest, sha256, size, linked_at: link.modified };
            Ok(Ok((found, recognised.objection)))
        }
        Err(why) => problem(&format!("it is corrupt: {why}")),
    }
}

fn resolve_layer(digest: Digest, link: &Link) -> Result<FoundBlob, String> {
    let problem = |why: &str| Err(format!("layer {digest}: {why}"));
    let target = match &link.target {
        Ok(target) => *target,
        Err(bad) => return problem(&describe(bad)),
    };
    if target.algorithm() != Algorithm::Sha256
        || (digest.algorithm() == Algorithm::Sha256 && target != digest)
    {
        return problem(&format!("its link leads to {target}"));
    }
    match link.size {
        None => problem("its content is not in the store"),
        Some(size) => Ok(FoundBlob {
            sha256: target,
            sha512: Some(digest).filter(|digest| *digest != target),
            size,
            linked_at: link.modified,
        }),
    }
}

/// What is said of a tag whose manifest is not there.
pub(super) fn dangling_tag(tag: &Tag, digest: &Digest) -> String {
    format!("tag {tag}: the repository has no usable manifest {digest}, to which it points")
}

/// What is said of content that has the name of other content.
pub(super) fn ambiguous_sha512(sha512: &Digest) -> String {
    format!("layer {sha512}: other links say that it is other content")
}

fn describe(bad: &BadLink) -> String {
    match bad {
        BadLink::Missing => "its link is missing".to_owned(),
        BadLink::Empty => "its link is empty".to_owned(),
        BadLink::NotADigest(text) => format!("its link holds {text:?}, not a digest"),
        BadLink::Unreadable(why) => format!("its link can not be read: {why}"),
    }
}
