//! Brings the schema from any earlier version to this one.

use uuid::Uuid;

use crate::{Error, ErrorKind, Tx, settings};

/// Every migration, oldest first; its version is its place, counted from one.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_registry.sql"),
    include_str!("../migrations/0002_adoption.sql"),
    include_str!("../migrations/0003_journal.sql"),
    include_str!("../migrations/0004_replicas.sql"),
];

/// The version of the schema that all of them make.
const KNOWN: u64 = MIGRATIONS.len() as u64;

/// Applies what is missing, and gives a new database its id. Safe to run at every start, and by
/// several servers at once.
pub(crate) async fn run(tx: &mut Tx) -> Result<(), Error> {
    tx.statement("CREATE TABLE IF NOT EXISTS migrations (version BIGINT NOT NULL PRIMARY KEY)")
        .await?;
    let applied = version(tx).await?;
    for (version, text) in (1_i64..).zip(MIGRATIONS) {
        if version.unsigned_abs() <= applied {
            continue;
        }
        let text = tx
            .dialect()
            .iter()
            .fold((*text).to_owned(), |text, (word, spelling)| text.replace(word, spelling));
        tx.statement(&text).await?;
        tx.execute("INSERT INTO migrations (version) VALUES ($1)", &[version.into()]).await?;
    }
    if settings::get(tx, settings::STORE_ID).await?.is_none() {
        settings::set(tx, settings::STORE_ID, &Uuid::now_v7().to_string()).await?;
    }
    Ok(())
}

/// Fails unless the schema is the one that this program reads. It changes nothing.
pub(crate) async fn check(tx: &mut Tx) -> Result<(), Error> {
    let applied = version(tx).await?;
    if applied < KNOWN {
        let message = format!(
            "the schema has version {applied}, this program reads {KNOWN}: it was used by an older \
             version of Orlop, and `orlop serve` brings it up to date"
        );
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    Ok(())
}

/// The version of the schema, if this program knows it.
async fn version(tx: &mut Tx) -> Result<u64, Error> {
    let applied = match tx.query_one("SELECT max(version) FROM migrations", &[]).await? {
        Some(row) => row.unsigned(0).unwrap_or(0),
        None => 0,
    };
    if applied > KNOWN {
        let message = format!(
            "the schema has version {applied}, this program knows up to {KNOWN}: it was used by a \
             newer version of Orlop, so run that one"
        );
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    Ok(applied)
}
