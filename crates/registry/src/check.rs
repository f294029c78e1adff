//! Check: the database against the store, and every byte against its digest.

use blobs::ErrorKind;
use metadata::blobs::Blob;
use metadata::manifests::{Listed, ReferenceKind};
use metadata::repositories;
use oci::{Algorithm, Digest, Hashed, Hasher, RepositoryName};

use crate::{Error, Registry};

/// Rows read in one transaction.
const PAGE: u64 = 500;

/// Bytes read at once.
const READ_SIZE: usize = blobs::Buffer::SIZE;

/// What a check went through and what it found.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Blobs looked at.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Manifests looked at.
    pub manifests: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What deletes (or an accepted sparse manifest) left incomplete: not damage.
    pub incomplete: Vec<Finding>,
    /// Content in the store that the database does not know: left by a push that was cut off
    /// before it was acknowledged, or by another registry.
    pub unreferenced: u64,
}

/// Something that a check found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// The database's own structure is broken.
    Database(String),
    /// The bytes of a blob are not there.
    Missing(Digest),
    /// A blob has the wrong size.
    Size {
        /// Which.
        digest: Digest,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// The bytes of a blob are not those of its digest.
    Damaged(Digest),
    /// The bytes of a blob can not be read.
    Unreadable {
        /// Which.
        digest: Digest,
        /// Why.
        why: String,
    },
    /// A manifest names something that its repository does not have.
    Reference {
        /// Where.
        repository: RepositoryName,
        /// Which manifest.
        manifest: Digest,
        /// What it names.
        missing: Digest,
    },
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(what) => write!(f, "the database is damaged: {what}"),
            Self::Missing(digest) => write!(f, "{digest}: its bytes are not in the store"),
            Self::Size { digest, expected, found } => {
                write!(f, "{digest}: expected {expected} bytes, found {found}")
            }
            Self::Damaged(digest) => write!(f, "{digest}: its bytes do not have this digest"),
            Self::Unreadable { digest, why } => write!(f, "{digest}: {why}"),
            Self::Reference { repository, manifest, missing } => {
                write!(f, "{repository}@{manifest} names {missing}, which is not in {repository}")
            }
        }
    }
}

impl Registry {
    /// Goes through everything. With `quick` the sizes of blobs are compared, their bytes not
    /// read. `progress` hears of the bytes done.
    pub async fn check(
        &self,
        quick: bool,
        mut progress: impl FnMut(&Check) + Send,
    ) -> Result<Check, Error> {
        let mut check = Check::default();
        let broken = self.metadata().check_structure().await?;
        check.findings.extend(broken.into_iter().map(Finding::Database));
        self.check_blobs(quick, &mut check, &mut progress).await?;
        self.check_manifests(&mut check).await?;
        self.count_unreferenced(&mut check).await?;
        Ok(check)
    }

    async fn check_blobs(
        &self,
        quick: bool,
        check: &mut Check,
        progress: &mut (impl FnMut(&Check) + Send),
    ) -> Result<(), Error> {
        let mut last: Option<Digest> = None;
        loop {
            let page = self
                .metadata()
                .read(&last, |tx, last| Box::pin(metadata::blobs::list(tx, last.as_ref(), PAGE)))
                .await?;
            for blob in &page {
                match self.check_blob(blob, quick).await? {
                    // It is not lost: the next start puts it back.
                    Some(_) if self.is_in_journal(&blob.digest).await? => {}
                    found => check.findings.extend(found),
                }
                check.blobs += 1;
                check.bytes += blob.size;
                progress(check);
            }
            match page.last() {
                Some(blob) => last = Some(blob.digest),
                None => return Ok(()),
            }
        }
    }

    async fn check_blob(&self, blob: &Blob, quick: bool) -> Result<Option<Finding>, Error> {
        let digest = blob.digest;
        let location = blob.location.as_deref();
        let found = match self.blobs().size(&digest, location).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Some(Finding::Missing(digest))),
            Err(error) => return Ok(Some(Finding::Unreadable { digest, why: error.to_string() })),
        };
        if found != blob.size {
            return Ok(Some(Finding::Size { digest, expected: blob.size, found }));
        }
        if quick {
            return Ok(None);
        }
        Ok(match self.hash_blob(blob).await {
            Ok(hashed) if hashed == digest => None,
            Ok(_) => Some(Finding::Damaged(digest)),
            Err(error) if error.kind() == ErrorKind::NotFound => Some(Finding::Missing(digest)),
            Err(error) if error.kind() == ErrorKind::Damaged => Some(Finding::Damaged(digest)),
            Err(error) => Some(Finding::Unreadable { digest, why: error.to_string() }),
        })
    }

    /// The sha256 digest of the bytes that the store holds for `blob`.
    pub(crate) async fn hash_blob(&self, blob: &Blob) -> Result<Digest, blobs::Error> {
        Ok(self.hash_whole(blob, None).await?.sha256)
    }

    /// The digests of the bytes that the store holds for `blob`.
    pub(crate) async fn hash_whole(
        &self,
        blob: &Blob,
        also: Option<Algorithm>,
    ) -> Result<Hashed, blobs::Error> {
        let content = self.blobs().open(&blob.digest, blob.location.as_deref(), blob.size).await?;
        let mut hasher = Hasher::new(also);
        loop {
            let part = content.read(hasher.len(), READ_SIZE).await?;
            if part.is_empty() {
                return Ok(hasher.finish());
            }
            hasher.update(&part);
        }
    }

    async fn check_manifests(&self, check: &mut Check) -> Result<(), Error> {
        let mut last = None;
        loop {
            let page = self
                .metadata()
                .read(&last, |tx, last| Box::pin(metadata::manifests::list(tx, *last, PAGE)))
                .await?;
            for manifest in &page {
                check.incomplete.extend(self.check_references(manifest).await?);
                check.manifests += 1;
            }
            match page.last() {
                Some(manifest) => last = Some(manifest.id),
                None => return Ok(()),
            }
        }
    }

    async fn check_references(&self, manifest: &Listed) -> Result<Vec<Finding>, Error> {
        let missing = self
            .metadata()
            .read(manifest, |tx, manifest| {
                Box::pin(async move {
                    let mut missing = Vec::new();
                    let Some(id) = repositories::find(tx, &manifest.repository).await? else {
                        return Ok::<_, metadata::Error>(missing);
                    };
                    for (digest, kind) in &manifest.references {
                        let present = match kind {
                            ReferenceKind::ForeignLayer => true,
                            ReferenceKind::Child => {
                                metadata::manifests::exists(tx, id, digest).await?
                            }
                            ReferenceKind::Config | ReferenceKind::Layer => {
                                metadata::blobs::is_served(tx, id, digest).await?
                            }
                        };
                        if !present {
                            missing.push(*digest);
                        }
                    }
                    Ok(missing)
                })
            })
            .await?;
        let finding = |missing| Finding::Reference {
            repository: manifest.repository.clone(),
            manifest: manifest.digest,
            missing,
        };
        Ok(missing.into_iter().map(finding).collect())
    }

    async fn count_unreferenced(&self, check: &mut Check) -> Result<(), Error> {
        for shard in 0..=u8::MAX {
            for digest in self.blobs().list_shard(shard).await? {
                let known = self
                    .metadata()
                    .read(&digest, |tx, digest| Box::pin(metadata::blobs::find_id(tx, digest)))
                    .await?;
                check.unreferenced += u64::from(known.is_none());
            }
        }
        check.unreferenced += self.find_strays().await?.len() as u64;
        Ok(())
    }
}
