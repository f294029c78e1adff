//! Uploads in progress: how far each has come, and the state of its hash.
//!
//! Where several servers share the database, a request first *takes* the session that it will
//! write to, and whatever it saves counts only for as long as the session is still its own. On a
//! database of a single server nobody takes anything: all turns there are the same one.

use oci::RepositoryName;

use crate::repositories::RepositoryId;
use crate::{Error, ErrorKind, Tx, leases};

/// An upload session as it was last saved.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Upload {
    /// Bytes received and hashed.
    pub received: u64,
    /// The state of the hash after them (`oci::Hasher::save`). Empty if nothing was saved yet.
    pub hash_state: Vec<u8>,
    /// What the blob store needs to go on.
    pub store_state: String,
    /// What the blob store calls the upload; empty: as the session is called.
    pub store_id: String,
}

/// The right of one request to write to a session. The default is that of a server that has the
/// database for itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Turn {
    /// The name of the lease that its server holds while it is alive.
    pub holder: String,
    /// Which of that server's requests it is; never the same twice.
    pub number: i64,
}

/// What came of [`take`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Taken {
    /// The session is the caller's own, and stands there.
    Free(Upload),
    /// The same, but whoever had it has not given it back: it may still be writing to the upload in
    /// the store.
    Abandoned(Upload),
    /// Another server has it, which is alive.
    Busy,
}

/// Stands for a holder that did not give a session back, and whose successor did not get far.
const NOBODY_KNOWN: &str = "-";

/// The session called `id`, if it belongs to `repository` and was saved.
pub async fn find(
    tx: &mut Tx,
    repository: &RepositoryName,
    id: &str,
) -> Result<Option<Upload>, Error> {
    let sql = "SELECT u.received, u.hash_state, u.store_state, u.store_id \
               FROM uploads u JOIN repositories r ON r.id = u.repository_id \
               WHERE u.id = $1 AND r.name = $2";
    let row = tx.query_one(sql, &[id.into(), repository.as_str().into()]).await?;
    let upload = row.map(|row| read(&row)).transpose()?;
    Ok(upload.filter(|upload| !upload.hash_state.is_empty()))
}

/// Takes the session called `id`, of `repository` if one is named. `None` if there is none.
pub async fn take(
    tx: &mut Tx,
    id: &str,
    repository: Option<&RepositoryName>,
    turn: &Turn,
) -> Result<Option<Taken>, Error> {
    let sql = "SELECT u.holder, u.turn, r.name \
               FROM uploads u JOIN repositories r ON r.id = u.repository_id WHERE u.id = $1";
    let Some(row) = tx.query_one(sql, &[id.into()]).await? else { return Ok(None) };
    let (holder, number, name) = (row.text(0)?, row.integer(1)?, row.text(2)?);
    if repository.is_some_and(|repository| repository.as_str() != name) {
        return Ok(None);
    }
    // Its requests take turns among themselves, so one of its own has ended without saying so.
    let is_other = !holder.is_empty() && holder != turn.holder;
    if is_other && leases::is_held(tx, &holder).await? {
        return Ok(Some(Taken::Busy));
    }
    // Where it stands is read with the change: since the look at its holder another one may have
    // had it, written to it and given it back.
    let sql = "UPDATE uploads SET holder = $2, turn = $3 \
               WHERE id = $1 AND holder = $4 AND turn = $5 \
               RETURNING received, hash_state, store_state, store_id";
    let parameters = [
        id.into(),
        turn.holder.as_str().into(),
        turn.number.into(),
        holder.as_str().into(),
        number.into(),
    ];
    let Some(row) = tx.query_one(sql, &parameters).await? else {
        return Err(Error::new(ErrorKind::Conflict, "somebody else has taken the upload"));
    };
    let upload = read(&row)?;
    Ok(Some(if holder.is_empty() { Taken::Free(upload) } else { Taken::Abandoned(upload) }))
}

/// Makes a session for whoever takes it with `turn`. It is not there for others before it is
/// saved. `store_id` must not have been used before.
pub async fn reserve(
    tx: &mut Tx,
    repository: RepositoryId,
    id: &str,
    store_id: &str,
    turn: &Turn,
    now: i64,
) -> Result<(), Error> {
    let sql = "INSERT INTO uploads (id, repository_id, received, hash_state, store_state, \
               store_id, holder, turn, created_at, updated_at) \
               VALUES ($1, $2, 0, $3, '', $4, $5, $6, $7, $7)";
    let nothing: &[u8] = &[];
    let parameters = [
        id.into(),
        repository.0.into(),
        nothing.into(),
        store_id.into(),
        turn.holder.as_str().into(),
        turn.number.into(),
        now.into(),
    ];
    tx.execute(sql, &parameters).await?;
    Ok(())
}

