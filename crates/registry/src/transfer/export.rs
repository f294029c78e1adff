//! Export: images of the registry become an image layout.

mod content;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use layout::{Inventory, RunnableImage, Writer, Written};
use metadata::repositories::RepositoryId;
use metadata::{manifests, repositories, tags};
use oci::{Descriptor, Digest, Reference, RepositoryName, Tag};

use super::{Refusal, Stop, TransferProgress, add, blocking, spell};
use crate::referrers::ReferrersQuery;
use crate::{Error, Registry};
use content::Known;

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
            entered: None,
            known: HashMap::new(),
            referred: HashSet::new(),
            refuse: &mut refuse,
        };
        let done = if self.wanted.is_empty() {
            export.everything().await
        } else {
            export.selected(self.wanted).await
        };
        done?;
        if export.progress.images.load(Ordering::Relaxed) == 0 {
            return Err(ExportFailed::Nothing);
        }
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
    /// Not one image can be exported.
    #[error("no image was exported; what was there before stays as it is")]
    Nothing,
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
    /// The repository that is read.
    entered: Option<RepositoryName>,
    /// Its manifests that are written after what they name.
    known: HashMap<Digest, Known>,
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
                Some(reference) => self.with_referrers(&repository, reference).await?,
            }
            add(&self.progress.done, 1);
        }
        Ok(())
    }

    /// All of a repository: first what has no tag (signatures are there before the image has its
    /// tag), then the tags, then what lost its tag meanwhile.
    async fn repository(&mut self, repository: &RepositoryName) -> Result<(), Stop> {
        let id = self
            .registry
            .metadata()
            .read(repository, |tx, name| Box::pin(repositories::find(tx, name)))
            .await?;
        let Some(id) = id else {
            self.refuse(repository.as_str(), "there is no such repository");
            return Ok(());
        };
        let mut refused = HashSet::new();
        self.roots(repository, id, &mut refused).await?;
        let mut last: Option<Tag> = None;
        loop {
            let page = self
                .registry
                .metadata()
                .read(&last, |tx, last| {
                    Box::pin(tags::list(tx, id, last.as_ref().map(Tag::as_str), PAGE))
                })
                .await?;
            let Some(tag) = page.last() else { break };
            last = Some(tag.clone());
            for tag in page {
                self.image(repository, &tag.into()).await?;
            }
        }
        self.roots(repository, id, &mut refused).await
    }

    /// What neither a tag nor an index leads to, as far as it was not looked at before.
    async fn roots(
        &mut self,
        repository: &RepositoryName,
        id: RepositoryId,
        refused: &mut HashSet<Digest>,
    ) -> Result<(), Stop> {
        let mut last: Option<Digest> = None;
        loop {
            let page = self
                .registry
                .metadata()
                .read(&last, |tx, last| {
                    Box::pin(manifests::list_roots(tx, id, last.as_ref(), PAGE))
                })
                .await?;
            let Some(digest) = page.last() else { return Ok(()) };
            last = Some(*digest);
            for digest in page {
                if self.is_written(repository, &digest) || refused.contains(&digest) {
                    continue;
                }
                if !self.image(repository, &digest.into()).await? {
                    refused.insert(digest);
                }
            }
        }
    }

    /// One image. False if it was refused.
    async fn image(
        &mut self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<bool, Stop> {
        let Some(image) = self.content_or_line(repository, reference).await? else {
            return Ok(false);
        };
        self.add_entry(image).await?;
        Ok(true)
    }

    /// An image, and the manifests that refer to it or to its own, and those that refer to these.
    async fn with_referrers(
        &mut self,
        repository: &RepositoryName,
        reference: Reference,
    ) -> Result<(), Stop> {
        let mut seen = HashSet::from([reference.clone()]);
        let mut waiting = vec![reference];
        let mut written = Vec::new();
        while let Some(reference) = waiting.pop() {
            let Some(image) = self.content_or_line(repository, &reference).await? else {
                continue;
            };
            for subject in self.descendants(&image.entry.digest) {
                if self.referred.insert((repository.clone(), subject)) {
                    let found = self.referrers(repository, &subject).await?;
                    waiting.extend(found.into_iter().filter(|found| seen.insert(found.clone())));
                }
            }
            written.push(image);
        }
        // Signatures are there before the image has its tag.
        for image in written.into_iter().rev() {
            self.add_entry(image).await?;
        }
        Ok(())
    }

    /// The manifests that refer to this one.
    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Reference>, Stop> {
        let mut found = Vec::new();
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
            found.extend(page.descriptors.iter().map(|referrer| Reference::from(referrer.digest)));
            if !page.more {
                break;
            }
        }
        for suffix in COSIGN_TAGS {
            let tag = format!("{}{suffix}", subject.referrers_tag()).parse::<Tag>();
            let Ok(reference) = tag.map(Reference::Tag) else { continue };
            if self.exists(repository, &reference).await? {
                found.push(reference);
            }
        }
        Ok(found)
    }

    /// Writes an image without its entry; if it is refused, there is a line.
    async fn content_or_line(
        &mut self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Image>, Stop> {
        match self.content(repository, reference).await {
            Ok(image) => Ok(Some(image)),
            Err(Stop::Refused(problem)) => {
                self.refuse(&spell(repository, reference), &problem);
                Ok(None)
            }
            Err(stop) => Err(stop),
        }
    }

    fn refuse(&mut self, place: &str, problem: &str) {
        add(&self.progress.refused, 1);
        (self.refuse)(&Refusal::new(place, problem));
    }

    /// Writes what an image consists of.
    async fn content(
        &mut self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Image, Stop> {
        self.enter(repository);
        let (pulled, artifact_type) = self.tree(repository, reference).await?;
        let name = layout::spell(repository, reference);
        let mut annotations = BTreeMap::from([(layout::REF_NAME.to_owned(), name.clone())]);
        let is_tag = reference.as_tag().is_some();
        let mut runnable = None;
        if is_tag {
            annotations.insert(layout::IMAGE_NAME.to_owned(), name.clone());
            runnable = self.runnable(repository, &pulled.digest, name).await?;
        }
        let size = pulled.content.len() as u64;
        let entry = Descriptor {
            annotations,
            artifact_type: artifact_type.filter(|text| !text.is_empty()),
            ..Descriptor::new(pulled.media_type, pulled.digest, size)
        };
        Ok(Image { entry, runnable })
    }

    /// Writes an image's entry in the index.
    async fn add_entry(&mut self, image: Image) -> Result<(), Stop> {
        self.write(move |writer| {
            writer.add(&image.entry)?;
            image.runnable.map_or(Ok(()), |image| writer.add_runnable(image))
        })
        .await?;
        add(&self.progress.images, 1);
        Ok(())
    }
}

/// An image whose content is written.
struct Image {
    /// What the index says of it.
    entry: Descriptor,
    /// What Docker's list says of it.
    runnable: Option<RunnableImage>,
}
