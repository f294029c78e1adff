//! Export: images of the registry become an image layout.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use blobs::ErrorKind;
use layout::{Inventory, RunnableImage, Writer, Written};
use metadata::{manifests, repositories, tags};
use oci::media_type::{
    DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER_TAR, OCI_CONFIG, OCI_LAYER, OCI_LAYER_TAR,
};
use oci::{Descriptor, Digest, Manifest, ManifestKind, Reference, RepositoryName, Tag};

use super::{MAX_DEPTH, Refusal, Stop, TransferProgress, add, blocking, spell};
use crate::pull::PulledManifest;
use crate::referrers::ReferrersQuery;
use crate::{Error, Registry};

/// Rows read in one transaction.
const PAGE: u64 = 500;

/// What cosign adds to the referrers tag of an image for its signature, attestations and SBOM.
const COSIGN_TAGS: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// An image, or all of a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    /// The repository.
    pub repository: RepositoryName,
    /// The image; `None`: all of the repository.
    pub reference: Option<Reference>,
}

/// An export of images into a layout.
pub struct ExportImages {
    /// Where from.
    pub registry: Registry,
    /// Which; everything if empty.
    pub wanted: Vec<Selection>,
    /// Blobs that are left out, because the other side has them.
    pub without: Option<Inventory>,
    /// How far it is.
    pub progress: Arc<TransferProgress>,
}

impl ExportImages {
    /// Writes the images, and the manifests that refer to them (signatures, SBOMs …). One that is
    /// not whole is handed to `refuse`, and the others go on. The same content gives the same
    /// layout.
    pub async fn run(
        self,
        writer: Writer,
        mut refuse: impl FnMut(&Refusal) + Send,
    ) -> Result<Written, ExportFailed> {
        if !self.registry.knows_all().await? {
            return Err(ExportFailed::NotImported);
        }
        let mut export = Export {
            writer: Arc::new(Mutex::new(writer)),
            registry: self.registry,
            without: self.without.map(Arc::new),
            progress: self.progress,
            manifests: HashMap::new(),
            referred: HashSet::new(),
            refuse: &mut refuse,
        };
        let done = if self.wanted.is_empty() {
            export.everything().await
        } else {
            export.selected(self.wanted).await
        };
        done?;
        let Some(writer) = Arc::into_inner(export.writer) else {
            return Err(Error::Interrupted.into());
        };
        let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(blocking(move || writer.finish()).await?)
    }
}

impl From<Stop> for ExportFailed {
    fn from(stop: Stop) -> Self {
        match stop {
            // What concerns one image was dealt with before.
            Stop::Output(problem) | Stop::Refused(problem) => Self::Output(problem),
            Stop::Failed(error) => Self::Registry(error),
        }
    }
}

/// Why an export could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ExportFailed {
    /// The database does not know all images.
    #[error(
        "the store has link files that are not read yet: run `orlop import` first, or wait until \
         the server has read them"
    )]
    NotImported,
    /// The layout can not be written.
    #[error("{0}")]
    Output(String),
    /// The database or the store failed.
    #[error(transparent)]
    Registry(#[from] Error),
}

struct Export<'a> {
    writer: Arc<Mutex<Writer>>,
    registry: Registry,
    without: Option<Arc<Inventory>>,
    progress: Arc<TransferProgress>,
    /// Manifests that are written after what they name, and whether that is all there.
    manifests: HashMap<Digest, bool>,
    /// Manifests whose referrers are written.
    referred: HashSet<(RepositoryName, Digest)>,
    refuse: &'a mut (dyn FnMut(&Refusal) + Send),
}

