//! Import: images out of files become images of the registry.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;

use layout::{Content, Entry, Images, Label};
use metadata::{Durability, repositories};
use oci::{Algorithm, Descriptor, Digest, Hasher, Manifest, Reference, RepositoryName, Tag};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::chunks::chunks;
use super::{ImageName, MAX_DEPTH, Refusal, Stop, TransferProgress, add, blocking};
use crate::manifest::ManifestPush;
use crate::{Error, Registry, clock};

/// Blobs of an image that are stored at once.
const PARALLEL: usize = 4;

/// Entries of an index that are read ahead.
const READ_AHEAD: usize = 64;

/// An import of images out of files.
pub struct ImportImages {
    /// Where to; without one, it is only looked whether all is well.
    pub registry: Option<Registry>,
    /// Where from.
    pub images: Arc<Images>,
    /// What the image is to be called, or the repository of all; `None`: as it is called there.
    pub name: Option<ImageName>,
    /// Reads everything and stores nothing.
    pub dry_run: bool,
    /// How far it is.
    pub progress: Arc<TransferProgress>,
}

impl ImportImages {
    /// Takes all images in. One that is not what it should be, or that names what is nowhere, is
    /// handed to `refuse`, and the others go on; it gets no tag.
    pub async fn run(&self, mut refuse: impl FnMut(&Refusal) + Send) -> Result<(), Error> {
        let survey = match self.survey().await {
            Ok(survey) => survey,
            Err(Stop::Refused(problem) | Stop::Output(problem)) => {
                self.refuse(String::new(), problem, &mut refuse);
                return Ok(());
            }
            Err(Stop::Failed(error)) => return Err(error),
        };
        self.progress.expected.store(survey.entries, std::sync::atomic::Ordering::Relaxed);
        let mut seen = Seen::default();
        let (sender, mut entries) = mpsc::channel(READ_AHEAD);
        let images = Arc::clone(&self.images);
        let reading = tokio::task::spawn_blocking(move || {
            images.each_entry(|entry| match sender.blocking_send(entry) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        });
        while let Some(entry) = entries.recv().await {
            let place = entry.place.clone();
            match self.import(entry, &survey, &mut seen).await {
                Ok(()) => {}
                Err(Stop::Refused(problem) | Stop::Output(problem)) => {
                    self.refuse(place, problem, &mut refuse);
                }
                Err(Stop::Failed(error)) => return Err(error),
            }
            add(&self.progress.done, 1);
        }
        if let Ok(Err(error)) = reading.await {
            self.refuse(String::new(), error.to_string(), &mut refuse);
        }
        Ok(())
    }

    fn refuse(&self, place: String, problem: String, refuse: &mut impl FnMut(&Refusal)) {
        add(&self.progress.refused, 1);
        refuse(&Refusal { place, problem });
    }

    /// Goes through the index once, to know what can be said without looking at one image.
    async fn survey(&self) -> Result<Survey, Stop> {
        let images = Arc::clone(&self.images);
        let tag = self.name.as_ref().and_then(|name| name.tag.clone());
        let survey = blocking(move || {
            let mut survey = Survey::default();
            images.each_entry(|entry| {
                survey.add(&entry, tag.as_ref());
                ControlFlow::Continue(())
            })?;
            Ok(survey)
        })
        .await?;
        if let Some(ImageName { tag: Some(tag), repository }) = &self.name
            && survey.choice().is_none()
        {
            let problem = format!(
                "there are {} images here, and which one is {repository}:{tag} can not be told: \
                 with `--name {repository}` all are taken, each with the tag that it has",
                survey.entries
            );
            return Err(Stop::Refused(problem));
        }
        Ok(survey)
    }

    async fn import(&self, entry: Entry, survey: &Survey, seen: &mut Seen) -> Result<(), Stop> {
        let (descriptor, label) = entry.found.map_err(Stop::Refused)?;
        let Some((repository, tag)) = self.name_of(label.as_ref(), survey)? else {
            return Ok(());
        };
        if let Some(tag) = &tag {
            seen.check_tag(&repository, tag, &descriptor.digest)?;
        }
        seen.enter(&repository);
        let mut image = Image { import: self, repository: &repository, seen };
        image.take(&descriptor, 0, tag.as_ref()).await?;
        add(&self.progress.images, 1);
        Ok(())
    }

    /// Repository and tag that an entry becomes; `None` if it is not asked for.
    fn name_of(
        &self,
        label: Option<&Label>,
        survey: &Survey,
    ) -> Result<Option<(RepositoryName, Option<Tag>)>, Stop> {
        let own_tag = match label {
            Some(Label::Tag(tag) | Label::Full(_, Reference::Tag(tag))) => Some(tag.clone()),
            _ => None,
        };
        Ok(match (&self.name, label) {
            (Some(ImageName { repository, tag: None }), _) => Some((repository.clone(), own_tag)),
            (Some(ImageName { repository, tag: Some(tag) }), _) => {
                let is_it = match survey.choice() {
                    Some(Choice::Only) => true,
                    Some(Choice::Tagged) => own_tag.is_some(),
                    Some(Choice::SameTag) => own_tag.as_ref() == Some(tag),
                    None => false,
                };
                // What has no tag is most often a signature of what has one.
                let is_beside = own_tag.is_none();
                match (is_it, is_beside) {
                    (true, _) => Some((repository.clone(), Some(tag.clone()))),
                    (false, true) => Some((repository.clone(), None)),
                    (false, false) => None,
                }
            }
            (None, Some(Label::Full(repository, _))) => Some((repository.clone(), own_tag)),
            (None, Some(Label::Tag(tag))) => {
                return Err(Stop::Refused(format!(
                    "it has the tag {tag} but no repository: name that with `--name REPOSITORY`"
                )));
            }
            (None, None) => match &survey.repository {
                Some(Some(repository)) => Some((repository.clone(), None)),
                _ => {
                    return Err(Stop::Refused(
                        "it has no name: give it one with `--name REPOSITORY:TAG`".to_owned(),
                    ));
                }
            },
        })
    }
}

/// What is known about all entries.
#[derive(Debug, Default)]
struct Survey {
    entries: u64,
    /// Those with a tag of their own.
    tagged: u64,
    /// Those with the tag that was asked for.
    same_tag: u64,
    /// The repository that is named: none yet; or one; or several (`Some(None)`).
    repository: Option<Option<RepositoryName>>,
}

/// Which entry is the one that was asked for.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Only,
    Tagged,
    SameTag,
}

