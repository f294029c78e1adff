//! Brings the schema from any earlier version to this one.

use uuid::Uuid;

use crate::{Error, ErrorKind, Tx, settings};

/// Every migration, oldest first; its version is its place, counted from one.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_registry.sql"),
    include_str!("../migrations/0002_adoption.sql"),
];

/// Applies what is missing, and gives a new database its id. Safe to run at every start, and by several servers at once.
pub(crate) async fn run(tx: &mut Tx) -> Result<(), Error> {
    tx.statement("CREATE TABLE IF NOT EXISTS migrations (version BIGINT NOT NULL PRIMARY KEY)")
        .await?;
    let applied = match tx.query_one("SELECT max(version) FROM migrations", &[]).await? {
        Some(row) => row.unsigned(0).unwrap_or(0),
        None => 0,
    };
    let known = MIGRATIONS.len() as u64;
    if applied > known {
        return Err(Error::new(
            ErrorKind::Damaged,
            format!(
                "the schema has version {applied}, this program knows up to {known}: \
                 it was used by a newer version of Orlop, so run that one"
            ),
        ));
    }
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
