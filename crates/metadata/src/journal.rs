//! The journal: small content that lies in the store, but may not survive the loss of power there.
//! It is written with the facts about it, and goes when the store has synced it.

use bytes::Bytes;
use oci::Digest;

use crate::{Error, Tx};

/// One content in the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Where to go on from.
    pub id: i64,
    /// Its sha256 digest.
    pub digest: Digest,
    /// The bytes.
    pub content: Bytes,
}

/// Keeps content until it is synced.
pub(crate) async fn add(tx: &mut Tx, digest: &Digest, content: &[u8]) -> Result<(), Error> {
    let sql = "INSERT INTO journal (digest, content) VALUES ($1, $2)";
    tx.execute(sql, &[digest.into(), content.into()]).await?;
    Ok(())
}

/// The id of the newest entry; `None` if there is none.
pub async fn last(tx: &mut Tx) -> Result<Option<i64>, Error> {
    let row = tx.query_one("SELECT id FROM journal ORDER BY id DESC LIMIT 1", &[]).await?;
    row.map(|row| row.integer(0)).transpose()
}

/// Up to `limit` entries after `after`, oldest first, whose content the database still knows.
pub async fn list(tx: &mut Tx, after: i64, limit: u64) -> Result<Vec<Entry>, Error> {
    let sql = "SELECT j.id, j.digest, j.content FROM journal j \
               JOIN blobs b ON b.digest = j.digest WHERE j.id > $1 ORDER BY j.id LIMIT $2";
    let rows = tx.query(sql, &[after.into(), crate::sql_size(limit)]).await?;
    rows.iter()
        .map(|row| {
            let content = Bytes::copy_from_slice(row.bytes(2)?);
            Ok(Entry { id: row.integer(0)?, digest: row.digest(1)?, content })
        })
        .collect()
}

/// Whether the journal has this content.
pub async fn has(tx: &mut Tx, digest: &Digest) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM journal WHERE digest = $1 LIMIT 1";
    Ok(tx.query_one(sql, &[digest.into()]).await?.is_some())
}

/// Forgets all entries up to `last`.
pub async fn trim(tx: &mut Tx, last: i64) -> Result<u64, Error> {
    tx.execute("DELETE FROM journal WHERE id <= $1", &[last.into()]).await
}
