//! `database`: where the facts are.

use metadata::Address;

use super::super::error::ConfigError;
use super::Secret;
use super::section::Section;

/// Where the facts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Database {
    /// In a file below the data folder.
    Sqlite,
    Postgres {
        /// One that [`Address`] understands.
        url: Secret,
        /// The most connections in use at once.
        max_connections: usize,
    },
}

impl Database {
    /// Where PostgreSQL is; `None` without it.
    pub(crate) fn address(&self) -> Result<Option<Address>, metadata::Error> {
        let Self::Postgres { url, max_connections } = self else { return Ok(None) };
        let address = url.expose().parse::<Address>()?;
        Ok(Some(address.with_connections(*max_connections)))
    }
}

pub(super) fn read(database: &Section<'_>) -> Result<Database, ConfigError> {
    let Some(url) = database.text("url")? else { return Ok(Database::Sqlite) };
    let max_connections = database.must_number("maxconnections")?;
    Ok(Database::Postgres { url: Secret::new(url), max_connections })
}
