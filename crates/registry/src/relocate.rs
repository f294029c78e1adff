//! Relocate: content that lies where it was written while it arrived is brought to the layout's
//! keys, where registry:2 looks for it.

use std::sync::atomic::{AtomicU64, Ordering};

use metadata::Durability;
use metadata::adoption::Finding;
use metadata::blobs::Blob;
use tokio::task::JoinSet;

use crate::{Error, Registry};

/// Blobs looked up at once.
const PAGE: u64 = 500;

/// Blobs that are copied at once: there is room for a part of each in memory.
const PARALLEL: usize = 4;

impl Registry {
    /// Brings everything to the layout's keys; with `dry_run` it is only counted. Returns what was
    /// lost before, and stays where it is. Nobody else may use the store meanwhile. What was cut
    /// short goes on when it is done again.
    pub(crate) async fn relocate(
        &self,
        dry_run: bool,
        copied: &AtomicU64,
    ) -> Result<Vec<Finding>, Error> {
        let mut lost = Vec::new();
        let mut last = String::new();
        let mut running = JoinSet::new();
        loop {
            let page = self
                .metadata()
                .read(&last, |tx, last| Box::pin(metadata::blobs::list_located(tx, last, PAGE)))
                .await?;
            let Some(location) = page.last().and_then(|blob| blob.location.clone()) else { break };
            last = location;
            if dry_run {
                copied.fetch_add(page.len() as u64, Ordering::Relaxed);
                continue;
            }
            for blob in page {
                if running.len() >= PARALLEL {
                    lost.extend(next(&mut running, copied).await?);
                }
                let registry = self.clone();
                running.spawn(async move { registry.relocate_blob(blob).await });
            }
        }
        while !running.is_empty() {
            lost.extend(next(&mut running, copied).await?);
        }
        Ok(lost)
    }

    /// Says what is wrong with a blob that can not be copied.
    async fn relocate_blob(&self, blob: Blob) -> Result<Option<Finding>, Error> {
        let Some(location) = &blob.location else { return Ok(None) };
        match self.blobs().copy_to_layout(&blob.digest, location, blob.size).await {
            Err(error) if error.is_loss() => {
                let problem = format!("registry:2 will not find it: {error}");
                return Ok(Some(Finding { place: blob.digest.to_string(), problem }));
            }
            copied => copied?,
        }
        self.metadata()
            .write(Durability::Power, blob.clone(), |tx, blob| {
                Box::pin(metadata::blobs::relocate(tx, &blob.digest))
            })
            .await?;
        self.discard(location).await;
        Ok(None)
    }
}

/// What came of the copy that ends next.
async fn next(
    running: &mut JoinSet<Result<Option<Finding>, Error>>,
    copied: &AtomicU64,
) -> Result<Option<Finding>, Error> {
    let Some(done) = running.join_next().await else { return Ok(None) };
    let lost = done.unwrap_or(Err(Error::Interrupted))?;
    copied.fetch_add(u64::from(lost.is_none()), Ordering::Relaxed);
    Ok(lost)
}
