//! Upload purging: what pushes that were given up left behind goes after a time.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use registry::{Purged, Registry};

use crate::config::UploadPurging;

/// What all servers of a database call this.
const JOB: &str = "upload purging";

/// The longest wait before the first run. Servers that are started together do not all go through
/// the same store at once.
const FIRST_WITHIN: Duration = Duration::from_hours(1);

/// Uploads that a dry run lists, of each kind.
const MAX_LISTED: u64 = 10_000;

/// Looks for such uploads now and then, for ever.
pub(crate) async fn run(registry: Registry, purging: UploadPurging) {
    let interval = purging.interval.max(Duration::from_secs(1));
    tokio::time::sleep(random_below(interval.min(FIRST_WITHIN))).await;
    let mut due = tokio::time::interval(interval);
    loop {
        due.tick().await;
        once(&registry, purging).await;
    }
}

async fn once(registry: &Registry, purging: UploadPurging) {
    let age = purging.age.as_secs();
    // Whoever looks after the store wants nobody to write to it.
    if registry.is_read_only() {
        return;
    }
    let job = async {
        if purging.dry_run { list(registry, age).await } else { remove(registry, age).await }
    };
    // Of several servers it is enough if one does it when it is due.
    let pause = purging.interval / 2;
    if let Err(error) = registry.run_alone(JOB, pause, job).await {
        tracing::error!(%error, "cannot remove old uploads");
    }
}

async fn remove(registry: &Registry, age: u64) -> Result<(), registry::Error> {
    let purged = registry.purge_uploads(age).await?;
    if purged != Purged::default() {
        tracing::info!(
            sessions = purged.sessions,
            strays = purged.strays,
            "removed uploads that nobody went on with"
        );
    }
    Ok(())
}

async fn list(registry: &Registry, age: u64) -> Result<(), registry::Error> {
    let idle = registry.list_idle_uploads(age, MAX_LISTED).await?;
    for upload in &idle {
        tracing::info!(
            upload = upload.id,
            begun_seconds_ago = upload.age_seconds,
            stray = upload.is_stray,
            "would remove an upload that nobody went on with"
        );
    }
    tracing::info!(uploads = idle.len(), "uploadpurging.dryrun: nothing was removed");
    Ok(())
}

/// A random time from zero up to `limit`.
fn random_below(limit: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(random % limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_run_is_within_the_limit_and_not_always_at_once() {
        let limit = Duration::from_hours(1);
        let waits: Vec<Duration> = (0..20).map(|_| random_below(limit)).collect();
        assert!(waits.iter().all(|wait| *wait < limit), "{waits:?}");
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]), "{waits:?}");
        assert_eq!(random_below(Duration::ZERO), Duration::ZERO);
    }
}
