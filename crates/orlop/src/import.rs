//! `orlop import`: takes over the repositories of registry:2 or registry:3, before the first
//! start.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use registry::{Adoption, AdoptionFinding, AdoptionProgress, Registry};

use crate::cli::Import;
use crate::config::Config;
use crate::progress::{seconds, watch};
use crate::{database, store, transfer};

/// Repositories that are read at once: enough that the database always has something to write.
const PARALLEL: usize = 128;

/// Findings read at once.
const PAGE: u64 = 1000;

pub(crate) async fn run(config: &Config, import: &Import) -> anyhow::Result<ExitCode> {
    if let Some(from) = &import.from {
        return transfer::import(config, import, from).await;
    }
    if import.dry_run {
        return survey(config, import.again).await;
    }
    store::with_idle(config, async |registry| adopt(registry, import.again).await).await
}

async fn adopt(registry: &Registry, again: bool) -> anyhow::Result<ExitCode> {
    match registry.begin_adoption(again).await? {
        Adoption::Nothing => {
            say("nothing to import: the data folder has no repositories of registry:2 or \
                 registry:3")?;
            return Ok(ExitCode::SUCCESS);
        }
        Adoption::Done(_) => {
            return already_imported(registry).await;
        }
        Adoption::LinksGone => bail!("{}", store::LINKS_GONE),
        Adoption::Begun { resumed: true } => say("going on with an import that was cut short")?,
        Adoption::Begun { resumed: false } => {}
    }
    let progress = Arc::new(AdoptionProgress::default());
    let started = Instant::now();
    let done =
        watch("repositories", registry.adopt_all(PARALLEL, &progress), || status(&progress)).await;
    let findings = list_findings(registry).await?;
    done.context("not everything could be read; mend this and run the import again")?;
    summarise("imported", &progress, findings, started)?;
    Ok(ExitCode::SUCCESS)
}

async fn already_imported(registry: &Registry) -> anyhow::Result<ExitCode> {
    list_findings(registry).await?;
    say("already imported: the link files are not read again. If registry:2 has been started on \
         this folder since, and was not stopped by an export before, `orlop import --again` adds \
         what it has written")?;
    Ok(ExitCode::SUCCESS)
}

async fn survey(config: &Config, again: bool) -> anyhow::Result<ExitCode> {
    let mut since = None;
    if database::exists(config).await? {
        let registry = store::open_read_only(config).await?;
        since = registry.adopted_at().await?;
        if since.is_some() && !again {
            return already_imported(&registry).await;
        }
    }
    let progress = Arc::new(AdoptionProgress::default());
    let started = Instant::now();
    let blobs = store::content(config)?;
    let findings =
        watch("repositories", registry::survey(blobs, since, PARALLEL, &progress), || {
            status(&progress)
        })
        .await?;
    for finding in &findings {
        report(finding)?;
    }
    summarise("would import", &progress, findings.len() as u64, started)?;
    Ok(ExitCode::SUCCESS)
}

fn status(progress: &AdoptionProgress) -> (u64, u64, String) {
    let more =
        format!("{} manifests, {} blobs", count(&progress.manifests), count(&progress.blobs));
    (count(&progress.repositories), count(&progress.expected), more)
}

fn summarise(
    verb: &str,
    progress: &AdoptionProgress,
    findings: u64,
    started: Instant,
) -> anyhow::Result<()> {
    let uploads = count(&progress.uploads);
    if uploads > 0 {
        say(&format!(
            "left out: {uploads} uploads in progress, which clients have to begin again. Their bytes \
             stay in the folders _uploads below docker/registry/v2/repositories, which nothing \
             needs any more: docs/migrate.md says how to remove them"
        ))?;
    }
    say(&format!(
        "{verb} {} repositories with {} tags, {} manifests and {} links to blobs in {}: {}",
        count(&progress.repositories),
        count(&progress.tags),
        count(&progress.manifests),
        count(&progress.blobs),
        seconds(started.elapsed()),
        match findings {
            0 => "nothing odd".to_owned(),
            1 => "1 oddity (see above)".to_owned(),
            count => format!("{count} oddities (see above)"),
        }
    ))
}

/// What is odd goes to standard output, a line each; how many lines.
async fn list_findings(registry: &Registry) -> anyhow::Result<u64> {
    let (mut last, mut listed) = (0, 0);
    loop {
        let page = registry.adoption_findings(last, PAGE).await?;
        let Some((number, _)) = page.last() else { return Ok(listed) };
        last = *number;
        listed += page.len() as u64;
        for (_, finding) in &page {
            report(finding)?;
        }
    }
}

/// Writes a finding to standard output.
pub(crate) fn report(finding: &AdoptionFinding) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = match finding.place.as_str() {
        "" => writeln!(out, "{}", finding.problem),
        place => writeln!(out, "{place}: {}", finding.problem),
    };
    match written {
        // The work goes on when nobody reads of it any more.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Writes a line to standard error.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "{line}")?)
}

pub(crate) fn count(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}
