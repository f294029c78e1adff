//! `orlop garbage-collect`: gives back the space of what nothing needs.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use registry::{Adoption, AdoptionProgress, Registry};

use crate::cli::GarbageCollect;
use crate::config::Config;
use crate::store;

/// Repositories whose links are read at once.
const PARALLEL: usize = 16;

pub(crate) async fn run(config: &Config, asked: &GarbageCollect) -> anyhow::Result<ExitCode> {
    let store = store::open_idle(config).await?;
    finish_adoption(&store.registry).await?;
    let found = store.registry.collect_garbage(asked.delete_untagged, asked.dry_run).await?;
    if found.is_unknown {
        bail!(
            "the database knows nothing of the {} blobs in the store, so it is not the one that \
             they came with; nothing was removed. Put that database back, or remove the folder \
             docker/registry/v2/blobs if nobody needs them",
            found.blobs.len()
        );
    }
    let bytes: u64 = found.blobs.iter().map(|blob| blob.size).sum();
    let mut out = std::io::stdout().lock();
    if !asked.quiet {
        for (repository, digest) in &found.manifests {
            writeln!(out, "manifest eligible for deletion: {repository}@{digest}")?;
        }
        for blob in &found.blobs {
            writeln!(out, "blob eligible for deletion: {}", blob.digest)?;
        }
    }
    let verb = if asked.dry_run { "would be given back" } else { "given back" };
    writeln!(
        out,
        "{} blobs marked, {} blobs and {} manifests eligible for deletion: {bytes} bytes {verb}",
        found.used,
        found.blobs.len(),
        found.manifests.len(),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the link files of another registry, if they wait for that. What only they know of would be
/// taken for garbage, and what they do not know of for deleted.
pub(crate) async fn finish_adoption(registry: &Registry) -> anyhow::Result<()> {
    match registry.begin_adoption(false).await? {
        Adoption::Nothing | Adoption::Done(_) => Ok(()),
        Adoption::LinksGone => bail!("{}", store::LINKS_GONE),
        Adoption::Begun { .. } => registry
            .adopt_all(PARALLEL, &Arc::new(AdoptionProgress::default()))
            .await
            .context("not all repositories of registry:2 could be read, so nothing was done"),
    }
}
