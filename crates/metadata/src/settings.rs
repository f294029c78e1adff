//! Single values about the database as a whole, such as the id of the store that it describes.

use crate::{Error, Tx};

/// The setting that ties a database to its store, which carries the same id. Every database has
/// it.
pub const STORE_ID: &str = "store-id";

/// The value called `name`.
pub async fn get(tx: &mut Tx, name: &str) -> Result<Option<String>, Error> {
    let row = tx.query_one("SELECT value FROM settings WHERE name = $1", &[name.into()]).await?;
    row.map(|row| row.text(0)).transpose()
}

/// Sets the value called `name`.
pub async fn set(tx: &mut Tx, name: &str, value: &str) -> Result<(), Error> {
    let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    tx.execute(sql, &[name.into(), value.into()]).await?;
    Ok(())
}
