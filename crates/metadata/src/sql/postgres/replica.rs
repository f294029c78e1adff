//! A standby of the server, which answers what may be old.
//!
//! How old its answers are is measured, not believed. Now and then the server is asked how far its
//! log has come; a standby that has replayed so much is as the server was at that moment, or newer.
//! If it is behind, does not answer, or is a standby no more, the server is asked instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{Database, with};
use crate::sql::{Connection, Tx, TxFuture};
use crate::{Address, Error};

/// How far the log of the server has come, also of what is not on its disk yet.
const WRITTEN: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint::text";

/// How much of it a standby shows; NULL where there is none.
const REPLAYED: &str = "SELECT CASE WHEN pg_is_in_recovery() \
                        THEN (pg_last_wal_replay_lsn() - '0/0')::bigint::text END";

/// A standby that takes longer is not waited for, and left alone for a while.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Replica {
    database: Database,
    /// How old its answers may be.
    limit: Duration,
    state: Mutex<State>,
    /// Held while somebody asks for a new mark.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    mark: Option<Mark>,
    left_alone_until: Option<Instant>,
}

/// The server's log was so long at that moment, or shorter.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    position: i64,
    /// The writes of this server that had ended by then.
    writes: u32,
}

impl Replica {
    pub(super) fn new(address: Address, limit: Duration) -> Result<Self, Error> {
        let database = Database::new(address)?;
        Ok(Self { database, limit, state: Mutex::default(), asking: tokio::sync::Mutex::default() })
    }

    /// The result of `function` there; `None` if it is not known to be as new as it must be.
    pub(super) async fn read<I, T, E, F>(
        &self,
        primary: &Database,
        input: &I,
        function: &F,
    ) -> Option<T>
    where
        I: ?Sized + Sync,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send,
    {
        if self.state().left_alone_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let mark = self.mark(primary).await?;
        let answer = timeout(PATIENCE, self.read_since(mark, input, function)).await.ok().flatten();
        if answer.is_none() {
            // Whether it is slow or away, the next ones do not wait for it.
            self.state().left_alone_until = Some(Instant::now() + PAUSE);
            self.database.broke();
            tracing::warn!(standby = %self.database.address, "a standby does not answer");
        }
        answer.flatten()
    }

    /// `None` if it does not answer, `Some(None)` if it is behind or `function` fails.
    async fn read_since<I, T, E, F>(&self, mark: Mark, input: &I, function: &F) -> Option<Option<T>>
    where
        I: ?Sized + Sync,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send,
    {
        let Ok(permit) = Arc::clone(&self.database.permits).try_acquire_owned() else {
            return Some(None);
        };
        let connection = match self.database.take_idle() {
            Some(connection) => connection,
            None => self.database.connect_once().await.ok()?,
        };
        let mut tx = Tx { connection: Connection::Postgres(connection) };
        with(&mut tx, |connection| connection.permit = Some(permit));
        // Before the snapshot is taken: what is replayed meanwhile may not be in it.
        let replayed = position(&mut tx, REPLAYED).await.ok()?;
        if replayed.is_none_or(|replayed| replayed < mark.position) {
            self.database.give_back(tx);
            return Some(None);
        }
        with(&mut tx, super::Connection::begin_reading);
        let answer = function(&mut tx, input).await;
        if with(&mut tx, |connection| connection.is_spent()) {
            return None;
        }
        with(&mut tx, super::Connection::end_reading);
        self.database.give_back(tx);
        Some(answer.ok())
    }

    /// How far a standby must be; `None` if that is not known.
    async fn mark(&self, primary: &Database) -> Option<Mark> {
        let writes = primary.staleness.writes();
        let is_good = |mark: &Mark, age| mark.at.elapsed() < age && mark.writes == writes;
        let known = self.state().mark.filter(|mark| is_good(mark, self.limit));
        if known.is_some_and(|mark| is_good(&mark, self.limit / 2)) {
            return known;
        }
        let Ok(_asking) = self.asking.try_lock() else { return known };
        let mark = ask(primary, writes).await.or(known);
        self.state().mark = mark;
        mark
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(primary: &Database, writes: u32) -> Option<Mark> {
    let at = Instant::now();
    let mut tx = primary.connection().await.ok()?;
    let written = position(&mut tx, WRITTEN).await;
    primary.give_back(tx);
    Some(Mark { at, position: written.ok()??, writes })
}

async fn position(tx: &mut Tx, sql: &str) -> Result<Option<i64>, Error> {
    let Connection::Postgres(connection) = &mut tx.connection else { return Ok(None) };
    let row = connection.simple_row(sql).await?;
    Ok(row.get(0).and_then(|position| position.parse().ok()))
}
