//! Who uses the database: servers beside each other, or one command alone.
//!
//! A server holds a lock of PostgreSQL that it shares with other servers; a command that must not
//! run beside servers holds it alone. The lock goes with the connection that holds it. So that a
//! server that has lost this connection can not go on as if nothing had happened, each such
//! command leaves a mark in the database, and every write of a server looks whether the mark is
//! the one that it knows. It keeps the mark from being changed until it has ended.
//!
//! A command can lose its lock, too, and what it does to a store can not look at a mark. It looks
//! after the connection and ends soon after it is gone. So its mark says that it runs, until it has
//! ended; whoever comes next and finds such a mark waits until the command must have noticed, and
//! then changes the mark.
//!
//! A SQLite database has one user, who locks its folder.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::postgres::{Connection, Database};
use super::{Durability, Engine, Metadata};
use crate::{Error, ErrorKind, settings};

/// The lock's number: "ORLP".
const LOCK: u32 = 0x4f52_4c50;

/// How a statement sees the mark.
pub(super) const LOOK: &str = "SELECT value FROM settings WHERE name = 'used-alone'";

/// How often the connection that holds the lock is tried.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long it may take to answer: to a server, which then finds out whether anything has happened,
/// and to a command, which ends.
const SERVER_LIMIT: Duration = Duration::from_secs(20);
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// When a command that has lost its lock has noticed, and has ended.
const NOTICED: Duration = Duration::from_secs(8);

/// How the mark of a command begins that has not said that it ended.
const RUNS: &str = "running ";

/// How long a lock is asked for: a program that has just ended may still seem to hold it.
const ENDING: Duration = Duration::from_secs(2);

/// When a lost lock is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// How a program uses a database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// As a server, beside others.
    Server,
    /// With no server beside it.
    Alone,
}

/// Held for as long as a program uses the database in its role.
pub struct Presence {
    ended: Option<watch::Receiver<bool>>,
    keeper: Option<JoinHandle<()>>,
    /// The mark of a command, and where it is.
    mark: Option<(Metadata, String)>,
}

