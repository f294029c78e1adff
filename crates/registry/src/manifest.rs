//! Manifest push: bytes are stored, then everything about them changes in one transaction.

use std::collections::HashSet;

use bytes::Bytes;
use metadata::manifests::{self, NewManifest, ReferenceKind};
use metadata::{Durability, Lock, Tx, repositories, tags};
use oci::{Digest, Manifest, Reference, RepositoryName, Tag};

use crate::rules::{Class, Config, check_class};
use crate::{Error, Registry, clock};

/// A manifest that a client pushes.
#[derive(Clone, Debug)]
pub struct ManifestPush {
    /// Where to.
    pub repository: RepositoryName,
    /// The tag or digest that the client puts it under.
    pub reference: Reference,
    /// Further tags that shall point to it.
    pub tags: Vec<Tag>,
    /// The content type that the client gave.
    pub content_type: Option<String>,
    /// The manifest, kept byte for byte.
    pub content: Bytes,
    /// What must be true now of every tag that it would set; of `reference`, if it would set none.
    pub preconditions: Vec<Precondition>,
    /// The classes of content that the client may push there, where the configuration looks at
    /// classes at all.
    pub classes: Vec<Class>,
}

/// A condition on what a reference leads to before the push ("compare and set").
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Precondition {
    /// There is a manifest, whichever.
    Exists,
    /// There is no manifest.
    Absent,
    /// The manifest is one of these.
    OneOf(Vec<Digest>),
    /// The manifest is none of these (or there is none).
    NoneOf(Vec<Digest>),
}

impl Precondition {
    fn holds(&self, current: Option<&Digest>) -> bool {
        match (self, current) {
            (Self::Exists, Some(_)) | (Self::Absent | Self::NoneOf(_), None) => true,
            (Self::Exists | Self::OneOf(_), None) | (Self::Absent, Some(_)) => false,
            (Self::OneOf(digests), Some(current)) => digests.contains(current),
            (Self::NoneOf(digests), Some(current)) => !digests.contains(current),
        }
    }
}

/// A manifest that was accepted.
#[derive(Clone, Debug)]
pub struct PushedManifest {
    /// The digest that it goes by.
    pub digest: Digest,
    /// The manifest that it says something about.
    pub subject: Option<Digest>,
    /// The tags that point to it now because of this push.
    pub tags: Vec<Tag>,
}

/// All that the transaction needs to know.
struct Accepted {
    push: ManifestPush,
    manifest: NewManifest,
    /// What must be in the repository, each once.
    required: Vec<(Digest, ReferenceKind)>,
    /// URLs that layers may not name.
    forbidden_urls: Vec<String>,
    blob: metadata::blobs::NewBlob,
    tags: Vec<Tag>,
}

impl Registry {
    /// Accepts a manifest: checks it, stores it, and points tags at it.
    pub async fn push_manifest(&self, push: ManifestPush) -> Result<PushedManifest, Error> {
        self.check_read_write()?;
        let config = &self.shared.config;
        let parsed = Manifest::parse(&push.content, push.content_type.as_deref())?;
        check_class(&config.classes, &push.classes, &parsed)?;
        let sha256 = Digest::sha256(&push.content);
        let digest = check_digest(&push, sha256)?;
        let blob = metadata::blobs::NewBlob {
            sha256,
            sha512: Some(digest).filter(|digest| *digest != sha256),
            size: push.content.len() as u64,
            location: None,
            // They have just been written where they belong, whatever was known of them.
            replaces: true,
            unsynced: None,
        };
        let mut accepted = Accepted {
            manifest: describe(&parsed, digest),
            required: required(config, &parsed),
            forbidden_urls: forbidden_urls(config, &parsed),
            blob,
            tags: all_tags(&push),
            push,
        };

        self.ensure_adopted(&accepted.push.repository).await?;
        // Asked before the bytes are stored, so that a refused manifest seldom costs space, and
        // again in the transaction, where the answer counts.
        self.metadata().read(&accepted, |tx, accepted| Box::pin(check(tx, accepted))).await?;
        let content = accepted.push.content.clone();
        let stored = self.blobs().put(&sha256, content.clone()).await?;
        accepted.blob.location = stored.location;
        accepted.blob.unsynced.clone_from(&stored.unsynced);

        let pushed = PushedManifest {
            digest,
            subject: accepted.manifest.subject,
            tags: accepted.tags.clone(),
        };
        let lock = lock(&accepted.push);
        let written = self
            .metadata()
            .write_locked(Durability::Power, lock, accepted, |tx, accepted| {
                Box::pin(write_down(tx, accepted))
            })
            .await;
        // Whether it was written down or not: it waits for a sync.
        self.shared.journal.count(stored.unsynced.as_ref());
        written?;
        self.shared.contents.share(&sha256, content);
        Ok(pushed)
    }

    /// Refuses a manifest that a push would refuse whatever the repository holds.
    pub(crate) fn check_rules(&self, parsed: &Manifest, classes: &[Class]) -> Result<(), Error> {
        self.check_read_write()?;
        let config = &self.shared.config;
        check_class(&config.classes, classes, parsed)?;
        let urls = forbidden_urls(config, parsed);
        if urls.is_empty() {
            return Ok(());
        }
        Err(Error::ManifestReferences { urls, missing: Vec::new() })
    }
}