impl Survey {
    fn add(&mut self, entry: &Entry, wanted: Option<&Tag>) {
        self.entries += 1;
        let Ok((_, Some(label))) = &entry.found else { return };
        if let Label::Full(repository, _) = label {
            self.repository = Some(match self.repository.take() {
                None => Some(repository.clone()),
                Some(known) => known.filter(|known| known == repository),
            });
        }
        if let Label::Tag(tag) | Label::Full(_, Reference::Tag(tag)) = label {
            self.tagged += 1;
            self.same_tag += u64::from(Some(tag) == wanted);
        }
    }

    fn choice(&self) -> Option<Choice> {
        match (self.entries, self.tagged, self.same_tag) {
            (1, _, _) => Some(Choice::Only),
            (_, 1, _) => Some(Choice::Tagged),
            (_, _, 1) => Some(Choice::SameTag),
            _ => None,
        }
    }
}

/// What this import has dealt with.
#[derive(Default)]
struct Seen {
    hash: RandomState,
    /// Names and what they lead to, hashed: that takes less room, and is as good.
    tags: HashSet<u64>,
    targets: HashSet<u64>,
    /// The repository of the entry before, and its manifests that are in.
    repository: Option<RepositoryName>,
    manifests: HashSet<Digest>,
    /// Of a dry run: blobs that were read.
    blobs: HashSet<Digest>,
}

impl Seen {
    /// Refuses a name that had another target before.
    fn check_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        target: &Digest,
    ) -> Result<(), Stop> {
        let is_new = self.tags.insert(self.hash.hash_one((repository, tag)));
        let is_new_target = self.targets.insert(self.hash.hash_one((repository, tag, target)));
        if is_new || !is_new_target {
            return Ok(());
        }
        let name = format!("{repository}:{tag}");
        Err(Stop::Refused(format!("{name} is there more than once, for different manifests")))
    }

    fn enter(&mut self, repository: &RepositoryName) {
        if self.repository.as_ref() != Some(repository) {
            self.repository = Some(repository.clone());
            self.manifests.clear();
        }
    }
}

/// One image on its way in.
struct Image<'a> {
    import: &'a ImportImages,
    repository: &'a RepositoryName,
    seen: &'a mut Seen,
}

