//! `orlop export`: hands the data folder back to registry:2 or registry:3.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use registry::{ExportProgress, Exported, Registry};

use crate::cli::Export;
use crate::config::Config;
use crate::import::{count, report, say};
use crate::progress::{seconds, watch};
use crate::{store, transfer};

/// Repositories that are written at once.
const PARALLEL: usize = 16;

pub(crate) async fn run(config: &Config, export: &Export) -> anyhow::Result<ExitCode> {
    if let Some(to) = &export.to {
        return transfer::export(config, export, to).await;
    }
    if let Some(file) = &export.inventory {
        return transfer::write_inventory(config, file).await;
    }
    let dry_run = export.dry_run;
    store::with_idle(config, async |registry| hand_back(registry, dry_run).await).await
}

async fn hand_back(registry: &Registry, dry_run: bool) -> anyhow::Result<ExitCode> {
    let progress = Arc::new(ExportProgress::default());
    let started = Instant::now();
    let work = registry.export_links(PARALLEL, dry_run, &progress);
    let exported = watch("repositories", work, || {
        let more = format!(
            "{} blobs copied, {} links written, {} removed",
            count(&progress.copied),
            count(&progress.written),
            count(&progress.removed)
        );
        (count(&progress.repositories), count(&progress.expected), more)
    });
    let Exported::Done(notes) = exported.await? else {
        say(
            "already exported: nothing has changed here since. What another registry has done to \
             the folder meanwhile is taken in by `orlop import`, or by `orlop serve`",
        )?;
        return Ok(ExitCode::SUCCESS);
    };
    for note in &notes {
        report(note)?;
    }
    let (copied, written, removed) = if dry_run {
        ("would copy", "would write", "would remove")
    } else {
        ("copied", "wrote", "removed")
    };
    if count(&progress.copied) > 0 {
        let blobs = count(&progress.copied);
        say(&format!("{copied} {blobs} blobs to where registry:2 looks for them"))?;
    }
    say(&format!(
        "{} repositories: {written} {} links, {removed} {}, in {}",
        count(&progress.repositories),
        count(&progress.written),
        count(&progress.removed),
        seconds(started.elapsed()),
    ))?;
    if !dry_run {
        say("registry:2 can serve this store now. Do not run both at once; `orlop serve` takes \
             over again what registry:2 makes of it")?;
    }
    Ok(ExitCode::SUCCESS)
}
