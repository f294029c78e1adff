//! Attempts that are counted for all servers of a database, such as wrong passwords.
//!
//! Of all attempts with one name only the moment is kept at which they will be forgotten: each
//! puts it off by so long (the "generic cell rate algorithm"). Who counts decides what is too much.

use std::time::Duration;

use crate::{Error, Tx};

/// Counts an attempt, which puts off by `every` when all with its name are forgotten. Returns how
/// long it takes until then.
pub async fn count(tx: &mut Tx, name: &str, every: Duration) -> Result<Duration, Error> {
    let now = tx.clock().await?;
    tx.execute("DELETE FROM attempts WHERE forgotten <= $1", &[now.into()]).await?;
    let every = i64::try_from(every.as_micros()).unwrap_or(i64::MAX);
    let sql = "INSERT INTO attempts (name, forgotten) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET forgotten = attempts.forgotten + $3 \
               RETURNING forgotten";
    let parameters = [name.into(), now.saturating_add(every).into(), every.into()];
    let forgotten = match tx.query_one(sql, &parameters).await? {
        Some(row) => row.integer(0)?,
        None => now,
    };
    Ok(Duration::from_micros(forgotten.saturating_sub(now).max(0).unsigned_abs()))
}