impl Image<'_> {
    /// Takes in a manifest, all that it names first, and points `tag` at it.
    async fn take(
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
        loop {
            while running.len() < PARALLEL
                && let Some(blob) = wanted.next()
            {
                let (registry, repository) = (registry.clone(), self.repository.clone());
                let images = Arc::clone(&self.import.images);
                let progress = Arc::clone(&self.import.progress);
                running.spawn(async move {
                    store(&registry, &repository, &images, &blob, &progress).await
                });
            }
            match running.join_next().await {
                Some(done) => done.unwrap_or(Err(Stop::Failed(Error::Interrupted)))?,
                None => return Ok(()),
            }
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
            } else if blob.urls.is_empty()
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
        let Some(registry) = self.import.registry.as_ref().filter(|_| !self.import.dry_run) else {
            add(&self.import.progress.manifests, 1);
            return Ok(());
        };
        let wanted = tag.map_or(Reference::Digest(descriptor.digest), |tag| tag.clone().into());
        match registry.pull_manifest(self.repository, &wanted).await {
            Ok(pulled) if pulled.digest == descriptor.digest => return Ok(()),
            Ok(_) | Err(Error::ManifestUnknown { .. }) => {}
            Err(error) => return Err(Stop::Failed(error)),
        }
        let push = ManifestPush {
            repository: self.repository.clone(),
            reference: Reference::Digest(descriptor.digest),
            tags: tag.cloned().into_iter().collect(),
            content_type: Some(manifest.media_type.clone()),
            content: content.into(),
            preconditions: Vec::new(),
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
    progress: &TransferProgress,
) -> Result<(), Stop> {
    let (images, digest) = (Arc::clone(images), blob.digest);
    let Some(content) = blocking(move || images.content(&digest)).await? else {
        return Ok(());
    };
    check_size(blob, content.size())?;
    let (chunks, why) = chunks(content);
    match registry.push_blob(repository, &digest, chunks).await {
        Ok(stored) => {
            add(&progress.blobs, 1);
            add(&progress.bytes, stored.size);
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

fn check_size(blob: &Descriptor, found: u64) -> Result<(), Stop> {
    if blob.size == found {
        return Ok(());
    }
    Err(layout::Error::Size { digest: blob.digest, expected: blob.size, found }.into())
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
            .map_err(|source| layout::Error::Io {
                action: format!("cannot read {digest}"),
                source,
            })?;
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
    match hasher.finish().digest(digest.algorithm()) {
        Some(found) if found != digest => Err(layout::Error::Digest { expected: digest, found }),
        _ => Ok(()),
    }
}

/// What became of blobs that a repository should serve.
struct Served {
    /// How many it serves now, because the store had them.
    served: u64,
    /// The others.
    left: Vec<Descriptor>,
}

impl Registry {
    /// Lets `repository` serve those of `wanted` that the store has whole, whoever put them there:
    /// only for somebody who may see everything.
    async fn serve_stored(
        &self,
        repository: &RepositoryName,
        wanted: Vec<Descriptor>,
    ) -> Result<Served, Stop> {
        let (mut stored, mut left) = (Vec::new(), Vec::new());
        for blob in wanted {
            match self.stored_size(&blob.digest).await? {
                Some(size) => {
                    check_size(&blob, size)?;
                    stored.push(blob.digest);
                }
                None => left.push(blob),
            }
        }
        let served = stored.len() as u64;
        if served > 0 {
            self.ensure_adopted(repository).await?;
            self.metadata()
                .write(
                    Durability::Power,
                    (repository.clone(), stored),
                    |tx, (repository, stored)| {
                        Box::pin(async move {
                            let now = clock::now();
                            let repository = repositories::ensure(tx, repository, now).await?;
                            for digest in stored {
                                if let Some(blob) = metadata::blobs::find_id(tx, digest).await? {
                                    metadata::blobs::link(tx, repository, blob, now).await?;
                                }
                            }
                            Ok::<_, metadata::Error>(())
                        })
                    },
                )
                .await?;
        }
        Ok(Served { served, left })
    }

    /// Bytes of content that is in the store as the database describes it.
    async fn stored_size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let blob = self
            .metadata()
            .read(digest, |tx, digest| Box::pin(metadata::blobs::find_stored(tx, digest)))
            .await?;
        let Some(blob) = blob else { return Ok(None) };
        let found = self.blobs().size(&blob.digest, blob.location.as_deref()).await?;
        Ok(found.filter(|found| *found == blob.size))
    }
}
