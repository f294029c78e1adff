//! Where the facts are: SQLite below the data folder, or PostgreSQL.
//!
//! A server must know who else uses the same data. With SQLite nobody may: it locks the folder.
//! Servers on PostgreSQL may share a folder; they and the commands that must not run beside them
//! tell each other through the database.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use metadata::{Metadata, Presence, Role};
use tempfile::TempDir;

use crate::config::{self, Config};

/// Where the SQLite database is, below the data folder, unless the configuration says otherwise.
const SQLITE: &str = "orlop/metadata.sqlite";

/// Held while a server runs.
const LOCK: &str = "orlop/lock";

/// Why a server has ended by itself.
pub(crate) const LOST: &str = "a command has used the database alone while this server was cut off \
    from it: start it again";

/// Why a command that must be alone has ended by itself.
const NOT_ALONE: &str = "the connection to the database that kept servers away from it was lost, so \
    the command has stopped halfway: run it again";

/// Somebody else uses the data in a way that this does not go with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InUse {
    /// The lock of the folder is held.
    #[error(
        "another server is using the data folder {}: stop it, or choose another folder with \
         REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", .0.display()
    )]
    Folder(PathBuf),
    /// The lock of the SQLite file is held.
    #[error(
        "another server is using the database {}: stop it, or choose another database with \
         REGISTRY_DATABASE_URL", .0.display()
    )]
    File(PathBuf),
    /// A server runs beside a command that has to be alone.
    #[error("another server is using the database {0}: stop all servers that use it")]
    ByServers(String),
    /// Such a command runs.
    #[error(
        "a command that must not run beside servers is using the database {0}: wait for its end"
    )]
    ByCommand(String),
}

/// An open database, and the right to use it, which ends when this is dropped.
pub(crate) struct Database {
    pub(crate) metadata: Metadata,
    presence: Presence,
    _lock: Option<File>,
    /// Where a temporary one is.
    _folder: Option<TempDir>,
}

impl Database {
    /// Returns when another program may have used the database alone meanwhile: this one must end.
    pub(crate) async fn lost(&self) {
        self.presence.lost().await;
    }

    /// Says that a command has ended that uses the database alone.
    pub(crate) async fn leave(&self) {
        self.presence.leave().await;
    }

    /// Does the work of a command that uses the database alone, and gives it up when that may not
    /// be so any more.
    pub(crate) async fn alone<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let done = tokio::select! {
            done = work => done,
            () = self.lost() => bail!("{NOT_ALONE}"),
        };
        self.leave().await;
        done
    }
}

/// Opens the database of the configuration, and makes or brings up to date its tables.
pub(crate) async fn open(config: &Config, role: Role) -> anyhow::Result<Database> {
    match &config.database {
        config::Database::Sqlite(file) => {
            let lock = take_lock(config, Lock::Alone)?;
            let metadata = Metadata::open_sqlite(file).await?;
            enter(metadata, role, "", lock).await
        }
        config::Database::Temporary => {
            let folder = temporary_folder()?;
            let metadata = Metadata::open_sqlite(&folder.path().join("metadata.sqlite")).await?;
            let database = enter(metadata, role, "", None).await?;
            Ok(Database { _folder: Some(folder), ..database })
        }
        config::Database::Postgres { .. } => {
            // A server with SQLite must not run on this folder.
            let lock = take_lock(config, Lock::Shared)?;
            let address = config.database.address()?.context("database.url")?;
            let metadata = Metadata::open_postgres(&address).await?;
            enter(metadata, role, &address.to_string(), lock).await
        }
    }
}

/// A folder for a database that nobody needs later.
pub(crate) fn temporary_folder() -> anyhow::Result<TempDir> {
    let made = tempfile::Builder::new().prefix("orlop-").tempdir();
    made.context("cannot make a temporary folder for a database")
}

/// The lock of the data folder, or else that of the SQLite file, if there is either.
fn take_lock(config: &Config, kind: Lock) -> anyhow::Result<Option<File>> {
    let (path, in_use) = match (config.storage.place.folder(), &config.database) {
        (Some(folder), _) => (folder.join(LOCK), InUse::Folder(folder.to_owned())),
        (None, config::Database::Sqlite(file)) => {
            (file.with_added_extension("lock"), InUse::File(file.clone()))
        }
        (None, _) => return Ok(None),
    };
    Ok(Some(lock(&path, kind)?.ok_or(in_use)?))
}

async fn enter(
    metadata: Metadata,
    role: Role,
    place: &str,
    lock: Option<File>,
) -> anyhow::Result<Database> {
    match metadata.enter(role).await? {
        Some(presence) => Ok(Database { metadata, presence, _lock: lock, _folder: None }),
        None if role == Role::Server => Err(InUse::ByCommand(place.to_owned()).into()),
        None => Err(InUse::ByServers(place.to_owned()).into()),
    }
}