impl Export<'_> {
    async fn everything(&mut self) -> Result<(), Stop> {
        let expected = self
            .registry
            .metadata()
            .read(&(), |tx, ()| Box::pin(repositories::count_matches(tx, "")))
            .await?;
        self.progress.expected.store(expected, std::sync::atomic::Ordering::Relaxed);
        let mut last: Option<RepositoryName> = None;
        loop {
            let page = self
                .registry
                .metadata()
                .read(&last, |tx, last| {
                    let last = last.as_ref().map(RepositoryName::as_str);
                    Box::pin(repositories::list(tx, last, PAGE))
                })
                .await?;
            let Some(name) = page.last() else { return Ok(()) };
            last = Some(name.clone());
            for repository in &page {
                self.repository(repository).await?;
                add(&self.progress.done, 1);
            }
        }
    }

    async fn selected(&mut self, wanted: Vec<Selection>) -> Result<(), Stop> {
        let expected = wanted.len() as u64;
        self.progress.expected.store(expected, std::sync::atomic::Ordering::Relaxed);
        for Selection { repository, reference } in wanted {
            match reference {
                None => self.repository(&repository).await?,
                Some(reference) => self.image(&repository, &reference, true).await?,
            }
            add(&self.progress.done, 1);
        }
        Ok(())
    }

    /// All of a repository: first what has no tag (signatures are there before the image has its
    /// tag), then the tags.
    async fn repository(&mut self, repository: &RepositoryName) -> Result<(), Stop> {
        let id = self
            .registry
            .metadata()
            .read(repository, |tx, name| Box::pin(repositories::find(tx, name)))
            .await?;
        let Some(id) = id else {
            let problem = "there is no such repository".to_owned();
            self.refuse(repository.to_string(), problem);
            return Ok(());
        };
        let mut last: Option<Digest> = None;
        loop {
            let page = self
                .registry
                .metadata()
                .read(&last, |tx, last| {
                    Box::pin(manifests::list_roots(tx, id, last.as_ref(), PAGE))
                })
                .await?;
            let Some(digest) = page.last() else { break };
            last = Some(*digest);
            for digest in page {
                self.image(repository, &digest.into(), false).await?;
            }
        }
        let mut last: Option<Tag> = None;
        loop {
            let page = self
                .registry
                .metadata()
                .read(&last, |tx, last| {
                    Box::pin(tags::list(tx, id, last.as_ref().map(Tag::as_str), PAGE))
                })
                .await?;
            let Some(tag) = page.last() else { return Ok(()) };
            last = Some(tag.clone());
            for tag in page {
                self.image(repository, &tag.into(), false).await?;
            }
        }
    }

    /// One image, with what refers to it if that is asked for.
    async fn image(
        &mut self,
        repository: &RepositoryName,
        reference: &Reference,
        with_referrers: bool,
    ) -> Result<(), Stop> {
        match self.entry(repository, reference, with_referrers).await {
            Err(Stop::Refused(problem)) => {
                self.refuse(spell(repository, reference), problem);
                Ok(())
            }
            done => done,
        }
    }

    fn refuse(&mut self, place: String, problem: String) {
        add(&self.progress.refused, 1);
        (self.refuse)(&Refusal { place, problem });
    }

    /// Writes an image and its entry in the index.
    async fn entry(
        &mut self,
        repository: &RepositoryName,
        reference: &Reference,
        with_referrers: bool,
    ) -> Result<(), Stop> {
        let pulled = self.registry.pull_manifest(repository, reference).await?;
        let mut found = Found { in_order: Vec::new(), runnable: Vec::new() };
        let parsed = self.manifest(repository, &pulled, 0, &mut found).await?;
        if with_referrers {
            for digest in found.in_order {
                self.referrers(repository, &digest).await?;
            }
        }
        let name = layout::spell(repository, reference);
        let mut annotations = BTreeMap::from([(layout::REF_NAME.to_owned(), name.clone())]);
        let is_tag = reference.as_tag().is_some();
        if is_tag {
            annotations.insert(layout::IMAGE_NAME.to_owned(), name.clone());
        }
        let size = pulled.content.len() as u64;
        let entry = Descriptor {
            annotations,
            artifact_type: parsed.artifact_type.filter(|text| !text.is_empty()),
            ..Descriptor::new(pulled.media_type, pulled.digest, size)
        };
        let runnable = match found.runnable.as_slice() {
            [(config, layers)] if is_tag => {
                Some(RunnableImage { name, config: *config, layers: layers.clone() })
            }
            _ => None,
        };
        self.write(move |writer| {
            writer.add(&entry)?;
            runnable.map_or(Ok(()), |image| writer.add_runnable(image))
        })
        .await?;
        add(&self.progress.images, 1);
        Ok(())
    }

    /// Writes the manifests that refer to this one, and those that refer to these.
    async fn referrers(
        &mut self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<(), Stop> {
        if !self.referred.insert((repository.clone(), *subject)) {
            return Ok(());
        }
        let mut query = ReferrersQuery {
            repository: repository.clone(),
            subject: *subject,
            artifact_type: None,
            last: None,
            limit: PAGE,
        };
        loop {
            let page = self.registry.list_referrers(&query).await?;
            query.last = page.descriptors.last().map(|descriptor| descriptor.digest);
            for referrer in &page.descriptors {
                let reference = Reference::Digest(referrer.digest);
                Box::pin(self.image(repository, &reference, true)).await?;
            }
            if !page.more {
                break;
            }
        }
        for suffix in COSIGN_TAGS {
            let tag = format!("{}{suffix}", subject.referrers_tag()).parse::<Tag>();
            let Ok(reference) = tag.map(Reference::Tag) else { continue };
            match self.registry.pull_manifest(repository, &reference).await {
                Ok(_) => Box::pin(self.image(repository, &reference, true)).await?,
                Err(Error::ManifestUnknown { .. }) => {}
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
        Ok(())
    }

    /// Writes a manifest, all that it names first.
    async fn manifest(
        &mut self,
        repository: &RepositoryName,
        pulled: &PulledManifest,
        depth: usize,
        found: &mut Found,
    ) -> Result<Manifest, Stop> {
        let digest = pulled.digest;
        let parsed = Manifest::parse(&pulled.content, Some(&pulled.media_type))
            .map_err(|error| Stop::Refused(format!("{digest}: {error}")))?;
        if depth > MAX_DEPTH {
            return Err(Stop::Refused(format!("{digest}: nested too deeply")));
        }
        for child in parsed.children() {
            let reference = Reference::Digest(child.digest);
            match self.registry.pull_manifest(repository, &reference).await {
                Ok(pulled) => {
                    Box::pin(self.manifest(repository, &pulled, depth + 1, found)).await?;
                }
                // The registry serves this index although it is not complete.
                Err(Error::ManifestUnknown { .. }) => {}
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
        found.in_order.push(digest);
        if let Some(is_whole) = self.manifests.get(&digest) {
            found.add_runnable(&parsed, *is_whole);
            return Ok(parsed);
        }
        let must_be = self.registry.shared.config.require_blobs;
        let mut is_whole = true;
        for blob in parsed.required_blobs() {
            is_whole &= self.blob(repository, blob, must_be).await?;
        }
        for blob in parsed.optional_blobs() {
            self.blob(repository, blob, false).await?;
        }
        found.add_runnable(&parsed, is_whole);
        let content = pulled.content.clone();
        let size = content.len() as u64;
        if self.write(move |writer| writer.put(&digest, &content)).await? {
            add(&self.progress.manifests, 1);
            add(&self.progress.bytes, size);
        }
        self.manifests.insert(digest, is_whole);
        Ok(parsed)
    }

    /// Writes a blob. False if it is not there and need not be.
    async fn blob(
        &mut self,
        repository: &RepositoryName,
        blob: &Descriptor,
        must_be: bool,
    ) -> Result<bool, Stop> {
        let digest = blob.digest;
        let stored = match self.registry.find_blob(repository, &digest).await {
            Err(Error::BlobUnknown { .. }) if !must_be => return Ok(false),
            stored => stored?,
        };
        if self.is_elsewhere(&stored.digest).await? {
            add(&self.progress.left_out, 1);
            return Ok(true);
        }
        let content = self.registry.pull_blob(repository, &digest).await?;
        let size = content.size;
        if !self.write(move |writer| writer.begin(&digest, size)).await? {
            add(&self.progress.present, 1);
            return Ok(true);
        }
        let mut offset = 0;
        loop {
            let part = match content.content.read(offset, blobs::Buffer::SIZE).await {
                Ok(part) => part,
                Err(error) => {
                    self.write(Writer::abandon).await?;
                    let is_gone = error.kind() == ErrorKind::NotFound;
                    let problem = format!("{digest}: {error}");
                    return Err(if is_gone {
                        Stop::Refused(problem)
                    } else {
                        Stop::Failed(error.into())
                    });
                }
            };
            if part.is_empty() {
                break;
            }
            offset += part.len() as u64;
            add(&self.progress.bytes, part.len() as u64);
            self.write(move |writer| writer.append(&part)).await?;
        }
        self.write(Writer::end).await?;
        add(&self.progress.blobs, 1);
        Ok(true)
    }

    /// Whether the other side has the blob.
    async fn is_elsewhere(&self, digest: &Digest) -> Result<bool, Stop> {
        let Some(without) = self.without.clone() else { return Ok(false) };
        let digest = *digest;
        blocking(move || without.contains(&digest)).await.map_err(|stop| match stop {
            Stop::Refused(problem) => Stop::Output(problem),
            stop => stop,
        })
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, layout::Error> + Send + 'static,
    ) -> Result<T, Stop> {
        let writer = Arc::clone(&self.writer);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match done.await {
            Ok(Ok(done)) => Ok(done),
            // The registry's own content is not what it should be.
            Ok(Err(error @ (layout::Error::Size { .. } | layout::Error::Digest { .. }))) => {
                Err(Stop::Refused(error.to_string()))
            }
            Ok(Err(error)) => Err(Stop::Output(error.to_string())),
            Err(_) => Err(Stop::Failed(Error::Interrupted)),
        }
    }
}

/// What an image consists of.
struct Found {
    /// Its manifests, those that others list before these.
    in_order: Vec<Digest>,
    /// Configuration and layers of those that a Docker without OCI layouts can load.
    runnable: Vec<(Digest, Vec<Digest>)>,
}

impl Found {
    fn add_runnable(&mut self, manifest: &Manifest, is_whole: bool) {
        if manifest.kind == ManifestKind::Index || !is_whole {
            return;
        }
        let Some(config) = &manifest.config else { return };
        let is_image = [DOCKER_CONFIG, OCI_CONFIG].contains(&config.media_type.as_str());
        let can_be_loaded = manifest.layers.iter().all(|layer| {
            [DOCKER_LAYER, DOCKER_LAYER_TAR, OCI_LAYER, OCI_LAYER_TAR]
                .contains(&layer.media_type.as_str())
                && layer.urls.is_empty()
        });
        if is_image && can_be_loaded {
            let layers = manifest.layers.iter().map(|layer| layer.digest).collect();
            self.runnable.push((config.digest, layers));
        }
    }
}
