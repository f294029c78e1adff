//! Collect: removes the content that nothing needs, while no server runs.
//!
//! What is kept: everything that a manifest names, and every manifest; or, if untagged ones are to
//! go, every manifest that a tag leads to, that such a one lists, or that says something about one.

use std::collections::BTreeSet;

use blobs::Located;
use metadata::blobs::Blob;
use metadata::{Durability, Retry, Tx, garbage, manifests, repositories};
use oci::{Digest, RepositoryName};

use crate::{Error, Registry};

/// Blobs looked at together.
const BATCH: u64 = 500;

/// What a collection removes, or would remove.
#[derive(Clone, Debug, Default)]
pub struct Garbage {
    /// Blobs that something needs.
    pub used: u64,
    /// Manifests that no tag leads to, if these are asked for.
    pub manifests: Vec<(RepositoryName, Digest)>,
    /// Content that nothing needs, manifests included.
    pub blobs: Vec<Blob>,
    /// What servers that died have left in the store, where no blob is.
    pub strays: Vec<Located>,
    /// The database knows no content at all, but the store has some: it is not the database that
    /// the store was filled with. Nothing was removed.
    pub is_unknown: bool,
}

impl Registry {
    /// Removes what nothing needs, or with `dry_run` only says what that is.
    ///
    /// Nobody else may use the database and the store meanwhile, and no link files may wait for
    /// their adoption.
    pub async fn collect_garbage(
        &self,
        delete_untagged: bool,
        dry_run: bool,
    ) -> Result<Garbage, Error> {
        // First the database: content that it does not know does no harm.
        let forgotten = self
            .metadata()
            .write(Durability::Power, (delete_untagged, dry_run), |tx, (untagged, dry_run)| {
                Box::pin(async move {
                    let found = forget(tx, *untagged).await?;
                    // A rehearsal is not kept. What fails after a change may be run again: so it
                    // takes twice as long.
                    if *dry_run { Err(End::Rehearsed(found)) } else { Ok(found) }
                })
            })
            .await;
        let mut found = match forgotten {
            Ok(found) | Err(End::Rehearsed(found)) => found,
            Err(End::Failed(error)) => return Err(error),
        };
        let knows_none = found.used == 0 && found.blobs.is_empty();
        self.find_strangers(&mut found).await?;
        found.strays = self.find_strays().await?;
        // Blobs that the database has just forgotten.
        let forgotten = found.blobs.iter().filter_map(|blob| blob.location.as_deref());
        let forgotten: BTreeSet<&str> = forgotten.collect();
        found.strays.retain(|stray| !forgotten.contains(&*stray.location));
        let stores_some = !found.blobs.is_empty() || !found.strays.is_empty();
        found.is_unknown = knows_none && stores_some;
        if !dry_run && !found.is_unknown {
            for blob in &found.blobs {
                self.blobs().remove(&blob.digest, blob.location.as_deref()).await?;
            }
            for stray in &found.strays {
                self.blobs().discard(&stray.location).await?;
            }
        }
        Ok(found)
    }

    /// Content that the database does not know: left by pushes that were cut off.
    async fn find_strangers(&self, found: &mut Garbage) -> Result<(), Error> {
        let known: BTreeSet<Digest> = found.blobs.iter().map(|blob| blob.digest).collect();
        for shard in 0..=u8::MAX {
            for digest in self.blobs().list_shard(shard).await? {
                let used = self
                    .metadata()
                    .read(&digest, |tx, digest| Box::pin(metadata::blobs::find_id(tx, digest)))
                    .await?;
                if used.is_none() && !known.contains(&digest) {
                    let size = self.blobs().size(&digest, None).await?.unwrap_or(0);
                    found.blobs.push(Blob { digest, size, location: None });
                }
            }
        }
        Ok(())
    }
}

async fn forget(tx: &mut Tx, delete_untagged: bool) -> Result<Garbage, Error> {
    let mut found = Garbage::default();
    if delete_untagged {
        found.manifests = garbage::untagged(tx).await?;
    }
    for (repository, digest) in &found.manifests {
        if let Some(id) = repositories::find(tx, repository).await? {
            manifests::delete(tx, id, digest).await?;
        }
    }
    loop {
        let batch = garbage::unused(tx, BATCH).await?;
        if batch.is_empty() {
            break;
        }
        for (id, blob) in batch {
            garbage::forget(tx, id).await?;
            found.blobs.push(blob);
        }
    }
    found.used = garbage::count_blobs(tx).await?;
    Ok(found)
}

/// Why the transaction ended without being kept.
enum End {
    Rehearsed(Garbage),
    Failed(Error),
}

impl From<metadata::Error> for End {
    fn from(error: metadata::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Retry for End {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_conflict())
    }
}
