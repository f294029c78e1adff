//! `database`: where the facts are.

use std::path::PathBuf;
use std::time::Duration;

use metadata::Address;

use super::super::error::ConfigError;
use super::Secret;
use super::section::Section;
use super::storage::Place;

/// Where the facts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Database {
    /// In this file: by default one below the data folder.
    Sqlite(PathBuf),
    /// In a file that goes with the server, as the bytes do.
    Temporary,
    Postgres {
        /// One that [`Address`] understands.
        url: Secret,
        /// The most connections in use at once.
        max_connections: usize,
        /// For how long answers may be kept although other servers may have written since.
        staleness: Duration,
        /// A standby, for answers that may be that old.
        replica: Option<Secret>,
    },
}

impl Database {
    /// Where PostgreSQL is; `None` without it.
    pub(crate) fn address(&self) -> Result<Option<Address>, metadata::Error> {
        let Self::Postgres { url, max_connections, staleness, replica } = self else {
            return Ok(None);
        };
        let address = |url: &Secret| -> Result<Address, metadata::Error> {
            Ok(url.expose().parse::<Address>()?.with_connections(*max_connections))
        };
        let replica = replica.as_ref().map(address).transpose()?;
        Ok(Some(address(url)?.with_staleness(*staleness).with_replica(replica)))
    }
}

/// Where the SQLite database is, below the data folder.
const SQLITE: &str = "orlop/metadata.sqlite";

/// What a URL begins with that names a file of SQLite.
pub(crate) const SQLITE_SCHEME: &str = "sqlite://";

pub(super) fn read(root: &Section<'_>, place: &Place) -> Result<Database, ConfigError> {
    let database = root.section("database");
    let Some(url) = database.text("url")? else {
        return match place {
            Place::Folder(folder) => Ok(Database::Sqlite(folder.join(SQLITE))),
            Place::Memory => Ok(Database::Temporary),
            Place::Bucket(_) => {
                let reason = "is needed, because the facts do not lie in the object store: set it \
                              (or REGISTRY_DATABASE_URL) to postgres://user:password@host/database, \
                              or for a single server to sqlite:///path/of/a/file";
                let origin = root.section("storage").origin();
                let (key, reason) = ("database.url".to_owned(), reason.to_owned());
                Err(ConfigError::Unfit { origin, key, reason })
            }
        };
    };
    if let Some(file) = url.strip_prefix(SQLITE_SCHEME) {
        return Ok(Database::Sqlite(PathBuf::from(file)));
    }
    let max_connections = database.must_number("maxconnections")?;
    let staleness = database.must_duration("staleness")?;
    let replica = database.text("replica")?.map(Secret::new);
    for (name, url) in
        [("url", Some(url.as_str())), ("replica", replica.as_ref().map(Secret::expose))]
    {
        if let Some(Err(error)) = url.map(str::parse::<Address>) {
            return Err(database.unfit(name, &error.to_string()));
        }
    }
    if replica.is_some() && staleness.is_zero() {
        let reason =
            "needs database.staleness above zero: what a standby answers is old by some time";
        return Err(database.unfit("replica", reason));
    }
    Ok(Database::Postgres { url: Secret::new(url), max_connections, staleness, replica })
}
