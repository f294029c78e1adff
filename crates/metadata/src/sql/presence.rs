//! Who uses the database: servers beside each other, or one command alone.
//!
//! A server holds a lock of PostgreSQL that it shares with other servers; a command that must not
//! run beside servers holds it alone. The lock goes with the connection that holds it. So that a
//! server that has lost this connection can not go on as if nothing had happened, each such
//! command leaves a mark in the database, and every write of a server looks whether the mark is
//! the one that it knows. It keeps the mark from being changed until it has ended.
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

/// How long it may take to answer.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(20);

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
#[derive(Debug)]
pub struct Presence {
    ended: Option<watch::Receiver<bool>>,
    keeper: Option<JoinHandle<()>>,
}

impl Presence {
    /// Returns when the role was lost for good, which ends all writing: a server has to start
    /// again. For SQLite it never returns.
    pub async fn lost(&self) {
        if let Some(ended) = &self.ended
            && ended.clone().wait_for(|ended| *ended).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
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
            return Ok(Some(Presence { ended: None, keeper: None }));
        };
        let asked = Instant::now();
        let connection = loop {
            match take_lock(database, role).await? {
                Some(connection) => break connection,
                None if asked.elapsed() > ENDING => return Ok(None),
                None => tokio::time::sleep(ENDING / 20).await,
            }
        };
        if role == Role::Alone {
            let mark = Uuid::now_v7().to_string();
            self.write(Durability::Power, mark, |tx, mark| {
                Box::pin(async move {
                    // Waits for the end of all writes that have seen the mark before it.
                    if tx.is_postgres() {
                        tx.statement("LOCK TABLE settings IN ACCESS EXCLUSIVE MODE").await?;
                    }
                    settings::set(tx, settings::USED_ALONE, mark).await
                })
            })
            .await?;
        }
        let mark = self.mark().await?;
        database.set_fence(mark.clone());
        let (end, ended) = watch::channel(false);
        let keeper = Keeper { metadata: self.clone(), role, mark, end };
        let keeper = tokio::spawn(keeper.keep(Arc::clone(database), connection));
        Ok(Some(Presence { ended: Some(ended), keeper: Some(keeper) }))
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
            while is_alive(&mut connection).await {
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
        database.is_fenced.store(true, Ordering::Relaxed);
        let _ = self.end.send(true);
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

async fn is_alive(connection: &mut Connection) -> bool {
    let answer = tokio::time::timeout(HEARTBEAT_LIMIT, connection.simple_row("SELECT 1"));
    matches!(answer.await, Ok(Ok(_)))
}
