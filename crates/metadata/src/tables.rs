//! All tables, for what treats them alike.

use crate::{Error, Tx, Value};

/// A table of facts.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The columns of its primary key.
    pub(crate) key: &'static [&'static str],
}

impl Table {
    /// Whether the database gives each row its number.
    pub(crate) fn is_numbered(&self) -> bool {
        // The ids of uploads are made elsewhere.
        self.key == ["id"] && self.name != "uploads"
    }
}

/// All tables but `migrations` and `settings`, and those that belong to servers that run (`leases`,
/// `attempts`). What a row refers to is in a table before.
pub(crate) const TABLES: &[Table] = &[
    Table { name: "repositories", key: &["id"] },
    Table { name: "blobs", key: &["id"] },
    Table { name: "repository_blobs", key: &["repository_id", "blob_id"] },
    Table { name: "manifests", key: &["id"] },
    Table { name: "manifest_references", key: &["manifest_id", "digest", "kind"] },
    Table { name: "tags", key: &["repository_id", "name"] },
    Table { name: "uploads", key: &["id"] },
    Table { name: "adoption_findings", key: &["id"] },
    Table { name: "journal", key: &["id"] },
];

/// The names of all tables that are there.
pub(crate) async fn names(tx: &mut Tx) -> Result<Vec<String>, Error> {
    let sql = if tx.is_postgres() {
        "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"
    } else {
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
         ORDER BY name"
    };
    let rows = tx.query(sql, &[]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// The names of a table's columns, in order.
pub(crate) async fn columns(tx: &mut Tx, table: &str) -> Result<Vec<String>, Error> {
    let sql = if tx.is_postgres() {
        "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 \
         AND NOT attisdropped ORDER BY attnum"
    } else {
        "SELECT name FROM pragma_table_info($1) ORDER BY cid"
    };
    let rows = tx.query(sql, &[table.into()]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// The last number that a row of a numbered table was given; 0 if none was.
pub(crate) async fn last_number(tx: &mut Tx, table: &str) -> Result<i64, Error> {
    let sql = if tx.is_postgres() {
        "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence($1, 'id')::regclass), 0)"
    } else {
        "SELECT seq FROM sqlite_sequence WHERE name = $1"
    };
    tx.query_one(sql, &[table.into()]).await?.map_or(Ok(0), |row| row.integer(0))
}

/// Goes on numbering after `last`.
pub(crate) async fn number_after(tx: &mut Tx, table: &str, last: i64) -> Result<(), Error> {
    if last == 0 {
        return Ok(());
    }
    let parameters: [Value; 2] = [table.into(), last.into()];
    if tx.is_postgres() {
        let sql = "SELECT setval(pg_get_serial_sequence($1, 'id')::regclass, $2)";
        tx.query(sql, &parameters).await?;
    } else {
        tx.execute("DELETE FROM sqlite_sequence WHERE name = $1", &[table.into()]).await?;
        let sql = "INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)";
        tx.execute(sql, &parameters).await?;
    }
    Ok(())
}
