//! A look at what an adoption would do, without a database.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use blobs::Blobs;
use metadata::adoption::Finding;
use oci::RepositoryName;
use tokio::task::JoinSet;

use super::AdoptionProgress;
use super::read::RepositoryReader;
use crate::Error;

/// Reads every link and every manifest of a store, up to `parallel` repositories at once, and
/// returns what is odd. Nothing is written. With `since`, in microseconds since 1970, only what
/// was written later is looked at.
pub async fn survey(
    blobs: Arc<dyn Blobs>,
    since: Option<i64>,
    parallel: usize,
    progress: &Arc<AdoptionProgress>,
) -> Result<Vec<Finding>, Error> {
    let Some(links) = blobs.links() else {
        return Ok(Vec::new());
    };
    let walk = links.repositories().await?;
    progress.expected.store(walk.found.len() as u64, Ordering::Relaxed);
    progress.uploads.store(walk.found.iter().map(|found| found.uploads).sum(), Ordering::Relaxed);
    let unreadable = walk.unreadable.iter().map(ToString::to_string);
    let strange = walk.strange.into_iter().chain(unreadable);
    let mut findings =
        strange.map(|problem| Finding { place: String::new(), problem }).collect::<Vec<_>>();
    let mut running = JoinSet::new();
    for found in walk.found {
        if running.len() >= parallel.max(1)
            && let Some(done) = running.join_next().await
        {
            findings.extend(done.map_err(|_| Error::Interrupted)?);
        }
        let (blobs, progress) = (Arc::clone(&blobs), Arc::clone(progress));
        running.spawn(async move {
            let findings = survey_repository(&*blobs, &found.name, since, &progress).await;
            progress.repositories.fetch_add(1, Ordering::Relaxed);
            findings
        });
    }
    while let Some(done) = running.join_next().await {
        findings.extend(done.map_err(|_| Error::Interrupted)?);
    }
    findings.sort_by(|one, other| one.place.cmp(&other.place));
    Ok(findings)
}

async fn survey_repository(
    blobs: &dyn Blobs,
    name: &RepositoryName,
    since: Option<i64>,
    progress: &AdoptionProgress,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(links) = blobs.links() else {
        return findings;
    };
    let finding = |problem| Finding { place: name.to_string(), problem };
    let mut reader = RepositoryReader::new(blobs, links, name, since, Vec::new());
    loop {
        match reader.next().await {
            Ok(Some(batch)) => {
                progress.count(&batch);
                findings.extend(batch.problems.into_iter().map(finding));
            }
            Ok(None) => return findings,
            Err(error) => {
                findings.push(finding(format!("it can not be imported: {error}")));
                return findings;
            }
        }
    }
}
