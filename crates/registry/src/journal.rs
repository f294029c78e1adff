//! The journal: small content is acknowledged when its bytes are in the database, durably, and in
//! its place in the store, where they may not have reached the disk yet. So those that push at
//! the same time share one wait for the disk.
//!
//! Now and then the store syncs all that it has, and the journal begins again. After a loss of
//! power its content is put back into the store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use metadata::{Durability, journal};
use oci::Digest;
use tokio::sync::Notify;

use crate::{Error, Registry};

/// With so many bytes in it the journal is trimmed at once. The store takes a few times as many
/// until then.
const TRIM_BYTES: u64 = 2 << 20;

/// With less it is trimmed after this: about when a file system writes by itself.
const TRIM_AFTER: Duration = Duration::from_secs(5);

/// After a failure.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What one server does at a time: whoever puts content back has it in its place before another
/// one syncs the store and forgets it.
const LEASE: &str = "journal";

/// When it is asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Entries read in one transaction.
const PAGE: u64 = 10;

/// How much is in the journal, for whoever trims it.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    bytes: AtomicU64,
    /// Something was added.
    begun: Notify,
    /// It is time to trim.
    full: Notify,
    /// Not all of it is in the store.
    not_replayed: AtomicBool,
}

impl Journal {
    /// Counts what a transaction has added.
    pub(crate) fn count(&self, unsynced: Option<&Bytes>) {
        let Some(content) = unsynced else { return };
        let length = content.len() as u64;
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        self.begun.notify_one();
        if before + length >= TRIM_BYTES {
            self.full.notify_one();
        }
    }
}

impl Registry {
    /// Trims the journal when it is time, for ever.
    pub async fn keep_journal_short(&self) {
        let journal = &self.shared.journal;
        loop {
            journal.begun.notified().await;
            let _ = tokio::time::timeout(TRIM_AFTER, journal.full.notified()).await;
            loop {
                match self.run_alone(LEASE, Duration::ZERO, self.trim()).await {
                    Ok(Some(_)) => break,
                    Ok(None) => tokio::time::sleep(ASK_AGAIN_AFTER).await,
                    Err(error) => {
                        tracing::error!(%error, "cannot trim the journal: it is tried again");
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                }
            }
        }
    }

    /// Syncs the store and forgets what the journal has, unless another server is at it. Returns
    /// how many entries that was.
    pub async fn trim_journal(&self) -> Result<u64, Error> {
        Ok(self.run_alone(LEASE, Duration::ZERO, self.trim()).await?.unwrap_or_default())
    }

    /// Puts what the journal has into the store. Returns how many entries there were. If it fails,
    /// nothing of the journal is forgotten before it has succeeded.
    pub async fn replay_journal(&self) -> Result<u64, Error> {
        loop {
            if let Some(entries) = self.run_alone(LEASE, Duration::ZERO, self.replay()).await? {
                return Ok(entries);
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }

    /// An entry that was not there yet when `last` was read is of content that was in its place
    /// before it had its number: all up to `last` is synced, whoever pushed it, and whenever it
    /// was committed.
    async fn trim(&self) -> Result<u64, Error> {
        if self.shared.journal.not_replayed.load(Ordering::Relaxed) {
            self.replay().await?;
        }
        self.shared.journal.bytes.store(0, Ordering::Relaxed);
        let last = self.metadata().read(&(), |tx, ()| Box::pin(journal::last(tx))).await?;
        let Some(last) = last else { return Ok(0) };
        if let Err(error) = self.blobs().sync().await {
            // From now on the store syncs each content by itself.
            tracing::error!(%error, "what was pushed last is written again");
            self.replay().await?;
        }
        let trimmed = self
            .metadata()
            .write(Durability::Process, last, |tx, last| Box::pin(journal::trim(tx, *last)))
            .await?;
        Ok(trimmed)
    }

    async fn replay(&self) -> Result<u64, Error> {
        self.shared.journal.not_replayed.store(true, Ordering::Relaxed);
        let entries = self.put_back().await?;
        self.shared.journal.not_replayed.store(false, Ordering::Relaxed);
        Ok(entries)
    }

    async fn put_back(&self) -> Result<u64, Error> {
        let mut entries = 0;
        let mut last = 0;
        loop {
            let page = self
                .metadata()
                .read(&last, |tx, last| Box::pin(journal::list(tx, *last, PAGE)))
                .await?;
            for entry in &page {
                let stored = self.blobs().restore(&entry.digest, entry.content.clone()).await?;
                self.shared.journal.count(stored.unsynced.as_ref());
                entries += 1;
            }
            match page.last() {
                Some(entry) => last = entry.id,
                None => return Ok(entries),
            }
        }
    }

    /// Whether content that is not in the store will be put back there.
    pub(crate) async fn is_in_journal(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.metadata().read(digest, |tx, digest| Box::pin(journal::has(tx, digest))).await?)
    }
}