/// Opens the database to look at it, beside servers that may be running.
pub(crate) async fn open_read_only(config: &Config) -> anyhow::Result<Metadata> {
    if let Some(address) = config.database.address()? {
        return Ok(Metadata::open_postgres_as_is(&address).await?);
    }
    Ok(Metadata::open_sqlite_read_only(existing(config)?).await?)
}

/// The same, whatever version has made it.
pub(crate) async fn look_at(config: &Config) -> anyhow::Result<Metadata> {
    if let Some(address) = config.database.address()? {
        return Ok(Metadata::look_at_postgres(&address).await?);
    }
    Ok(Metadata::look_at_sqlite(existing(config)?)?)
}

/// The file of SQLite's database, which must be there.
fn existing(config: &Config) -> anyhow::Result<&Path> {
    match &config.database {
        config::Database::Sqlite(file) if is_there(file)? => Ok(file),
        config::Database::Sqlite(file) => {
            let place = &config.storage.place;
            bail!("there is no registry in {place}: expected {}", file.display())
        }
        _ => bail!("there is no registry: what is in memory is gone when its server ends"),
    }
}

/// Whether there is a database, so that [`open_read_only`] finds one.
pub(crate) async fn exists(config: &Config) -> anyhow::Result<bool> {
    if let Some(address) = config.database.address()? {
        return Ok(Metadata::look_at_postgres(&address).await?.has_schema().await?);
    }
    match &config.database {
        config::Database::Sqlite(file) => is_there(file),
        _ => Ok(false),
    }
}

/// Where the configuration keeps the facts, for people.
pub(crate) fn place(config: &Config) -> String {
    match &config.database {
        config::Database::Sqlite(file) => file.display().to_string(),
        config::Database::Temporary => "temporary".to_owned(),
        config::Database::Postgres { .. } => match config.database.address() {
            Ok(Some(address)) => address.to_string(),
            _ => "PostgreSQL".to_owned(),
        },
    }
}

/// What stands in for the database that belongs to a store.
pub(crate) fn advice(config: &Config) -> String {
    match &config.database {
        config::Database::Sqlite(file) => format!("put back the database {}", file.display()),
        _ => "name in database.url the database".to_owned(),
    }
}

/// What cannot be looked at may be there.
pub(crate) fn is_there(path: &Path) -> anyhow::Result<bool> {
    path.try_exists().with_context(|| format!("cannot look at {}", path.display()))
}

/// Whom a lock keeps out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    Alone,
    Shared,
}

/// `None` if it is held by others.
fn lock(path: &Path, kind: Lock) -> anyhow::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let locked = match kind {
        Lock::Alone => file.try_lock(),
        Lock::Shared => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// A side of a copy: a database by its URL, or a SQLite file (or the data folder that it is in),
/// for nobody else.
pub(crate) async fn open_side(text: &str, is_target: bool) -> anyhow::Result<Database> {
    if metadata::Address::is_one(text) {
        let address = text.parse::<metadata::Address>()?;
        let place = address.to_string();
        let metadata = if is_target {
            Metadata::open_postgres_for_copy(&address).await?
        } else {
            Metadata::open_postgres(&address).await?
        };
        return enter(metadata, Role::Alone, &place, None).await;
    }
    let text = text.strip_prefix(config::SQLITE_SCHEME).unwrap_or(text);
    if text.contains("://") {
        bail!("expected a postgres:// URL, or the path of a SQLite database");
    }
    let path = Path::new(text);
    // One that is still to be made is a file if it is called like one.
    let is_folder = path.is_dir() || (!is_there(path)? && path.extension().is_none());
    let path = if is_folder { path.join(SQLITE) } else { path.to_owned() };
    let folder = path.parent().ok_or_else(|| anyhow!("{} is no file", path.display()))?;
    if is_target {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    } else if !is_there(&path)? {
        bail!("there is no SQLite database {}", path.display());
    }
    // The lock of the server that would use this file.
    let is_of_a_server = path.ends_with(SQLITE);
    let root = folder.parent().unwrap_or(folder);
    let (lock_path, in_use) = if is_of_a_server {
        (root.join(LOCK), InUse::Folder(root.to_owned()))
    } else {
        (path.with_added_extension("lock"), InUse::File(path.clone()))
    };
    let lock = Some(lock(&lock_path, Lock::Alone)?.ok_or(in_use)?);
    let metadata = if is_target {
        Metadata::open_sqlite_for_copy(&path).await?
    } else {
        Metadata::open_sqlite(&path).await?
    };
    enter(metadata, Role::Alone, "", lock).await
}
