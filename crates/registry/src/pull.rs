//! Pull: manifests and blobs on their way out.

use blobs::{Blobs, Content, ErrorKind};
use bytes::{Bytes, BytesMut};
use http::Method;
use metadata::blobs::Blob;
use oci::{Digest, Reference, RepositoryName};

use crate::{Error, Registry};

/// A manifest that was asked for.
#[derive(Clone, Debug)]
pub struct PulledManifest {
    /// The digest that its client gave it.
    pub digest: Digest,
    /// Its content type.
    pub media_type: String,
    /// Its bytes, as they were pushed.
    pub content: Bytes,
}

/// A blob that was asked for.
#[derive(Clone, Debug)]
pub struct PulledBlob {
    /// Bytes.
    pub size: u64,
    /// Its bytes.
    pub content: Content,
}

/// Where a blob's bytes are.
pub struct BlobPlace {
    registry: Registry,
    blob: Blob,
}

impl BlobPlace {
    /// A path below the root of the store: for most content the one that the distribution registry
    /// would have for it.
    pub fn path(&self) -> String {
        let location = self.blob.location.as_ref();
        location.map_or_else(|| store_path(&self.blob.digest), |location| format!("/{location}"))
    }

    /// A URL where the store itself gives the bytes to whoever has it, for a while and by this
    /// method, if there is such.
    pub async fn url(&self, method: Method) -> Result<Option<String>, Error> {
        let Blob { digest, location, .. } = &self.blob;
        Ok(self.registry.blobs().url(method, digest, location.as_deref()).await?)
    }
}

/// The largest blob that is kept in memory: configurations, signatures. What is larger costs so
/// much to send that to read it hardly matters.
const SMALL: usize = 16 << 10;

impl Registry {
    /// The manifest that `reference` leads to.
    pub async fn pull_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<PulledManifest, Error> {
        let unknown = || Error::ManifestUnknown {
            repository: repository.clone(),
            reference: reference.clone(),
        };
        self.ensure_adopted(repository).await?;
        let found = self.find_manifest(repository, reference).await?.ok_or_else(unknown)?;
        let content = self.manifest_content(&found.blob).await?.ok_or_else(unknown)?;
        Ok(PulledManifest { digest: found.digest, media_type: found.media_type, content })
    }

    /// Size of the blob, if the repository serves it.
    pub async fn stat_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<u64, Error> {
        Ok(self.find_whole_blob(repository, digest).await?.size)
    }

    /// Where the blob's bytes are, if the repository serves it.
    pub async fn locate_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<BlobPlace, Error> {
        let blob = self.find_whole_blob(repository, digest).await?;
        Ok(BlobPlace { registry: self.clone(), blob })
    }

