//! What a database is and how much is in it, for operators.

use crate::tables::{self, TABLES};
use crate::{Error, Metadata, Tx, migrate, settings};

/// What a database is and how much is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The version of SQLite or of the server.
    pub server: String,
    /// The version of the schema; 0 if there is none yet.
    pub schema: u64,
    /// The oldest program that can use it: the version that this one knows.
    pub compatible: u64,
    /// The version of the schema that this program knows.
    pub known: u64,
    /// It holds a part of another database: a copy was cut short.
    pub is_part: bool,
    /// Bytes that it takes.
    pub bytes: u64,
    /// The tables of facts, with the number of their rows.
    pub tables: Vec<(String, u64)>,
}

impl Metadata {
    /// Looks at the whole database. The cost grows with its rows.
    pub async fn status(&self) -> Result<Status, Error> {
        self.read(&(), |tx, ()| Box::pin(look(tx))).await
    }
}

async fn look(tx: &mut Tx) -> Result<Status, Error> {
    let (server, bytes) = if tx.is_postgres() {
        ("SELECT current_setting('server_version')", "SELECT pg_database_size(current_database())")
    } else {
        (
            "SELECT sqlite_version()",
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        )
    };
    let server = tx.query_one(server, &[]).await?;
    let server = server.map_or(Ok(String::new()), |row| row.text(0))?;
    let bytes = tx.query_one(bytes, &[]).await?.map_or(Ok(0), |row| row.unsigned(0))?;
    let there = tables::names(tx).await?;
    let known = migrate::KNOWN;
    if !there.iter().any(|name| name == "migrations") {
        let tables = Vec::new();
        return Ok(Status {
            server,
            schema: 0,
            compatible: 0,
            known,
            is_part: false,
            bytes,
            tables,
        });
    }
    let schema = migrate::schema(tx).await?;
    let mut tables = Vec::new();
    for table in TABLES.iter().filter(|table| there.iter().any(|name| name == table.name)) {
        tables.push((table.name.to_owned(), table.count(tx).await?));
    }
    let is_part = settings::get(tx, settings::COPY).await?.is_some();
    Ok(Status {
        server,
        schema: schema.version,
        compatible: schema.compatible,
        known,
        is_part,
        bytes,
        tables,
    })
}
