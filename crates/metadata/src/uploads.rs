//! Uploads in progress: how far each has come, and the state of its hash.

use oci::RepositoryName;

use crate::repositories::RepositoryId;
use crate::{Error, Tx};

/// An upload session as it was last saved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upload {
    /// Bytes received and hashed.
    pub received: u64,
    /// The state of the hash after them (`oci::Hasher::save`).
    pub hash_state: Vec<u8>,
    /// What the blob store needs to go on.
    pub store_state: String,
}

/// The session called `id`, if it belongs to `repository`.
pub async fn find(
    tx: &mut Tx,
    repository: &RepositoryName,
    id: &str,
) -> Result<Option<Upload>, Error> {
    let sql = "SELECT u.received, u.hash_state, u.store_state \
               FROM uploads u JOIN repositories r ON r.id = u.repository_id \
               WHERE u.id = $1 AND r.name = $2";
    let row = tx.query_one(sql, &[id.into(), repository.as_str().into()]).await?;
    row.map(|row| {
        Ok(Upload {
            received: row.unsigned(0)?,
            hash_state: row.bytes(1)?.to_vec(),
            store_state: row.text(2)?,
        })
    })
    .transpose()
}

/// Saves how far a session has come for the first time, or again.
pub async fn begin(
    tx: &mut Tx,
    repository: RepositoryId,
    id: &str,
    upload: &Upload,
    now: i64,
) -> Result<(), Error> {
    let sql = "INSERT INTO uploads \
               (id, repository_id, received, hash_state, store_state, created_at, updated_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $6) \
               ON CONFLICT (id) DO UPDATE SET received = excluded.received, \
               hash_state = excluded.hash_state, store_state = excluded.store_state, \
               updated_at = excluded.updated_at";
    let parameters = [
        id.into(),
        repository.0.into(),
        crate::sql_size(upload.received),
        upload.hash_state.as_slice().into(),
        upload.store_state.as_str().into(),
        now.into(),
    ];
    tx.execute(sql, &parameters).await?;
    Ok(())
}

/// Saves how far a session has come. False if it is gone.
pub async fn save(tx: &mut Tx, id: &str, upload: &Upload, now: i64) -> Result<bool, Error> {
    let sql = "UPDATE uploads SET received = $2, hash_state = $3, store_state = $4, updated_at = $5 \
               WHERE id = $1";
    let parameters = [
        id.into(),
        crate::sql_size(upload.received),
        upload.hash_state.as_slice().into(),
        upload.store_state.as_str().into(),
        now.into(),
    ];
    Ok(tx.execute(sql, &parameters).await? > 0)
}

/// Ends a session. False if it is gone already.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM uploads WHERE id = $1", &[id.into()]).await? > 0)
}

/// Up to `limit` sessions that nothing was written to since `before`.
pub async fn idle_since(tx: &mut Tx, before: i64, limit: u64) -> Result<Vec<String>, Error> {
    let sql = "SELECT id FROM uploads WHERE updated_at < $1 ORDER BY updated_at LIMIT $2";
    let rows = tx.query(sql, &[before.into(), crate::sql_size(limit)]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// Whether nothing was written to the session since `before`.
pub async fn is_idle_since(tx: &mut Tx, id: &str, before: i64) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM uploads WHERE id = $1 AND updated_at < $2";
    Ok(tx.query_one(sql, &[id.into(), before.into()]).await?.is_some())
}

/// Whether a session called `id` exists, in whichever repository.
pub async fn exists(tx: &mut Tx, id: &str) -> Result<bool, Error> {
    Ok(tx.query_one("SELECT 1 FROM uploads WHERE id = $1", &[id.into()]).await?.is_some())
}

/// What the blob store needs to go on with the session `id`, or to forget it.
pub async fn store_state(tx: &mut Tx, id: &str) -> Result<Option<String>, Error> {
    let row = tx.query_one("SELECT store_state FROM uploads WHERE id = $1", &[id.into()]).await?;
    row.map(|row| row.text(0)).transpose()
}