    /// Makes sure that the blob can be read from `offset`, before anybody is told so.
    pub async fn begin_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        content: &Content,
        offset: u64,
    ) -> Result<(), Error> {
        match content.begin(offset).await {
            Err(error) if error.is_loss() => {
                tracing::error!(%error, "a blob can not be read");
                if let Ok(blob) = self.find_blob(repository, digest).await {
                    self.shared.suspects.add(&blob.digest);
                }
                Err(blob_gone(repository, digest, content.size(), None))
            }
            begun => Ok(begun?),
        }
    }

    /// Opens the blob for reading, if the repository serves it.
    pub async fn pull_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<PulledBlob, Error> {
        let blob = self.find_blob(repository, digest).await?;
        let is_small = blob.size <= SMALL as u64;
        if let Some(content) = self.shared.contents.get(&blob.digest) {
            return Ok(PulledBlob { size: blob.size, content: Content::Memory(content) });
        }
        let in_bucket = self.blobs().is_replicated();
        if is_small
            && in_bucket
            && let Some(content) = self.shared.contents.ask_others(&blob.digest).await
        {
            return Ok(PulledBlob { size: blob.size, content: Content::Memory(content) });
        }
        let content =
            match self.blobs().open(&blob.digest, blob.location.as_deref(), blob.size).await {
                Ok(content) => content,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(blob_gone(repository, digest, blob.size, None));
                }
                Err(error) => return Err(error.into()),
            };
        if content.size() != blob.size {
            return Err(blob_gone(repository, digest, blob.size, Some(content.size())));
        }
        if is_small && in_bucket {
            return self.fetch_small(&blob, content).await;
        }
        if is_small {
            self.remember(&blob.digest, &content);
        }
        Ok(PulledBlob { size: blob.size, content })
    }

    /// Small content of a store that is far away: it is kept once it is here.
    async fn fetch_small(&self, blob: &Blob, content: Content) -> Result<PulledBlob, Error> {
        let content = match read_all(&content).await {
            Ok(bytes) if Digest::sha256(&bytes) == blob.digest => {
                self.shared.contents.share(&blob.digest, bytes.clone());
                Content::Memory(bytes)
            }
            // Whoever begins to read it finds out, too, and tells.
            _ => content,
        };
        Ok(PulledBlob { size: blob.size, content })
    }

    /// Keeps small content in memory, if it is in the page cache and as it should be.
    fn remember(&self, digest: &Digest, content: &Content) {
        if let Some(bytes) = content.read_cached(0, SMALL)
            && Digest::sha256(&bytes) == *digest
        {
            // A copy, for what was read is a part of something larger.
            self.shared.contents.remember(digest, Bytes::copy_from_slice(&bytes));
        }
    }

    /// The blob, if its bytes are there.
    async fn find_whole_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Blob, Error> {
        let blob = self.find_blob(repository, digest).await?;
        if self.blobs().is_replicated() && !self.shared.suspects.has(&blob.digest) {
            return Ok(blob);
        }
        match self.blobs().size(&blob.digest, blob.location.as_deref()).await? {
            Some(size) if size == blob.size => Ok(blob),
            found => Err(blob_gone(repository, digest, blob.size, found)),
        }
    }

    async fn find_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<metadata::manifests::Manifest>, metadata::Error> {
        let version = self.metadata().version();
        let input = (repository.clone(), reference.clone());
        let asking = || {
            self.metadata().read_relaxed(&input, |tx, (repository, reference)| {
                Box::pin(metadata::manifests::find(tx, repository, reference))
            })
        };
        self.shared.found_manifests.get(version, &input, asking).await
    }

    pub(crate) async fn find_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Blob, Error> {
        self.ensure_adopted(repository).await?;
        let version = self.metadata().version();
        let input = (repository.clone(), *digest);
        let asking = || {
            self.metadata().read_relaxed(&input, |tx, (repository, digest)| {
                Box::pin(metadata::blobs::find(tx, repository, digest))
            })
        };
        let found = self.shared.found_blobs.get(version, &input, asking).await?;
        found.ok_or_else(|| blob_unknown(repository, digest))
    }

    /// The bytes of a manifest: from memory, or from the store. `None` if they are not what they
    /// should be; pushing the manifest again heals that.
    pub(crate) async fn manifest_content(&self, blob: &Blob) -> Result<Option<Bytes>, Error> {
        if let Some(content) = self.shared.contents.get(&blob.digest) {
            return Ok(Some(content));
        }
        if let Some(content) = self.shared.contents.ask_others(&blob.digest).await {
            return Ok(Some(content));
        }
        let content = match Box::pin(read_whole(self.blobs(), blob)).await {
            Ok(content) => content,
            Err(error) if error.is_loss() => {
                tracing::error!(digest = %blob.digest, %error, "the bytes of a manifest are lost");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if Digest::sha256(&content) != blob.digest {
            tracing::error!(digest = %blob.digest, "the bytes of a manifest are damaged");
            return Ok(None);
        }
        self.shared.contents.share(&blob.digest, content.clone());
        Ok(Some(content))
    }
}

/// The bytes of a blob, as far as a manifest may be long.
pub(crate) async fn read_whole(blobs: &dyn Blobs, blob: &Blob) -> Result<Bytes, blobs::Error> {
    read_all(&blobs.open(&blob.digest, blob.location.as_deref(), blob.size).await?).await
}

async fn read_all(content: &Content) -> Result<Bytes, blobs::Error> {
    let mut bytes = BytesMut::new();
    while bytes.len() <= oci::MAX_MANIFEST_SIZE {
        let part = content.read(bytes.len() as u64, oci::MAX_MANIFEST_SIZE).await?;
        if part.is_empty() {
            break;
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

/// The store's layout is that of the distribution registry.
fn store_path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("/docker/registry/v2/blobs/{}/{hex:.2}/{hex}/data", digest.algorithm().as_str())
}

/// The answer for a blob whose file is missing or has another size. Clients take "unknown" as a
/// reason to upload it again, which heals it.
fn blob_gone(
    repository: &RepositoryName,
    digest: &Digest,
    expected: u64,
    found: Option<u64>,
) -> Error {
    tracing::error!(
        %repository, %digest, expected_bytes = expected, found_bytes = found,
        "a blob's file is missing or has the wrong size; pushing the blob again heals it"
    );
    blob_unknown(repository, digest)
}

fn blob_unknown(repository: &RepositoryName, digest: &Digest) -> Error {
    Error::BlobUnknown { repository: repository.clone(), digest: *digest }
}
