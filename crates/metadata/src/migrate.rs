//! Brings the schema from any earlier version to this one.
//!
//! While it does so, servers of an earlier version may be running. Each migration says which
//! programs it does not disturb (`migrations/README.md` has the rules), and the database remembers
//! it for programs that are older than the migration.

use uuid::Uuid;

use crate::{Error, ErrorKind, Tx, settings};

/// A step from one version of the schema to the next.
struct Migration {
    text: &'static str,
    /// The oldest program that can use the schema after this: the version that it knows.
    compatible: u64,
}

/// Every migration, oldest first; its version is its place, counted from one.
const MIGRATIONS: &[Migration] = &[
    Migration { text: include_str!("../migrations/0001_registry.sql"), compatible: 1 },
    Migration { text: include_str!("../migrations/0002_adoption.sql"), compatible: 2 },
    Migration { text: include_str!("../migrations/0003_journal.sql"), compatible: 3 },
    Migration { text: include_str!("../migrations/0004_replicas.sql"), compatible: 4 },
    Migration { text: include_str!("../migrations/0005_locations.sql"), compatible: 4 },
    Migration { text: include_str!("../migrations/0006_attempts.sql"), compatible: 4 },
];

/// The version of the schema that all of them make.
pub(crate) const KNOWN: u64 = MIGRATIONS.len() as u64;

/// How far the schema of a database is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Schema {
    /// Migrations that it has.
    pub(crate) version: u64,
    /// The oldest program that can use it: the version that this one knows.
    pub(crate) compatible: u64,
}

/// Applies what is missing, and gives a new database its id. Safe to run at every start, and by
/// several servers at once.
pub(crate) async fn run(tx: &mut Tx) -> Result<(), Error> {
    tx.statement("CREATE TABLE IF NOT EXISTS migrations (version BIGINT NOT NULL PRIMARY KEY)")
        .await?;
    let mut compatible = usable(tx).await?.compatible;
    let applied = version(tx).await?;
    for (version, migration) in (1_i64..).zip(MIGRATIONS) {
        if version.unsigned_abs() <= applied {
            continue;
        }
        let text = tx
            .dialect()
            .iter()
            .fold(migration.text.to_owned(), |text, (word, spelling)| text.replace(word, spelling));
        tx.statement(&text).await?;
        tx.execute("INSERT INTO migrations (version) VALUES ($1)", &[version.into()]).await?;
        compatible = compatible.max(migration.compatible);
    }
    if applied < KNOWN {
        settings::set(tx, settings::COMPATIBLE, &compatible.to_string()).await?;
    }
    if settings::get(tx, settings::STORE_ID).await?.is_none() {
        settings::set(tx, settings::STORE_ID, &Uuid::now_v7().to_string()).await?;
    }
    Ok(())
}

/// Fails unless the schema is one that this program reads. It changes nothing.
pub(crate) async fn check(tx: &mut Tx) -> Result<(), Error> {
    let applied = usable(tx).await?.version;
    if applied < KNOWN {
        let message = format!(
            "the schema has version {applied}, this program reads {KNOWN}: it was used by an older \
             version of Orlop, and `orlop db migrate` or `orlop serve` brings it up to date"
        );
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    Ok(())
}

/// Fails if a copy into this database was begun and has not come to its end.
pub(crate) async fn check_whole(tx: &mut Tx) -> Result<(), Error> {
    if settings::get(tx, settings::COPY).await?.is_some() {
        let message = "it holds a part of another database: run the `orlop db copy` that was cut \
                       short once more";
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    Ok(())
}

/// How far the schema is; version 0 if there is none yet.
pub(crate) async fn schema(tx: &mut Tx) -> Result<Schema, Error> {
    let version = version(tx).await?;
    if version == 0 {
        return Ok(Schema { version, compatible: 0 });
    }
    let compatible = settings::get(tx, settings::COMPATIBLE).await?;
    // A program from before this was remembered could use its own version only.
    let compatible = compatible.and_then(|text| text.parse().ok()).unwrap_or(version);
    Ok(Schema { version, compatible })
}

/// How far the schema is, if this program can use it.
async fn usable(tx: &mut Tx) -> Result<Schema, Error> {
    let schema = schema(tx).await?;
    if schema.compatible > KNOWN {
        let message = format!(
            "the schema has version {}, and this program knows up to {KNOWN}: it was used by a \
             newer version of Orlop, beside which this one can not run, so run that one",
            schema.version
        );
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    Ok(schema)
}

async fn version(tx: &mut Tx) -> Result<u64, Error> {
    let newest = tx.query_one("SELECT max(version) FROM migrations", &[]).await?;
    Ok(newest.and_then(|row| row.unsigned(0).ok()).unwrap_or(0))
}
