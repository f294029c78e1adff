//! Leases: what one of all servers of a database has at a time, until it gives it back, or for so
//! long if it dies.
//!
//! All times are compared with the clock of the database, which is one for all. A holder that has
//! to know for itself when its lease ends counts, by a clock that is never put back, from before
//! it asked for it: then it stops before the database lets anybody else in.

use std::time::Duration;

use crate::{Error, Tx};

/// Takes the lease called `name`, or keeps it, for so long from now on. False if somebody else
/// holds it.
pub async fn take(
    tx: &mut Tx,
    name: &str,
    holder: &str,
    duration: Duration,
) -> Result<bool, Error> {
    let now = tx.clock().await?;
    let until = now.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX));
    let sql = "INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3) \
               ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until \
               WHERE leases.holder = excluded.holder OR leases.until <= $4";
    let parameters = [name.into(), holder.into(), until.into(), now.into()];
    Ok(tx.execute(sql, &parameters).await? > 0)
}

/// Gives the lease back. False if the holder had lost it.
pub async fn give_back(tx: &mut Tx, name: &str, holder: &str) -> Result<bool, Error> {
    let sql = "DELETE FROM leases WHERE name = $1 AND holder = $2";
    Ok(tx.execute(sql, &[name.into(), holder.into()]).await? > 0)
}

/// Whether anybody holds the lease.
pub async fn is_held(tx: &mut Tx, name: &str) -> Result<bool, Error> {
    let row = tx.query_one("SELECT until FROM leases WHERE name = $1", &[name.into()]).await?;
    match row {
        Some(row) => Ok(row.integer(0)? > tx.clock().await?),
        None => Ok(false),
    }
}

/// Forgets those that have run out: of servers that died.
pub async fn forget_ended(tx: &mut Tx) -> Result<u64, Error> {
    let now = tx.clock().await?;
    tx.execute("DELETE FROM leases WHERE until <= $1", &[now.into()]).await
}
