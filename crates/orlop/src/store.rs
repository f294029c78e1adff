//! The data folder: one blob store, and the database that belongs to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use blobs::{Blobs, ErrorKind, FileSystem, Observed};
use metadata::{Metadata, Role};
use registry::{Children, Class, LayerUrls, Owner, Platform, Registry};
use rustix::fs::Access;
use tempfile::TempDir;
use web::Metrics;

use crate::config::{self, Config, IndexChildren, Require};
use crate::database::{self, Database, is_there};

/// What the configuration calls this kind of store.
const DRIVER: &str = "filesystem";

/// What is said when the links that an export wrote are not there any more.
pub(crate) const LINKS_GONE: &str = "the repositories were handed back to registry:2 by an export, \
    but there are none in docker/registry/v2/repositories now: put that folder back, or start with \
    `orlop serve --no-import` to go on with what the database knows";

/// An open data folder, and the right to use it.
pub(crate) struct Store {
    pub(crate) registry: Registry,
    pub(crate) database: Database,
}

/// A data folder that has no database yet, with a temporary one that goes away with this.
pub(crate) struct Rehearsal {
    pub(crate) registry: Registry,
    _folder: TempDir,
}

/// Opens the data folder for a server, making what is missing. `metrics` has what is done with
/// blobs.
pub(crate) async fn open(config: &Config, metrics: &Metrics) -> anyhow::Result<Store> {
    open_as(config, metrics, Role::Server).await
}

async fn open_as(config: &Config, metrics: &Metrics, role: Role) -> anyhow::Result<Store> {
    let root = &config.storage.root_directory;
    let cannot_use = || format!("cannot use the data folder {}", root.display());
    let blobs = match config.database {
        config::Database::Sqlite => FileSystem::open(root),
        // Others may use the folder, too.
        config::Database::Postgres { .. } => FileSystem::open_shared(root),
    };
    let blobs = blobs.with_context(cannot_use)?;
    match blobs.check_writable().await {
        // What is there can still be pulled.
        Err(error) if error.kind() == ErrorKind::Full && root.join(database::SQLITE).is_file() => {
            tracing::warn!(%error, "no space is left: nothing can be pushed");
        }
        checked => checked.with_context(cannot_use)?,
    }
    let database = database::open(config, role).await?;
    let blobs = Observed::new(blobs, metrics.storage(DRIVER));
    let registry = Registry::new(database.metadata.clone(), Arc::new(blobs), rules(config)?);
    belonging(registry.claim_store().await?, config)?;
    match registry.replay_journal().await {
        Err(registry::Error::Storage(error)) if error.kind() == ErrorKind::Full => {
            tracing::warn!(%error, "no space is left: what was pushed last is put back later");
        }
        replayed => drop(replayed.context("cannot put back what was pushed last")?),
    }
    Ok(Store { registry, database })
}

/// Opens the data folder for work that no server may be running beside.
pub(crate) async fn open_idle(config: &Config) -> anyhow::Result<Store> {
    expect_folder(config)?;
    let store = open_as(config, &Metrics::default(), Role::Alone).await?;
    // Another registry may be given the folder next, and has no journal.
    if let Err(error) = store.registry.trim_journal().await {
        tracing::warn!(%error, "what was pushed last is not synced yet");
    }
    Ok(store)
}

/// Opens a data folder without a database to see what would come of work on it. Nothing in it is
/// changed.
pub(crate) async fn rehearse(config: &Config) -> anyhow::Result<Rehearsal> {
    let root = expect_folder(config)?;
    let folder = tempfile::Builder::new()
        .prefix("orlop-")
        .tempdir()
        .context("cannot make a temporary folder for a database")?;
    let metadata = Metadata::open_sqlite(&folder.path().join("metadata.sqlite")).await?;
    let blobs = FileSystem::open_existing(root);
    let registry = Registry::new(metadata, Arc::new(blobs), rules(config)?);
    belonging(registry.store_owner().await?, config)?;
    Ok(Rehearsal { registry, _folder: folder })
}

fn expect_folder(config: &Config) -> anyhow::Result<&Path> {
    let root = &config.storage.root_directory;
    if !is_there(root)? {
        bail!("there is no data folder {}", root.display());
    }
    Ok(root)
}

/// A folder for what is of use only while it is open.
pub(crate) fn spool(config: &Config) -> PathBuf {
    let uploads = config.storage.root_directory.join("orlop/uploads");
    let is_writable = rustix::fs::access(&uploads, Access::WRITE_OK).is_ok();
    if is_writable { uploads } else { std::env::temp_dir() }
}

/// The content of the data folder, to look at it without a database.
pub(crate) fn content(config: &Config) -> Arc<dyn Blobs> {
    Arc::new(FileSystem::open_existing(&config.storage.root_directory))
}

/// Opens the data folder to look at it, beside a server that may be running.
pub(crate) async fn open_read_only(config: &Config) -> anyhow::Result<Registry> {
    let metadata = database::open_read_only(config).await?;
    let blobs = FileSystem::open_existing(&config.storage.root_directory);
    let registry = Registry::new(metadata, Arc::new(blobs), rules(config)?);
    belonging(registry.store_owner().await?, config)?;
    Ok(registry)
}

fn rules(config: &Config) -> anyhow::Result<registry::Config> {
    let urls = config.validation.urls.as_ref();
    let urls = urls.map(|urls| LayerUrls::new(&urls.allow, &urls.deny)).transpose();
    Ok(registry::Config {
        deletes: config.storage.delete_enabled,
        read_only: config.storage.read_only,
        require_children: match &config.validation.index_children {
            IndexChildren::All => Children::All,
            IndexChildren::None => Children::None,
            IndexChildren::Platforms(list) => Children::Of(list.iter().map(platform).collect()),
        },
        require_blobs: config.validation.image_blobs == Require::All,
        layer_urls: urls.context("validation.manifests.urls")?,
        classes: config.repository_classes.iter().map(|name| class(name)).collect(),
    })
}

fn platform(platform: &config::Platform) -> Platform {
    Platform { os: platform.os.clone(), architecture: platform.architecture.clone() }
}

/// The configuration has no other names.
fn class(name: &str) -> Class {
    if name.eq_ignore_ascii_case("plugin") { Class::Plugin } else { Class::Image }
}

/// Fails if database and store do not belong together.
fn belonging(owner: Owner, config: &Config) -> anyhow::Result<()> {
    match owner {
        Owner::Same | Owner::Nobody => Ok(()),
        Owner::Other { store, database } => bail!(
            "the database and the store in {} do not belong together: the store belongs to the \
             database {store}, and this is {database}, perhaps a new one; {} that belongs to the \
             store",
            config.storage.root_directory.display(),
            database::advice(config),
        ),
    }
}
