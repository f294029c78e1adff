//! Purge: uploads that nobody has written to for a long time are removed.

use blobs::UploadId;
use metadata::uploads::{self, Taken};
use metadata::{Durability, leases};

use crate::{Error, Registry, clock};

/// Sessions looked at in one transaction.
const PAGE: u64 = 100;

/// Younger files are left alone where there are other servers.
const SHARED_STRAY_SECONDS: u64 = 3600;

/// What a purge removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Purged {
    /// Sessions.
    pub sessions: u64,
    /// Files that belonged to no session: left by a process that was killed.
    pub strays: u64,
}

/// An upload that nobody went on with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdleUpload {
    /// Its name.
    pub id: String,
    /// Seconds since it was begun; `None` if its name does not say.
    pub age_seconds: Option<u64>,
    /// Whether it is only a file, which belongs to no session.
    pub is_stray: bool,
}

impl IdleUpload {
    fn new(id: String, is_stray: bool) -> Self {
        let begun = id.parse::<UploadId>().ok().and_then(|id| id.get_timestamp());
        let now = u64::try_from(clock::now() / 1_000_000).unwrap_or_default();
        let age_seconds = begun.map(|begun| now.saturating_sub(begun.to_unix().0));
        Self { id, age_seconds, is_stray }
    }
}

impl Registry {
    /// Removes the uploads that were last written to over `age_seconds` ago.
    pub async fn purge_uploads(&self, age_seconds: u64) -> Result<Purged, Error> {
        let mut purged = Purged::default();
        let before = idle_before(age_seconds);
        loop {
            let idle = self
                .metadata()
                .read(&before, |tx, before| Box::pin(uploads::idle_since(tx, *before, PAGE)))
                .await?;
            let mut removed = 0;
            for id in idle.iter().cloned() {
                removed += u64::from(self.purge_session(id, before).await?);
            }
            purged.sessions += removed;
            if removed == 0 || (idle.len() as u64) < PAGE {
                break;
            }
        }
        for id in self.blobs().stale_uploads(self.stray_after(age_seconds)).await? {
            // A request may be writing to it again.
            let Some(_turn) = self.shared.sessions.try_turn(&id.to_string()) else {
                continue;
            };
            if !self.has_session(id).await? {
                self.blobs().abort(id, None).await?;
                purged.strays += 1;
            }
        }
        if self.metadata().is_shared() {
            self.metadata()
                .write(Durability::Process, (), |tx, ()| Box::pin(leases::forget_ended(tx)))
                .await?;
        }
        Ok(purged)
    }

    /// Removes a session if nothing was written to it since `before`, and nobody is about to.
    async fn purge_session(&self, id: String, before: i64) -> Result<bool, Error> {
        // Whoever is writing to it right now, or was a moment ago, proves that it is not idle.
        let Some(_turn) = self.shared.sessions.try_turn(&id) else {
            return Ok(false);
        };
        if self.metadata().is_shared() {
            return self.purge_shared(id, before).await;
        }
        let still_idle = self
            .metadata()
            .read(&(&id, before), |tx, (id, before)| {
                Box::pin(uploads::is_idle_since(tx, id, *before))
            })
            .await?;
        if still_idle {
            self.forget_upload(&id).await?;
        }
        Ok(still_idle)
    }

    /// The same, among the requests of all servers.
    async fn purge_shared(&self, id: String, before: i64) -> Result<bool, Error> {
        let turn = self.shared.replica.next_turn();
        let removed = self
            .metadata()
            .write(Durability::Process, (id, before, turn), |tx, (id, before, turn)| {
                Box::pin(async move {
                    if !uploads::is_idle_since(tx, id, *before).await? {
                        return Ok::<_, metadata::Error>(None);
                    }
                    let Some(Taken::Free(upload) | Taken::Abandoned(upload)) =
                        uploads::take(tx, id, None, turn).await?
                    else {
                        return Ok(None);
                    };
                    uploads::delete(tx, id, turn).await?;
                    let called = if upload.store_id.is_empty() { id } else { &upload.store_id };
                    Ok(Some((called.clone(), upload.store_state)))
                })
            })
            .await?;
        let Some((called, state)) = removed else { return Ok(false) };
        if let Ok(upload) = called.parse() {
            self.blobs().abort(upload, Some(&state)).await?;
        }
        Ok(true)
    }

    /// For how many seconds nothing was written to what is taken for a stray: what a request of
    /// another server brings may be in no session.
    fn stray_after(&self, age_seconds: u64) -> u64 {
        let least = if self.metadata().is_shared() { SHARED_STRAY_SECONDS } else { 0 };
        age_seconds.max(least)
    }

    /// What [`purge_uploads`](Self::purge_uploads) would remove, the longest begun first: at most
    /// `limit` of each kind.
    pub async fn list_idle_uploads(
        &self,
        age_seconds: u64,
        limit: u64,
    ) -> Result<Vec<IdleUpload>, Error> {
        let input = (idle_before(age_seconds), limit);
        let sessions = self
            .metadata()
            .read(&input, |tx, (before, limit)| Box::pin(uploads::idle_since(tx, *before, *limit)))
            .await?;
        let mut idle: Vec<IdleUpload> =
            sessions.into_iter().map(|id| IdleUpload::new(id, false)).collect();
        let mut strays = 0;
        for id in self.blobs().stale_uploads(self.stray_after(age_seconds)).await? {
            if strays < limit && !self.has_session(id).await? {
                idle.push(IdleUpload::new(id.to_string(), true));
                strays += 1;
            }
        }
        idle.sort_by_key(|upload| std::cmp::Reverse(upload.age_seconds));
        Ok(idle)
    }

    pub(crate) async fn has_session(&self, id: UploadId) -> Result<bool, Error> {
        let id = id.to_string();
        let exists = self.metadata().read(&id, |tx, id| Box::pin(uploads::exists(tx, id))).await?;
        Ok(exists)
    }
}

/// The time before which an upload of this age was written to, in microseconds.
fn idle_before(age_seconds: u64) -> i64 {
    let age = i64::try_from(age_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    clock::now().saturating_sub(age)
}
