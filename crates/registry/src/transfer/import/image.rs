//! One image on its way in.

use std::collections::HashSet;
use std::sync::Arc;

use layout::{Content, Images};
use oci::{Algorithm, Descriptor, Digest, Hasher, Manifest, Reference, RepositoryName, Tag};
use tokio::task::JoinSet;

use super::ImportImages;
use crate::manifest::ManifestPush;
use crate::transfer::chunks::chunks;
use crate::transfer::{MAX_DEPTH, Stop, TransferProgress, add, blocking, check_size};
use crate::{Class, Error, Registry};

/// Blobs of an image that are stored at once.
const PARALLEL: usize = 4;

/// One image on its way in.
pub(super) struct Image<'a> {
    pub(super) import: &'a ImportImages,
    pub(super) repository: &'a RepositoryName,
    pub(super) seen: &'a mut Seen,
}

impl Image<'_> {
    /// Takes in a manifest, all that it names first, and points `tag` at it.
    pub(super) async fn take(
        &mut self,
        descriptor: &Descriptor,
        depth: usize,
        tag: Option<&Tag>,
    ) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Refused(format!("{}: nested too deeply", descriptor.digest)));
        }
        let is_done = self.seen.manifests.contains(&descriptor.digest);
        if is_done && tag.is_none() {
            return Ok(());
        }
        let Some(content) = self.document(descriptor).await? else {
            return Err(refuse_missing(&[descriptor.digest]));
        };
        let content_type = Some(descriptor.media_type.as_str()).filter(|text| !text.is_empty());
        let manifest = Manifest::parse(&content, content_type)
            .map_err(|error| Stop::Refused(format!("{}: {error}", descriptor.digest)))?;
        if !is_done {
            let mut absent = Vec::new();
            for child in manifest.children() {
                if !self.take_child(child, depth + 1).await? {
                    absent.push(child);
                }
            }
            self.check_children(&absent)?;
            self.take_blobs(&manifest).await?;
        }
        self.push(descriptor, &manifest, content, tag).await?;
        self.seen.manifests.insert(descriptor.digest);
        Ok(())
    }

    /// Takes in a manifest that an index lists. False if it is nowhere.
    async fn take_child(&mut self, child: &Descriptor, depth: usize) -> Result<bool, Stop> {
        let images = Arc::clone(&self.import.images);
        let digest = child.digest;
        let is_here = blocking(move || images.content(&digest)).await?.is_some();
        if !is_here && self.held(&digest).await?.is_none() {
            return Ok(false);
        }
        Box::pin(self.take(child, depth, None)).await.map(|()| true)
    }

    /// Refuses an index without the manifests that it may not be without.
    fn check_children(&self, absent: &[&Descriptor]) -> Result<(), Stop> {
        let rule =
            self.import.registry.as_ref().map(|registry| &registry.shared.config.require_children);
        let missing = absent.iter().filter(|child| rule.is_none_or(|rule| rule.include(child)));
        let missing = missing.map(|child| child.digest).collect::<Vec<_>>();
        if missing.is_empty() { Ok(()) } else { Err(refuse_missing(&missing)) }
    }

    /// A manifest out of the files, or if it is not there, of the repository.
    async fn document(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>, Stop> {
        let images = Arc::clone(&self.import.images);
        let wanted = descriptor.clone();
        if let Some(content) = blocking(move || images.document(&wanted)).await? {
            return Ok(Some(content));
        }
        Ok(self.held(&descriptor.digest).await?.map(Into::into))
    }

    /// The manifest, if the repository has it.
    async fn held(&self, digest: &Digest) -> Result<Option<bytes::Bytes>, Stop> {
        let Some(registry) = &self.import.registry else { return Ok(None) };
        match registry.pull_manifest(self.repository, &Reference::Digest(*digest)).await {
            Ok(pulled) => Ok(Some(pulled.content)),
            Err(Error::ManifestUnknown { .. }) => Ok(None),
            Err(error) => Err(Stop::Failed(error)),
        }
    }

    async fn take_blobs(&mut self, manifest: &Manifest) -> Result<(), Stop> {
        let mut wanted = Vec::new();
        for blob in manifest.required_blobs().into_iter().chain(manifest.optional_blobs()) {
            if self.is_served(blob).await? {
                add(&self.import.progress.present, 1);
            } else {
                wanted.push(blob.clone());
            }
        }
        if self.import.dry_run {
            return self.look_at(wanted).await;
        }
        let Some(registry) = &self.import.registry else { return Ok(()) };
        let wanted = registry.serve_stored(self.repository, wanted).await?;
        let stored = &self.import.progress.present;
        add(stored, wanted.served);
        let mut running = JoinSet::new();
        let mut wanted = wanted.left.into_iter();
        let mut result = Ok(());
        loop {
            while result.is_ok()
                && running.len() < PARALLEL
                && let Some(blob) = wanted.next()
            {
                let (registry, repository) = (registry.clone(), self.repository.clone());
                let images = Arc::clone(&self.import.images);
                let progress = Arc::clone(&self.import.progress);
                running.spawn(async move {
                    store(&registry, &repository, &images, &blob, &progress).await
                });
            }
            // Also after an error all that was begun ends here: it would go on without us.
            let Some(done) = running.join_next().await else { return result };
            let done = done.unwrap_or(Err(Stop::Failed(Error::Interrupted)));
            result = result.and(done);
        }
    }

    /// Whether the repository serves the blob. One of another size than the manifest says is not
    /// what it means.
    async fn is_served(&self, blob: &Descriptor) -> Result<bool, Stop> {
        let Some(registry) = &self.import.registry else { return Ok(false) };
        match registry.stat_blob(self.repository, &blob.digest).await {
            Ok(size) => check_size(blob, size).map(|()| true),
            Err(Error::BlobUnknown { .. }) => Ok(false),
            Err(error) => Err(Stop::Failed(error)),
        }
    }

    /// What a dry run does with blobs: reads and compares them.
    async fn look_at(&mut self, wanted: Vec<Descriptor>) -> Result<(), Stop> {
        let mut missing = Vec::new();
        let registry = self.import.registry.as_ref();
        let must_be = registry.is_none_or(|registry| registry.shared.config.require_blobs);
        for blob in wanted {
            if self.seen.blobs.contains(&blob.digest) {
                continue;
            }
            let images = Arc::clone(&self.import.images);
            let wanted = blob.clone();
            let is_here = blocking(move || match images.content(&wanted.digest)? {
                Some(content) => compare(&wanted, &content).map(|()| true),
                None => Ok(false),
            });
            if is_here.await? {
                add(&self.import.progress.blobs, 1);
                add(&self.import.progress.bytes, blob.size);
                self.seen.blobs.insert(blob.digest);
            } else if let Some(registry) = &self.import.registry
                && let Some(size) = registry.stored_size(&blob.digest).await?
            {
                check_size(&blob, size)?;
                add(&self.import.progress.present, 1);
            } else if must_be
                && blob.urls.is_empty()
                && !oci::media_type::is_nondistributable(&blob.media_type)
            {
                missing.push(blob.digest);
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(refuse_missing(&missing)) }
    }

    async fn push(
        &self,
        descriptor: &Descriptor,
        manifest: &Manifest,
        content: Vec<u8>,
        tag: Option<&Tag>,
    ) -> Result<(), Stop> {
        let size = content.len() as u64;
        let Some(registry) = &self.import.registry else {
            add(&self.import.progress.manifests, 1);
            return Ok(());
        };
        let wanted = tag.map_or(Reference::Digest(descriptor.digest), |tag| tag.clone().into());
        match registry.pull_manifest(self.repository, &wanted).await {
            Ok(pulled) if pulled.digest == descriptor.digest => return Ok(()),
            Ok(_) | Err(Error::ManifestUnknown { .. }) => {}
            Err(error) => return Err(Stop::Failed(error)),
        }
        if self.import.dry_run {
            registry.check_rules(manifest, &Class::ALL)?;
            add(&self.import.progress.manifests, 1);
            return Ok(());
        }
        let push = ManifestPush {
            repository: self.repository.clone(),
            reference: Reference::Digest(descriptor.digest),
            tags: tag.cloned().into_iter().collect(),
            content_type: Some(manifest.media_type.clone()),
            content: content.into(),
            preconditions: Vec::new(),
            classes: Class::ALL.to_vec(),
        };
        registry.push_manifest(push).await?;
        add(&self.import.progress.manifests, 1);
        add(&self.import.progress.bytes, size);
        Ok(())
    }
}

fn refuse_missing(digests: &[Digest]) -> Stop {
    Error::ManifestReferences { urls: Vec::new(), missing: digests.to_vec() }.into()
}

/// Stores a blob out of the files. One that is not there is no error: whether that may be is asked
/// when the manifest is pushed.
async fn store(
    registry: &Registry,
    repository: &RepositoryName,
    images: &Arc<Images>,
    blob: &Descriptor,
    progress: &Arc<TransferProgress>,
) -> Result<(), Stop> {
    let (images, digest) = (Arc::clone(images), blob.digest);
    let Some(content) = blocking(move || images.content(&digest)).await? else {
        return Ok(());
    };
    check_size(blob, content.size())?;
    let (chunks, why) = chunks(content, progress);
    match registry.push_blob(repository, &digest, chunks).await {
        Ok(_) => {
            add(&progress.blobs, 1);
            Ok(())
        }
        Err(Error::Interrupted) => Err(match why.get() {
            Some(why) => Stop::Refused(format!("{digest}: {why}")),
            None => Stop::Failed(Error::Interrupted),
        }),
        Err(Error::DigestMismatch { expected, found }) => {
            Err(layout::Error::Digest { expected, found }.into())
        }
        Err(error) => Err(Stop::Failed(error)),
    }
}

/// Reads content and compares it with its descriptor.
fn compare(blob: &Descriptor, content: &Content) -> Result<(), layout::Error> {
    let digest = blob.digest;
    if content.size() != blob.size {
        return Err(layout::Error::Size { digest, expected: blob.size, found: content.size() });
    }
    let also = Some(digest.algorithm()).filter(|also| *also != Algorithm::Sha256);
    let mut hasher = Hasher::new(also);
    let mut buffer = vec![0; blobs::Buffer::SIZE];
    while hasher.len() < blob.size {
        let read = content
            .read_at(hasher.len(), &mut buffer)
            .and_then(|read| match read {
                0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => Ok(read),
            })
            .map_err(|error| layout::Error::Io {
                action: format!("cannot read {digest}"),
                error,
            })?;
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
    match hasher.finish().digest(digest.algorithm()) {
        Some(found) if found != digest => Err(layout::Error::Digest { expected: digest, found }),
        _ => Ok(()),
    }
}

/// What this import has dealt with.
#[derive(Default)]
pub(super) struct Seen {
    /// The repository of the entry before, and its manifests that are in.
    repository: Option<RepositoryName>,
    manifests: HashSet<Digest>,
    /// Of a dry run: blobs that were read.
    blobs: HashSet<Digest>,
}

impl Seen {
    /// An entry of this repository is next.
    pub(super) fn enter(&mut self, repository: &RepositoryName) {
        if self.repository.as_ref() != Some(repository) {
            self.repository = Some(repository.clone());
            self.manifests.clear();
        }
    }
}
