//! Purge: uploads that nobody has written to for a long time are removed.

use blobs::UploadId;
use metadata::uploads;

use crate::{Error, Registry, clock};

/// Sessions looked at in one transaction.
const PAGE: u64 = 100;

/// What a purge removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Purged {
    /// Sessions.
    pub sessions: u64,
    /// Files that belonged to no session: left by a process that was killed.
    pub strays: u64,
}

impl Registry {
    /// Removes the uploads that were last written to over `age_seconds` ago.
    pub async fn purge_uploads(&self, age_seconds: u64) -> Result<Purged, Error> {
        let mut purged = Purged::default();
        let age = i64::try_from(age_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let before = clock::now().saturating_sub(age);
        loop {
            let idle = self
                .metadata()
                .read(&before, |tx, before| Box::pin(uploads::idle_since(tx, *before, PAGE)))
                .await?;
            let mut removed = 0;
            for id in &idle {
                // Whoever is writing to it right now, or was a moment ago, proves that it is not.
                let Some(_turn) = self.shared.sessions.try_turn(id) else {
                    continue;
                };
                let still_idle = self
                    .metadata()
                    .read(&(id, before), |tx, (id, before)| {
                        Box::pin(uploads::is_idle_since(tx, id, *before))
                    })
                    .await?;
                if still_idle {
                    self.forget_upload(id).await?;
                    removed += 1;
                }
            }
            purged.sessions += removed;
            if removed == 0 || (idle.len() as u64) < PAGE {
                break;
            }
        }
        for id in self.blobs().stale_uploads(age_seconds).await? {
            if !self.has_session(id).await? {
                self.blobs().abort(id).await?;
                purged.strays += 1;
            }
        }
        Ok(purged)
    }

    async fn has_session(&self, id: UploadId) -> Result<bool, Error> {
        let id = id.to_string();
        let exists = self.metadata().read(&id, |tx, id| Box::pin(uploads::exists(tx, id))).await?;
        Ok(exists)
    }
}
