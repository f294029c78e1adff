//! `orlop import --from` and `orlop export --to`: images in files.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use layout::{Images, Inventory, InventoryWriter, Partial, Target, Writer};
use registry::{ExportImages, ImportImages, Refusal, TransferProgress};
use web::Metrics;

use crate::cli::{Export, Import};
use crate::config::Config;
use crate::database::{self, InUse};
use crate::garbage_collect::finish_adoption;
use crate::import::{count, say};
use crate::progress::{seconds, size, watch};
use crate::store::{self, Store};

/// What to do instead of an import while a server runs.
const PUSH_INSTEAD: &str = "or push the images to it: `skopeo copy --all oci-archive:FILE:NAME \
    docker://HOST/NAME` (`oci:` for a folder, `docker-archive:` for docker save)";

/// Takes the images of a folder or file in.
pub(crate) async fn import(
    config: &Config,
    import: &Import,
    from: &Path,
) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let shown = match from.to_str() {
        Some("-") if std::io::stdin().is_terminal() => {
            bail!("expected an archive on standard input, found a terminal: give a file to --from")
        }
        Some("-") => "standard input".to_owned(),
        // Before a data folder is made for nothing.
        _ => from
            .metadata()
            .map(|_| from.display().to_string())
            .with_context(|| format!("cannot read {}", from.display()))?,
    };
    // Held until the end: it has the lock of the data folder.
    let store = if import.dry_run { None } else { Some(open_store(config).await?) };
    let registry = match &store {
        Some(store) => {
            finish_adoption(&store.registry).await?;
            Some(store.registry.clone())
        }
        None if database::exists(config).await? => Some(store::open_read_only(config).await?),
        None => None,
    };
    let (path, spool) = (from.to_owned(), store::spool(config));
    let opening = tokio::task::spawn_blocking(move || Images::open(&path, &spool));
    let images = watch("images", opening, || (0, 0, String::new())).await?;
    let images = images.with_context(|| shown.clone())?;
    say(&format!("{shown}: {}", images.form()))?;

    let progress = Arc::new(TransferProgress::default());
    let work = ImportImages {
        registry,
        images: Arc::new(images),
        name: import.name.clone(),
        dry_run: import.dry_run,
        progress: Arc::clone(&progress),
    };
    watch("images", Box::pin(work.run(report)), || status(&progress)).await?;
    let verb = if import.dry_run { "would import" } else { "imported" };
    summarise(verb, &progress, started)
}

/// Opens the data folder, making what is missing.
async fn open_store(config: &Config) -> anyhow::Result<Store> {
    store::open(config, &Metrics::default()).await.map_err(|error| {
        if error.is::<InUse>() { anyhow!("{error}; {PUSH_INSTEAD}") } else { error }
    })
}

/// Whether whoever gives this name to a new folder means a file.
fn looks_like_a_file(folder: &Path) -> bool {
    let extension = folder.extension().unwrap_or_default().to_ascii_lowercase();
    !folder.is_dir() && ["tar", "tgz", "gz", "zst", "xz"].iter().any(|known| extension == *known)
}

/// Writes images into a folder or file.
pub(crate) async fn export(
    config: &Config,
    export: &Export,
    to: &Path,
) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    if to == Path::new("-") && std::io::stdout().is_terminal() {
        bail!(
            "a tar is nothing for a terminal: send standard output to a file, or give one to --to"
        );
    }
    if matches!(Target::of(to), Target::Folder(_)) && looks_like_a_file(to) {
        bail!(
            "{} would be a folder: the name of a tar ends in .tar, and it is not compressed here",
            to.display()
        );
    }
    let registry = store::open_read_only(config).await?;
    let (target, without) = (Target::of(to), export.without.clone());
    let prepare = {
        let target = target.clone();
        move || {
            let without = without.as_deref().map(Inventory::open).transpose()?;
            let writer = Writer::create(&target, without.is_none())?;
            Ok::<_, layout::Error>((without, writer))
        }
    };
    let (without, writer) = tokio::task::spawn_blocking(prepare).await??;
    let progress = Arc::new(TransferProgress::default());
    let work = ExportImages {
        registry,
        wanted: export.image.clone(),
        without,
        progress: Arc::clone(&progress),
    };
    let refuse = if target == Target::Output { report_beside } else { report };
    let what = if export.image.is_empty() { "repositories" } else { "images" };
    watch(what, Box::pin(work.run(writer, refuse)), || status(&progress)).await?;
    summarise("exported", &progress, started)
}

/// Lists what is here.
pub(crate) async fn write_inventory(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    let registry = store::open_read_only(config).await?;
    let failed = || match file.to_str() {
        Some("-") => "cannot write to standard output".to_owned(),
        _ => format!("cannot write {}", file.display()),
    };
    let count = if file == Path::new("-") {
        let mut list = InventoryWriter::new(std::io::stdout());
        let count = registry.write_inventory(&mut list).await?.with_context(failed)?;
        list.finish().and_then(|mut out| out.flush()).with_context(failed)?;
        count
    } else {
        // Half an inventory would only make a bundle larger, but nobody would know.
        let mut list = InventoryWriter::new(Partial::create(file)?);
        let count = registry.write_inventory(&mut list).await?.with_context(failed)?;
        list.finish().with_context(failed)?.commit()?;
        count
    };
    say(&format!("{count} digests"))?;
    Ok(ExitCode::SUCCESS)
}

fn status(progress: &TransferProgress) -> (u64, u64, String) {
    let more = format!(
        "{} blobs, {} manifests, {}",
        count(&progress.blobs),
        count(&progress.manifests),
        size(count(&progress.bytes))
    );
    (count(&progress.done), count(&progress.expected), more)
}

fn summarise(
    verb: &str,
    progress: &TransferProgress,
    started: Instant,
) -> anyhow::Result<ExitCode> {
    let left_out = match count(&progress.left_out) {
        0 => String::new(),
        left_out => format!(", {left_out} left out because the other side has them"),
    };
    say(&format!(
        "{verb} {}: {}, {}, {}; {} there already{left_out}; in {}",
        several(&progress.images, "image"),
        several(&progress.blobs, "blob"),
        several(&progress.manifests, "manifest"),
        size(count(&progress.bytes)),
        several(&progress.present, "blob"),
        seconds(started.elapsed()),
    ))?;
    match count(&progress.refused) {
        0 => Ok(ExitCode::SUCCESS),
        1 => say("1 refused (see above)").map(|()| ExitCode::FAILURE),
        refused => say(&format!("{refused} refused (see above)")).map(|()| ExitCode::FAILURE),
    }
}

/// `1 image`, `2 images`.
fn several(counter: &AtomicU64, what: &str) -> String {
    match count(counter) {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Writes what was refused to standard output. Whoever closed that does not want to know.
fn report(refusal: &Refusal) {
    let _ = writeln!(std::io::stdout(), "{}", describe(refusal));
}

/// The same where standard output is the archive.
fn report_beside(refusal: &Refusal) {
    let _ = writeln!(std::io::stderr(), "{}", describe(refusal));
}

fn describe(refusal: &Refusal) -> String {
    match refusal.place.as_str() {
        "" => refusal.problem.clone(),
        place => format!("{place}: {}", refusal.problem),
    }
}
