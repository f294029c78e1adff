//! `orlop garbage-collect`: gives back the space of what nothing needs.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use registry::{Adoption, AdoptionProgress, Garbage, Registry};

use crate::cli::GarbageCollect;
use crate::config::Config;
use crate::import::{count, say};
use crate::{database, store};

/// Repositories whose links are read at once.
const PARALLEL: usize = 16;

pub(crate) async fn run(config: &Config, asked: &GarbageCollect) -> anyhow::Result<ExitCode> {
    let untagged = asked.delete_untagged;
    let found = if asked.dry_run {
        rehearse(config, untagged).await?
    } else {
        collect(config, untagged).await?
    };
    if found.is_unknown {
        bail!(
            "the database knows nothing of the {} blobs in the store, so it is not the one that \
             they came with; nothing was removed. Put that database back, or remove the folder \
             docker/registry/v2/blobs (in an object store orlop/blobs, too) if nobody needs them",
            found.blobs.len() + found.strays.len()
        );
    }
    let of_strays: u64 = found.strays.iter().map(|stray| stray.size).sum();
    let bytes = found.blobs.iter().map(|blob| blob.size).sum::<u64>() + of_strays;
    let mut out = std::io::stdout().lock();
    if !asked.quiet {
        for (repository, digest) in &found.manifests {
            writeln!(out, "manifest eligible for deletion: {repository}@{digest}")?;
        }
        for blob in &found.blobs {
            writeln!(out, "blob eligible for deletion: {}", blob.digest)?;
        }
        for stray in &found.strays {
            writeln!(out, "remains of a push eligible for deletion: {}", stray.location)?;
        }
    }
    let remains = match found.strays.len() {
        0 => String::new(),
        count => format!(" and {count} remains of pushes that were cut off"),
    };
    let verb = if asked.dry_run { "would be given back" } else { "given back" };
    writeln!(
        out,
        "{} blobs marked, {} blobs and {} manifests{remains} eligible for deletion: {bytes} bytes \
         {verb}",
        found.used,
        found.blobs.len(),
        found.manifests.len(),
    )?;
    Ok(ExitCode::SUCCESS)
}

async fn collect(config: &Config, untagged: bool) -> anyhow::Result<Garbage> {
    store::with_idle(config, async |registry| {
        finish_adoption(registry).await?;
        Ok(registry.collect_garbage(untagged, false).await?)
    })
    .await
}

/// Says what would be removed. That must not begin to take over repositories of registry:2, which
/// from then on would not count any more.
async fn rehearse(config: &Config, untagged: bool) -> anyhow::Result<Garbage> {
    if !database::exists(config).await? {
        let rehearsal = store::rehearse(config).await?;
        adopt(&rehearsal.registry).await?;
        return Ok(rehearsal.registry.collect_garbage(untagged, true).await?);
    }
    store::with_idle(config, async |registry| {
        if registry.awaits_adoption().await? {
            bail!(
                "not all repositories of registry:2 are taken over yet, and a dry run does not do \
                 it: run `orlop import` first"
            );
        }
        Ok(registry.collect_garbage(untagged, true).await?)
    })
    .await
}

/// Takes over what another registry has left, if that waits, and says so. What only its link files
/// know of would be taken for garbage, and what they do not know of for deleted.
pub(crate) async fn finish_adoption(registry: &Registry) -> anyhow::Result<()> {
    let adopted = adopt(registry).await?;
    if adopted > 0 {
        say(&format!("took over the repositories of registry:2 first: {adopted}"))?;
    }
    Ok(())
}

/// Reads the link files of another registry, if they wait for that. How many repositories it were.
async fn adopt(registry: &Registry) -> anyhow::Result<u64> {
    match registry.begin_adoption(false).await? {
        Adoption::Nothing | Adoption::Done(_) => return Ok(0),
        Adoption::LinksGone => bail!("{}", store::LINKS_GONE),
        Adoption::Begun { .. } => {}
    }
    let progress = Arc::new(AdoptionProgress::default());
    registry
        .adopt_all(PARALLEL, &progress)
        .await
        .context("not all repositories of registry:2 could be read, so nothing was done")?;
    Ok(count(&progress.repositories))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use oci::Digest;

    use super::*;
    use crate::config::Mode;

    /// A store of registry:2 with an image, and a blob that nothing needs: its digest.
    fn store_of_registry_2(root: &Path) -> (Config, Digest) {
        let write = |path: String, content: &[u8]| {
            let path = root.join("docker/registry/v2").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let data =
            |digest: &Digest| format!("blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            oci::media_type::OCI_INDEX
        );
        let digest = Digest::sha256(manifest.as_bytes());
        write(data(&digest), manifest.as_bytes());
        let link = digest.to_string();
        let manifests = "repositories/app/_manifests";
        write(format!("{manifests}/revisions/sha256/{}/link", digest.hex()), link.as_bytes());
        write(format!("{manifests}/tags/v1/current/link"), link.as_bytes());
        let loose = Digest::sha256(b"loose");
        write(data(&loose), b"loose");
        let file = root.join("c.yml");
        let text = format!("version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}");
        std::fs::write(&file, text).unwrap();
        let loaded = Config::load(Some(&file), std::iter::empty(), Mode::Lenient).unwrap();
        (loaded.config, loose)
    }

    fn files(root: &Path) -> Vec<PathBuf> {
        let mut found = vec![root.to_owned()];
        let mut next = 0;
        while let Some(folder) = found.get(next).cloned() {
            let entries = std::fs::read_dir(folder).into_iter().flatten();
            found.extend(entries.map(|entry| entry.unwrap().path()));
            next += 1;
        }
        found.sort();
        found
    }

    #[tokio::test]
    async fn a_dry_run_takes_nothing_over() {
        let folder = tempfile::tempdir().unwrap();
        let (config, loose) = store_of_registry_2(folder.path());
        let before = files(folder.path());
        let found = rehearse(&config, false).await.unwrap();
        assert_eq!(found.blobs.iter().map(|blob| blob.digest).collect::<Vec<_>>(), [loose]);
        assert_eq!(found.used, 1);
        assert_eq!(files(folder.path()), before);

        // With a database that has not taken everything over.
        store::with_idle(&config, async |_| Ok(())).await.unwrap();
        let refused = rehearse(&config, false).await.unwrap_err().to_string();
        assert!(refused.contains("orlop import"), "{refused}");
        let adopted = store::with_idle(&config, async |registry| {
            registry.begin_adoption(false).await.unwrap();
            assert!(registry.awaits_adoption().await.unwrap(), "it was cut short");
            adopt(registry).await
        });
        assert_eq!(adopted.await.unwrap(), 1);
        let found = rehearse(&config, false).await.unwrap();
        assert_eq!(found.blobs.len(), 1);
    }
}