/// The digest that the manifest goes by: the one that the client gave it, or its sha256.
fn check_digest(push: &ManifestPush, sha256: Digest) -> Result<Digest, Error> {
    let Reference::Digest(expected) = &push.reference else {
        return Ok(sha256);
    };
    let found = Digest::of(expected.algorithm(), &push.content);
    if found == *expected {
        Ok(found)
    } else {
        Err(Error::DigestMismatch { expected: *expected, found })
    }
}

fn all_tags(push: &ManifestPush) -> Vec<Tag> {
    let own = match &push.reference {
        Reference::Tag(tag) => Some(tag),
        Reference::Digest(_) => None,
    };
    let mut seen = HashSet::new();
    own.into_iter().chain(&push.tags).filter(|tag| seen.insert(*tag)).cloned().collect()
}

pub(crate) fn describe(parsed: &Manifest, digest: Digest) -> NewManifest {
    let config = parsed.config.as_ref().map(|config| config.digest);
    let required = parsed.required_blobs().into_iter().map(|blob| {
        let is_config = Some(blob.digest) == config;
        (blob.digest, if is_config { ReferenceKind::Config } else { ReferenceKind::Layer })
    });
    let foreign = parsed.optional_blobs().into_iter();
    let foreign = foreign.map(|blob| (blob.digest, ReferenceKind::ForeignLayer));
    let children = parsed.children().iter().map(|child| (child.digest, ReferenceKind::Child));
    let references = required.chain(foreign).chain(children).collect();

    let subject = parsed.subject.as_ref().map(|subject| subject.digest);
    let annotations = subject
        .filter(|_| !parsed.annotations.is_empty())
        .and_then(|_| serde_json::to_string(&parsed.annotations).ok());
    NewManifest {
        digest,
        media_type: parsed.media_type.clone(),
        artifact_type: parsed.effective_artifact_type().map(str::to_owned),
        subject,
        annotations,
        references,
    }
}

/// What must be in the repository before the manifest, each once.
fn required(config: &Config, parsed: &Manifest) -> Vec<(Digest, ReferenceKind)> {
    let blobs = if config.require_blobs { parsed.required_blobs() } else { Vec::new() };
    let blobs = blobs.into_iter().map(|blob| (blob.digest, ReferenceKind::Layer));
    let children = parsed.children().iter();
    let children = children.filter(|child| config.require_children.include(child));
    let children = children.map(|child| (child.digest, ReferenceKind::Child));
    let mut seen = HashSet::new();
    blobs.chain(children).filter(|(digest, _)| seen.insert(*digest)).collect()
}

/// URLs of layers that the rules do not let pass, each once.
fn forbidden_urls(config: &Config, parsed: &Manifest) -> Vec<String> {
    let Some(rules) = &config.layer_urls else {
        return Vec::new();
    };
    let mut seen = HashSet::new();
    let urls = parsed.layers.iter().flat_map(|layer| &layer.urls);
    urls.filter(|url| !rules.pass(url) && seen.insert(*url)).cloned().collect()
}

/// Refuses a manifest whose condition does not hold or whose references are missing.
async fn check(tx: &mut Tx, accepted: &Accepted) -> Result<(), Error> {
    let push = &accepted.push;
    for target in targets(accepted) {
        check_preconditions(tx, &push.repository, &target, &push.preconditions).await?;
    }
    let missing = manifests::missing(tx, &push.repository, &accepted.required).await?;
    let urls = &accepted.forbidden_urls;
    if missing.is_empty() && urls.is_empty() {
        return Ok(());
    }
    Err(Error::ManifestReferences { urls: urls.clone(), missing })
}

/// What the conditions of a push are about: the tags that it would move, or else the manifest.
fn targets(accepted: &Accepted) -> Vec<Reference> {
    if accepted.tags.is_empty() {
        return vec![accepted.push.reference.clone()];
    }
    accepted.tags.iter().cloned().map(Reference::Tag).collect()
}

/// Refuses what a client wants to do with `reference` if it is not what the client believes.
pub(crate) async fn check_preconditions(
    tx: &mut Tx,
    repository: &RepositoryName,
    reference: &Reference,
    preconditions: &[Precondition],
) -> Result<(), Error> {
    if preconditions.is_empty() {
        return Ok(());
    }
    let current = manifests::find(tx, repository, reference).await?;
    let current = current.map(|manifest| manifest.digest);
    if preconditions.iter().all(|condition| condition.holds(current.as_ref())) {
        Ok(())
    } else {
        Err(Error::PreconditionFailed { current })
    }
}

/// A push may depend on what is not there, or not any more; the others only add.
fn lock(push: &ManifestPush) -> Lock {
    if push.preconditions.is_empty() {
        Lock::shared(&push.repository)
    } else {
        Lock::exclusive(&push.repository)
    }
}

async fn write_down(tx: &mut Tx, accepted: &Accepted) -> Result<(), Error> {
    check(tx, accepted).await?;
    let now = clock::now();
    let repository = repositories::ensure(tx, &accepted.push.repository, now).await?;
    let blob = metadata::blobs::record(tx, &accepted.blob, now).await?.id;
    let manifest = manifests::put(tx, repository, blob, &accepted.manifest, now).await?;
    for tag in &accepted.tags {
        tags::set(tx, repository, tag, manifest, now).await?;
    }
    Ok(())
}
