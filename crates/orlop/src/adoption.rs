//! Taking over the repositories of registry:2 while the server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use registry::{Adoption, AdoptionProgress, Registry};

use crate::store;

/// Repositories that are adopted at once behind the requests: few, so that these come first.
const ADOPT_AT_ONCE: usize = 4;

/// How often a running adoption says how far it is.
const ADOPTION_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// When an adoption that could not read everything is tried again.
const ADOPTION_RETRY: Duration = Duration::from_mins(1);

/// Findings that are logged; the rest is counted.
const MAX_LOGGED_FINDINGS: usize = 100;

/// Takes over what registry:2 has left in the data folder: each repository at the first request
/// for it, the rest in the background.
pub(crate) async fn begin(registry: &Registry, import: bool) -> anyhow::Result<()> {
    if !import {
        if registry.skip_adoption().await? {
            tracing::warn!(
                "the data folder has repositories of registry:2, which are not served (--no-import)"
            );
        }
        return Ok(());
    }
    match registry.begin_adoption(false).await? {
        Adoption::Nothing | Adoption::Done(_) => return Ok(()),
        Adoption::LinksGone => bail!("{}", store::LINKS_GONE),
        Adoption::Begun { resumed } => tracing::info!(
            resumed,
            "found repositories of registry:2 in the data folder: they are served from now on, and \
             their links are read into the database"
        ),
    }
    tokio::spawn(adopt_in_background(registry.clone()));
    Ok(())
}

async fn adopt_in_background(registry: Registry) {
    let progress = Arc::new(AdoptionProgress::default());
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    loop {
        let log = |message| {
            tracing::info!(
                repositories = count(&progress.repositories),
                of = count(&progress.expected),
                manifests = count(&progress.manifests),
                blobs = count(&progress.blobs),
                tags = count(&progress.tags),
                "{message}"
            );
        };
        let adopting = registry.adopt_all(ADOPT_AT_ONCE, &progress);
        tokio::pin!(adopting);
        let mut due = tokio::time::interval(ADOPTION_LOG_INTERVAL);
        due.tick().await;
        let adopted = loop {
            tokio::select! {
                adopted = &mut adopting => break adopted,
                _ = due.tick() => log("import under way"),
            }
        };
        match adopted {
            Ok(()) => {
                log("import done");
                break;
            }
            Err(error) => {
                tracing::error!(%error, retry = ?ADOPTION_RETRY, "the import is not complete");
                tokio::time::sleep(ADOPTION_RETRY).await;
            }
        }
    }
    if count(&progress.uploads) > 0 {
        tracing::info!(uploads = count(&progress.uploads), "uploads in progress were left out");
    }
    log_findings(&registry).await;
}

/// Says what was odd, the first few in full.
async fn log_findings(registry: &Registry) {
    let Ok(findings) = registry.adoption_findings(0, MAX_LOGGED_FINDINGS as u64 + 1).await else {
        return;
    };
    for (_, finding) in findings.iter().take(MAX_LOGGED_FINDINGS) {
        tracing::warn!(repository = %finding.place, "import: {}", finding.problem);
    }
    if findings.len() > MAX_LOGGED_FINDINGS {
        tracing::warn!(
            "import: there is more; `orlop import` lists it when this server is stopped"
        );
    }
}