/// Saves how far a session has come for the first time, or again, where nobody takes turns.
pub async fn begin(
    tx: &mut Tx,
    repository: RepositoryId,
    id: &str,
    upload: &Upload,
    now: i64,
) -> Result<(), Error> {
    let sql = "INSERT INTO uploads (id, repository_id, received, hash_state, store_state, \
               store_id, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7) \
               ON CONFLICT (id) DO UPDATE SET received = excluded.received, \
               hash_state = excluded.hash_state, store_state = excluded.store_state, \
               store_id = excluded.store_id, updated_at = excluded.updated_at";
    let parameters = [
        id.into(),
        repository.0.into(),
        crate::sql_size(upload.received),
        upload.hash_state.as_slice().into(),
        upload.store_state.as_str().into(),
        upload.store_id.as_str().into(),
        now.into(),
    ];
    tx.execute(sql, &parameters).await?;
    Ok(())
}

/// Saves how far a session has come, and gives it back unless the caller will `keep` it. False if it
/// is gone, or somebody else's now.
pub async fn save(
    tx: &mut Tx,
    id: &str,
    upload: &Upload,
    turn: &Turn,
    keep: bool,
    now: i64,
) -> Result<bool, Error> {
    let sql = "UPDATE uploads SET received = $2, hash_state = $3, store_state = $4, \
               store_id = $5, updated_at = $6, holder = $9, turn = $10 \
               WHERE id = $1 AND holder = $7 AND turn = $8";
    let nobody = Turn::default();
    let next = if keep { turn } else { &nobody };
    let parameters = [
        id.into(),
        crate::sql_size(upload.received),
        upload.hash_state.as_slice().into(),
        upload.store_state.as_str().into(),
        upload.store_id.as_str().into(),
        now.into(),
        turn.holder.as_str().into(),
        turn.number.into(),
        next.holder.as_str().into(),
        next.number.into(),
    ];
    Ok(tx.execute(sql, &parameters).await? > 0)
}

/// Gives a session back. One that was never saved is gone then. With `unsure` whoever takes it
/// next hears that somebody may still be writing to the upload in the store.
pub async fn give_back(tx: &mut Tx, id: &str, turn: &Turn, unsure: bool) -> Result<(), Error> {
    let sql = "DELETE FROM uploads \
               WHERE id = $1 AND holder = $2 AND turn = $3 AND length(hash_state) = 0";
    let (holder, number) = (turn.holder.as_str().into(), turn.number.into());
    if tx.execute(sql, &[id.into(), holder, number]).await? > 0 {
        return Ok(());
    }
    let sql = "UPDATE uploads SET holder = $4, turn = 0 \
               WHERE id = $1 AND holder = $2 AND turn = $3";
    let next = if unsure { NOBODY_KNOWN } else { "" };
    let (holder, number) = (turn.holder.as_str().into(), turn.number.into());
    tx.execute(sql, &[id.into(), holder, number, next.into()]).await?;
    Ok(())
}

/// Ends a session. False if it is gone already, or somebody else's now.
pub async fn delete(tx: &mut Tx, id: &str, turn: &Turn) -> Result<bool, Error> {
    let sql = "DELETE FROM uploads WHERE id = $1 AND holder = $2 AND turn = $3";
    let parameters = [id.into(), turn.holder.as_str().into(), turn.number.into()];
    Ok(tx.execute(sql, &parameters).await? > 0)
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

/// Whether there is a session of this name, or one whose upload the store calls so, in whichever
/// repository.
pub async fn exists(tx: &mut Tx, id: &str) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM uploads WHERE id = $1 OR (store_id = $1 AND store_id <> '')";
    Ok(tx.query_one(sql, &[id.into()]).await?.is_some())
}

fn read(row: &crate::sql::Row) -> Result<Upload, Error> {
    Ok(Upload {
        received: row.unsigned(0)?,
        hash_state: row.bytes(1)?.to_vec(),
        store_state: row.text(2)?,
        store_id: row.text(3)?,
    })
}

/// Where the session called `id` stands, in whichever repository.
pub async fn look(tx: &mut Tx, id: &str) -> Result<Option<Upload>, Error> {
    let sql = "SELECT received, hash_state, store_state, store_id FROM uploads WHERE id = $1";
    let row = tx.query_one(sql, &[id.into()]).await?;
    row.map(|row| read(&row)).transpose()
}
