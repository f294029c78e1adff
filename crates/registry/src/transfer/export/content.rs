//! What an image consists of, on its way out.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use layout::{RunnableImage, Writer};
use metadata::manifests;
use oci::media_type::{
    DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER_TAR, OCI_CONFIG, OCI_LAYER, OCI_LAYER_TAR,
};
use oci::{Descriptor, Digest, Manifest, ManifestKind, Reference, RepositoryName};

use super::Export;
use crate::Error;
use crate::pull::PulledManifest;
use crate::transfer::{MAX_DEPTH, Stop, add, blocking, check_size};

/// What is known about a manifest that is written.
pub(super) struct Known {
    /// Bytes.
    size: u64,
    /// How many manifests deep it is.
    height: usize,
    runnable: Runnable,
    /// The manifests that it lists and that are here, each once.
    children: Vec<Digest>,
}

/// Of a manifest and all that it lists, those that a Docker without OCI layouts can load.
#[derive(Clone, Copy)]
enum Runnable {
    Nothing,
    One(Digest),
    Several,
}

impl Runnable {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, runnable) | (runnable, Self::Nothing) => runnable,
            (Self::One(one), Self::One(other)) if one == other => self,
            _ => Self::Several,
        }
    }
}

impl Export<'_> {
    /// What is written next is of this repository.
    pub(super) fn enter(&mut self, repository: &RepositoryName) {
        if self.entered.as_ref() != Some(repository) {
            self.entered = Some(repository.clone());
            self.known.clear();
        }
    }

    /// Whether the manifest was written as one of this repository.
    pub(super) fn is_written(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        self.entered.as_ref() == Some(repository) && self.known.contains_key(digest)
    }

    /// A written manifest and those that it lists, and those that these list, each once.
    pub(super) fn descendants(&self, digest: &Digest) -> Vec<Digest> {
        let mut seen = HashSet::from([*digest]);
        let mut found = vec![*digest];
        let mut next = 0;
        while let Some(known) = found.get(next).map(|digest| self.known.get(digest)) {
            let children = known.map_or(&[][..], |known| &known.children);
            found.extend(children.iter().filter(|child| seen.insert(**child)));
            next += 1;
        }
        found
    }

    /// Writes the manifest that `reference` leads to, all that it names first. With it comes its
    /// artifact type.
    pub(super) async fn tree(
        &mut self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<(PulledManifest, Option<String>), Stop> {
        let Some(pulled) = self.pull(repository, reference).await? else {
            let (repository, reference) = (repository.clone(), reference.clone());
            return Err(Error::ManifestUnknown { repository, reference }.into());
        };
        let parsed = parse(&pulled)?;
        self.manifest(repository, &pulled, &parsed, 0).await?;
        Ok((pulled, parsed.artifact_type))
    }

    /// What Docker's list says about an image that is written: `None` if it is not one of one
    /// platform.
    pub(super) async fn runnable(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        name: String,
    ) -> Result<Option<RunnableImage>, Stop> {
        let Some(Runnable::One(digest)) = self.known.get(digest).map(|known| known.runnable) else {
            return Ok(None);
        };
        let Some(pulled) = self.pull(repository, &digest.into()).await? else { return Ok(None) };
        let parsed = parse(&pulled)?;
        let layers = parsed.layers.iter().map(|layer| layer.digest).collect();
        let config = parsed.config.map(|config| config.digest);
        Ok(config.map(|config| RunnableImage { name, config, layers }))
    }

    /// Whether the database has the manifest, be its bytes there or not.
    pub(super) async fn exists(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<bool, Stop> {
        let found = self
            .registry
            .metadata()
            .read(&(repository, reference), |tx, (repository, reference)| {
                Box::pin(manifests::find(tx, repository, reference))
            })
            .await?;
        Ok(found.is_some())
    }

    /// The manifest, if there is one. Fails if its bytes are not what they should be.
    async fn pull(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<PulledManifest>, Stop> {
        match self.registry.pull_manifest(repository, reference).await {
            Ok(pulled) => Ok(Some(pulled)),
            Err(Error::ManifestUnknown { .. }) if self.exists(repository, reference).await? => {
                Err(Stop::Refused(format!(
                    "the bytes of the manifest {reference} are gone or damaged: push it again"
                )))
            }
            Err(Error::ManifestUnknown { .. }) => Ok(None),
            Err(error) => Err(Stop::Failed(error)),
        }
    }

    /// Writes a manifest, all that it names first.
    async fn manifest(
        &mut self,
        repository: &RepositoryName,
        pulled: &PulledManifest,
        parsed: &Manifest,
        depth: usize,
    ) -> Result<(), Stop> {
        let digest = pulled.digest;
        if self.known.contains_key(&digest) {
            return Ok(());
        }
        let mut known = Known {
            size: pulled.content.len() as u64,
            height: 0,
            runnable: Runnable::Nothing,
            children: Vec::new(),
        };
        let mut seen = HashSet::new();
        for child in parsed.children().iter().filter(|child| seen.insert(child.digest)) {
            self.child(repository, child, depth + 1, &mut known).await?;
        }
        let must_be = self.registry.shared.config.require_blobs;
        let mut is_whole = true;
        for blob in parsed.required_blobs() {
            is_whole &= self.blob(repository, blob, must_be).await?;
        }
        for blob in parsed.optional_blobs() {
            self.blob(repository, blob, false).await?;
        }
        if is_whole && is_runnable(parsed) {
            known.runnable = known.runnable.and(Runnable::One(digest));
        }
        let (content, size) = (pulled.content.clone(), known.size);
        if self.write(move |writer| writer.put(&digest, &content)).await? {
            add(&self.progress.manifests, 1);
            add(&self.progress.bytes, size);
        }
        self.known.insert(digest, known);
        Ok(())
    }

    /// Writes a manifest that `parent` lists, unless it is not here: the registry serves an index
    /// that is not complete, too.
    async fn child(
        &mut self,
        repository: &RepositoryName,
        child: &Descriptor,
        depth: usize,
        parent: &mut Known,
    ) -> Result<(), Stop> {
        let too_deep = || Stop::Refused(format!("{}: nested too deeply", child.digest));
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        if !self.known.contains_key(&child.digest) {
            let Some(pulled) = self.pull(repository, &child.digest.into()).await? else {
                return Ok(());
            };
            check_size(child, pulled.content.len() as u64)?;
            let parsed = parse(&pulled)?;
            Box::pin(self.manifest(repository, &pulled, &parsed, depth)).await?;
        }
        let Some(known) = self.known.get(&child.digest) else { return Ok(()) };
        check_size(child, known.size)?;
        if depth + known.height > MAX_DEPTH {
            return Err(too_deep());
        }
        parent.height = parent.height.max(known.height + 1);
        parent.runnable = parent.runnable.and(known.runnable);
        parent.children.push(child.digest);
        Ok(())
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
        check_size(blob, stored.size)?;
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
                    let is_lost = error.is_loss();
                    let problem = format!("{digest}: {error}");
                    return Err(if is_lost {
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

    pub(super) async fn write<T: Send + 'static>(
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

fn parse(pulled: &PulledManifest) -> Result<Manifest, Stop> {
    Manifest::parse(&pulled.content, Some(&pulled.media_type))
        .map_err(|error| Stop::Refused(format!("{}: {error}", pulled.digest)))
}

/// Whether a Docker without OCI layouts can load the image.
fn is_runnable(manifest: &Manifest) -> bool {
    if manifest.kind == ManifestKind::Index {
        return false;
    }
    let is_image = manifest
        .config
        .as_ref()
        .is_some_and(|config| [DOCKER_CONFIG, OCI_CONFIG].contains(&config.media_type.as_str()));
    is_image
        && manifest.layers.iter().all(|layer| {
            [DOCKER_LAYER, DOCKER_LAYER_TAR, OCI_LAYER, OCI_LAYER_TAR]
                .contains(&layer.media_type.as_str())
                && layer.urls.is_empty()
        })
}
