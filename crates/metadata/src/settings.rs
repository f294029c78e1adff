//! Single values about the database as a whole, such as the id of the store that it describes.

use crate::{Error, Tx};

/// The setting that ties a database to its store, which carries the same id. Every database has
/// it.
pub const STORE_ID: &str = "store-id";

/// What servers of this database seal things with that they give out, if they are not told another.
pub const SECRET: &str = "secret";

/// The oldest program that can use the schema: the version of the schema that it knows.
pub(crate) const COMPATIBLE: &str = "compatible";

/// The store id of the database of which this one is becoming a copy.
pub(crate) const COPY: &str = "copy-of";

/// The last command that used the database alone.
pub(crate) const USED_ALONE: &str = "used-alone";

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

/// Forgets the value called `name`.
pub(crate) async fn remove(tx: &mut Tx, name: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM settings WHERE name = $1", &[name.into()]).await?;
    Ok(())
}

/// All values, with their names.
pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<(String, String)>, Error> {
    let rows = tx.query("SELECT name, value FROM settings ORDER BY name", &[]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
}