impl Presence {
    /// Returns when the role was lost for good, which ends all writing: a server has to start
    /// again, and a command to end at once. For SQLite it never returns.
    pub async fn lost(&self) {
        if let Some(ended) = &self.ended
            && ended.clone().wait_for(|ended| *ended).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    /// To be called by a command that has ended, or else whoever comes next waits for it.
    pub async fn leave(&self) {
        let Some((metadata, mark)) = &self.mark else { return };
        if let Err(error) = metadata.end_mark(mark).await {
            tracing::warn!(%error, "cannot tell others that this command has ended");
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

/// The error of a write that comes too late.
pub(super) fn fenced() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "a command has used the database alone, or does so now, while this program was cut off \
         from it: nothing is written before it has started again",
    )
}

impl Metadata {
    /// Takes a role. `None` if others do not allow it: a server runs, or a command that must be
    /// alone.
    pub async fn enter(&self, role: Role) -> Result<Option<Presence>, Error> {
        let Engine::Postgres(database) = &self.engine else {
            return Ok(Some(Presence { ended: None, keeper: None, mark: None }));
        };
        let connection = loop {
            let Some(mut connection) = ask_for_lock(database, role).await? else {
                return Ok(None);
            };
            let mark = self.mark().await?;
            if !mark.starts_with(RUNS) {
                break connection;
            }
            tracing::warn!(
                "a command that has used the database alone has not said that it ended: waiting \
                 {NOTICED:?}, until it must have"
            );
            tokio::time::sleep(NOTICED).await;
            if is_alive(&mut connection, SERVER_LIMIT).await {
                self.end_mark(&mark).await?;
                break connection;
            }
        };
        if role == Role::Alone {
            self.set_mark(None, format!("{RUNS}{}", Uuid::now_v7())).await?;
        }
        let mark = self.mark().await?;
        database.set_fence(mark.clone());
        let (end, ended) = watch::channel(false);
        let own = (role == Role::Alone).then(|| (self.clone(), mark.clone()));
        let keeper = Keeper { metadata: self.clone(), role, mark, end };
        let keeper = tokio::spawn(keeper.keep(Arc::clone(database), connection));
        Ok(Some(Presence { ended: Some(ended), keeper: Some(keeper), mark: own }))
    }

    /// Says of the command with this mark that it has ended, if nobody else has.
    async fn end_mark(&self, mark: &str) -> Result<(), Error> {
        let ended = mark.trim_start_matches(RUNS).to_owned();
        self.set_mark(Some(mark.to_owned()), ended).await
    }

    /// Changes the mark, if it is the `expected` one.
    async fn set_mark(&self, expected: Option<String>, mark: String) -> Result<(), Error> {
        self.write(Durability::Power, (expected, mark), |tx, (expected, mark)| {
            Box::pin(async move {
                // Waits for the end of all writes that have seen the mark before it.
                if tx.is_postgres() {
                    tx.statement("LOCK TABLE settings IN ACCESS EXCLUSIVE MODE").await?;
                }
                let found = settings::get(tx, settings::USED_ALONE).await?;
                if expected.is_none() || found == *expected {
                    settings::set(tx, settings::USED_ALONE, mark).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn mark(&self) -> Result<String, Error> {
        let mark =
            self.read(&(), |tx, ()| Box::pin(settings::get(tx, settings::USED_ALONE))).await?;
        Ok(mark.unwrap_or_default())
    }
}

/// Looks after a lock.
struct Keeper {
    metadata: Metadata,
    role: Role,
    mark: String,
    end: watch::Sender<bool>,
}

impl Keeper {
    async fn keep(self, database: Arc<Database>, mut connection: Connection) {
        loop {
            let limit = match self.role {
                Role::Server => SERVER_LIMIT,
                Role::Alone => COMMAND_LIMIT,
            };
            while is_alive(&mut connection, limit).await {
                tokio::time::sleep(HEARTBEAT).await;
            }
            if self.role == Role::Alone {
                break;
            }
            tracing::warn!("lost the connection that shows other programs that this server runs");
            match self.take_again(&database).await {
                Some(taken) => connection = taken,
                None => break,
            }
            tracing::info!("PostgreSQL is back");
        }
        tracing::error!("{}", fenced());
        let _ = self.end.send(true);
        database.is_fenced.store(true, Ordering::Relaxed);
    }

    /// `None` if somebody else was alone with the database meanwhile.
    async fn take_again(&self, database: &Database) -> Option<Connection> {
        loop {
            if let Ok(Some(connection)) = take_lock(database, self.role).await
                && let Ok(mark) = self.metadata.mark().await
            {
                return (mark == self.mark).then_some(connection);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// The same, with patience for those that are about to end.
async fn ask_for_lock(database: &Database, role: Role) -> Result<Option<Connection>, Error> {
    let asked = Instant::now();
    loop {
        match take_lock(database, role).await? {
            None if asked.elapsed() < ENDING => tokio::time::sleep(ENDING / 20).await,
            taken => return Ok(taken),
        }
    }
}

/// The connection that holds the lock then.
async fn take_lock(database: &Database, role: Role) -> Result<Option<Connection>, Error> {
    let mut connection = database.connect_for_long().await?;
    let function = match role {
        Role::Server => "pg_try_advisory_lock_shared",
        Role::Alone => "pg_try_advisory_lock",
    };
    let row = connection.simple_row(&format!("SELECT {function}({LOCK})")).await?;
    Ok((row.get(0) == Some("t")).then_some(connection))
}

async fn is_alive(connection: &mut Connection, limit: Duration) -> bool {
    let answer = tokio::time::timeout(limit, connection.simple_row("SELECT 1"));
    matches!(answer.await, Ok(Ok(_)))
}
