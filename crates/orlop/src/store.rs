//! The data folder: one blob store, and the database that belongs to it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use blobs::{Blobs, Cached, ErrorKind, FileSystem, ObjectStore, Observed};
use metadata::{Metadata, Role};
use objects::Watch;
use objects::memory::Memory;
use registry::{Children, Class, LayerUrls, Owner, Platform, Registry, SharedCache};
use rustix::fs::Access;
use tempfile::TempDir;
use web::Metrics;

use crate::config::{self, Config, IndexChildren, Place, Require};
use crate::database::{self, Database, is_there};
use crate::redis::RedisCache;

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
    let place = &config.storage.place;
    let cannot_use = || format!("cannot use the store in {place}");
    let observe = metrics.storage(place.driver());
    let blobs: Arc<dyn Blobs> = match place {
        Place::Folder(root) => {
            let blobs = match config.database {
                // Others may use the folder, too.
                config::Database::Postgres { .. } => FileSystem::open_shared(root),
                _ => FileSystem::open(root),
            };
            Arc::new(Observed::new(blobs.with_context(cannot_use)?, observe))
        }
        Place::Memory => {
            let blobs = ObjectStore::new(Arc::new(Memory::new()), 0);
            Arc::new(Observed::new(blobs, observe))
        }
        Place::Bucket(bucket) => {
            let count = metrics.storage_requests(place.driver());
            let watch = Watch::new(move |method, outcome| count(method, outcome.label()));
            let objects = bucket.open(watch).with_context(cannot_use)?;
            let blobs = Observed::new(ObjectStore::new(objects, bucket.part_size), observe);
            match &config.storage.disk_cache {
                Some(cache) if role == Role::Server => {
                    let observe = metrics.disk_cache();
                    let blobs = Arc::new(blobs);
                    Arc::new(Cached::open(blobs, &cache.folder, cache.max_size, observe)?)
                }
                _ => Arc::new(blobs),
            }
        }
    };
    match blobs.check_writable().await {
        // What is there can still be pulled.
        Err(error) if error.kind() == ErrorKind::Full && database::exists(config).await? => {
            tracing::warn!(%error, "no space is left: nothing can be pushed");
        }
        checked => checked.with_context(cannot_use)?,
    }
    let database = database::open(config, role).await?;
    let cache = shared_cache(config, metrics, role)?;
    let registry = Registry::with_cache(database.metadata.clone(), blobs, rules(config)?, cache);
    if let Err(error) = prepare(&registry, config).await {
        database.leave().await;
        return Err(error);
    }
    Ok(Store { registry, database })
}

/// Makes sure that the database and the store belong together, and say the same.
async fn prepare(registry: &Registry, config: &Config) -> anyhow::Result<()> {
    belonging(registry.claim_store().await?, config)?;
    match registry.replay_journal().await {
        Err(registry::Error::Storage(error)) if error.kind() == ErrorKind::Full => {
            tracing::warn!(%error, "no space is left: what was pushed last is put back later");
        }
        replayed => drop(replayed.context("cannot put back what was pushed last")?),
    }
    Ok(())
}

/// Only what is far away is worth asking Redis for.
fn shared_cache(
    config: &Config,
    metrics: &Metrics,
    role: Role,
) -> anyhow::Result<Option<Arc<dyn SharedCache>>> {
    match (&config.redis, &config.storage.place, role) {
        (Some(redis), Place::Bucket(_), Role::Server) => {
            Ok(Some(Arc::new(RedisCache::open(redis, metrics.shared_cache())?)))
        }
        _ => Ok(None),
    }
}

/// Opens the data folder for work that no server may be running beside, and does it.
pub(crate) async fn with_idle<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Registry) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    expect_folder(config)?;
    let store = open_as(config, &Metrics::default(), Role::Alone).await?;
    let work = async {
        // Another registry may be given the folder next, and has no journal.
        if let Err(error) = store.registry.trim_journal().await {
            tracing::warn!(%error, "what was pushed last is not synced yet");
        }
        work(&store.registry).await
    };
    store.database.alone(work).await
}

/// Opens a data folder without a database to see what would come of work on it. Nothing in it is
/// changed.
pub(crate) async fn rehearse(config: &Config) -> anyhow::Result<Rehearsal> {
    expect_folder(config)?;
    let folder = database::temporary_folder()?;
    let metadata = Metadata::open_sqlite(&folder.path().join("metadata.sqlite")).await?;
    let registry = Registry::new(metadata, content(config)?, rules(config)?);
    belonging(registry.store_owner().await?, config)?;
    Ok(Rehearsal { registry, _folder: folder })
}

fn expect_folder(config: &Config) -> anyhow::Result<()> {
    match config.storage.place.folder() {
        Some(folder) if !is_there(folder)? => {
            bail!("there is no data folder {}", folder.display());
        }
        _ => Ok(()),
    }
}

/// A folder for what is of use only while it is open.
pub(crate) fn spool(config: &Config) -> PathBuf {
    let uploads = config.storage.place.folder().map(|folder| folder.join("orlop/uploads"));
    let is_writable = |path: &PathBuf| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    uploads.filter(is_writable).unwrap_or_else(std::env::temp_dir)
}

/// The content of the store, to look at it without a database.
pub(crate) fn content(config: &Config) -> anyhow::Result<Arc<dyn Blobs>> {
    Ok(match &config.storage.place {
        Place::Folder(root) => Arc::new(FileSystem::open_existing(root)),
        Place::Memory => Arc::new(ObjectStore::new(Arc::new(Memory::new()), 0)),
        Place::Bucket(bucket) => {
            Arc::new(ObjectStore::new(bucket.open(Watch::default())?, bucket.part_size))
        }
    })
}

/// Opens the store to look at it, beside a server that may be running.
pub(crate) async fn open_read_only(config: &Config) -> anyhow::Result<Registry> {
    let metadata = database::open_read_only(config).await?;
    let registry = Registry::new(metadata, content(config)?, rules(config)?);
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
        Owner::Stranger { database } => bail!(
            "the store in {} has never been used with a database, but the database {database} \
             knows of content: correct the settings of the store (or mount its folder), or take a \
             new database. If it is the right store and has lost its mark, put one there: the \
             {} orlop/owner with the text {database}",
            config.storage.place,
            if config.storage.place.folder().is_some() { "file" } else { "object" },
        ),
        Owner::Other { store, database } => bail!(
            "the database and the store in {} do not belong together: the store belongs to the \
             database {store}, and this is {database}, perhaps a new one; {} that belongs to the \
             store",
            config.storage.place,
            database::advice(config),
        ),
    }
}
