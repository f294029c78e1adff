//! Relocate: content that lies where it was written while it arrived is brought to the layout's
//! keys, where registry:2 looks for it.

use std::sync::atomic::{AtomicU64, Ordering};

use metadata::Durability;
use metadata::blobs::Blob;
use tokio::task::JoinSet;

use crate::{Error, Registry};

/// Blobs looked up at once.
const PAGE: u64 = 500;

/// Blobs that are copied at once: there is room for a part of each in memory.
const PARALLEL: usize = 4;

impl Registry {
    /// Brings everything to the layout's keys; with `dry_run` it is only counted. Nobody else may
    /// use the store meanwhile. What was cut short goes on when it is done again.
    pub(crate) async fn relocate(&self, dry_run: bool, copied: &AtomicU64) -> Result<(), Error> {
        let mut last = String::new();
        let mut running = JoinSet::new();
        loop {
            let page = self
                .metadata()
                .read(&last, |tx, last| Box::pin(metadata::blobs::list_located(tx, last, PAGE)))
                .await?;
            let Some(location) = page.last().and_then(|blob| blob.location.clone()) else { break };
            last = location;
            copied.fetch_add(page.len() as u64, Ordering::Relaxed);
            if dry_run {
                continue;
            }
            for blob in page {
                if running.len() >= PARALLEL
                    && let Some(done) = running.join_next().await
                {
                    done.unwrap_or(Err(Error::Interrupted))?;
                }
                let registry = self.clone();
                running.spawn(async move { registry.relocate_blob(blob).await });
            }
        }
        while let Some(done) = running.join_next().await {
            done.unwrap_or(Err(Error::Interrupted))?;
        }
        Ok(())
    }

    async fn relocate_blob(&self, blob: Blob) -> Result<(), Error> {
        let Some(location) = &blob.location else { return Ok(()) };
        match self.blobs().copy_to_layout(&blob.digest, location, blob.size).await {
            // It was lost before: `orlop check` tells that, too.
            Err(error) if error.is_loss() => {
                tracing::warn!(%error, digest = %blob.digest, "a blob is not copied");
                return Ok(());
            }
            copied => copied?,
        }
        self.metadata()
            .write(Durability::Power, blob.clone(), |tx, blob| {
                Box::pin(metadata::blobs::relocate(tx, &blob.digest))
            })
            .await?;
        self.discard(location).await;
        Ok(())
    }
}
