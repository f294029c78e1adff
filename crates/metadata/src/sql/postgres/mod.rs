//! PostgreSQL: transactions at SERIALIZABLE, run again when they lose against others; or at READ
//! COMMITTED with a [lock](super::Lock).
//!
//! SERIALIZABLE makes a transaction function correct as written: if two of them together would do
//! what neither alone could, one is told to run again. Those that are frequent have a lock.
//!
//! A connection that breaks is replaced, and what ran on it is run again. Only a `COMMIT` whose
//! answer was lost is different: it may have happened. Then the server is asked about the
//! transaction. If it says that it was rolled back, it is run again; else the caller hears that
//! nobody knows. ("Committed" is not believed: after a crash a server may give the number of a
//! transaction that was lost to another one.)

mod address;
mod client_certificate;
mod connection;
mod connections;
mod password_file;
mod replica;
mod staleness;
mod tls;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::{Durability, Terms, Tx, TxFuture};
use crate::{Error, ErrorKind};
pub use address::Address;
pub(super) use connection::Connection;
pub use connections::Connections;
use connections::Counts;
use replica::Replica;
use staleness::Staleness;

pub(super) const DIALECT: &[(&str, &str)] = &[
    ("{ID}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    ("{TEXT}", "TEXT COLLATE \"C\""),
    ("{BYTES}", "BYTEA"),
];

/// The oldest server that is good enough.
const OLDEST: u32 = 15;

/// How long a transaction waits for a connection while others have them all.
const POOL_WAIT: Duration = Duration::from_secs(10);

/// How long a server may be away before those who need it hear of it. A restart takes less.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same when a program starts: the server may be starting, too.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// What holds for a connection: nobody waits for longer for the locks of a program that has stopped
/// in the middle of a transaction, nor for those of one that goes on for ever. Whoever asked for a
/// change may be gone by then, and have asked for another one.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = '15s'";

/// The first wait for a server that is away, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Database {
    address: Address,
    tls: tls::MakeTls,
    idle: Mutex<Vec<Tx>>,
    permits: Arc<Semaphore>,
    counts: Counts,
    /// Since when no connection could be made.
    away_since: Mutex<Option<Instant>>,
    /// What writes expect in the setting of [`super::presence`].
    fence: Mutex<Option<String>>,
    staleness: Staleness,
    /// A standby for what may be old.
    replica: Option<Box<Replica>>,
    /// Nothing may be written any more.
    pub(super) is_fenced: AtomicBool,
}

/// How one run of a transaction ended.
enum Attempt<T, E> {
    Done(Result<T, E>),
    /// The connection broke, and nothing of it happened.
    Again(E),
}

impl Database {
    pub(super) async fn connect(address: Address) -> Result<Self, Error> {
        let database = Self::new(address)?;
        let first = database.connect_patiently(None, START_PATIENCE).await?;
        drop(first);
        Ok(database)
    }

    fn new(mut address: Address) -> Result<Self, Error> {
        // One half is for the time that an answer is kept, the other for the age of what it tells.
        let (limit, replica) = match address.replica.take() {
            Some(standby) => {
                let half = address.staleness / 2;
                (half, Some(Box::new(Replica::new(*standby, half)?)))
            }
            None => (address.staleness, None),
        };
        let tls = address.tls.connector(address.client_certificate.as_ref())?;
        let permits = Arc::new(Semaphore::new(address.connections));
        Ok(Self {
            staleness: Staleness::new(limit),
            replica,
            address,
            tls,
            idle: Mutex::default(),
            permits,
            counts: Counts::default(),
            away_since: Mutex::default(),
            fence: Mutex::default(),
            is_fenced: AtomicBool::new(false),
        })
    }

    /// A connection of one's own: an idle one, or a new one. If it is not given back it closes,
    /// and PostgreSQL rolls back what it was doing.
    pub(super) async fn connection(&self) -> Result<Tx, Error> {
        let begun = Instant::now();
        let permit = timeout(POOL_WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        self.counts.waited(begun.elapsed());
        let Ok(Ok(permit)) = permit else {
            let message = format!(
                "all {} connections to PostgreSQL have been in use for {POOL_WAIT:?}",
                self.address.connections
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        };
        let connection = self.connect_patiently(Some(permit), PATIENCE).await?;
        Ok(Tx { connection: super::Connection::Postgres(connection) })
    }

    /// A new connection; with a `permit` of the pool, an idle one if there is any. Waits for a server
    /// that is away, or takes no more, unless it has been so for longer than `patience`.
    pub(super) async fn connect_patiently(
        &self,
        permit: Option<OwnedSemaphorePermit>,
        patience: Duration,
    ) -> Result<Connection, Error> {
        let mut wait = FIRST_WAIT;
        loop {
            let idle = permit.as_ref().and_then(|_| self.take_idle());
            let connected = match idle {
                Some(connection) => Ok(connection),
                None => self.connect_once().await,
            };
            let error = match connected {
                Ok(mut connection) => {
                    connection.permit = permit;
                    *self.away_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return Ok(connection);
                }
                Err(error) => error,
            };
            if error.kind() != ErrorKind::Unavailable {
                return Err(Error::new(ErrorKind::Unavailable, error.message()));
            }
            let (since, is_news) = self.away_since();
            if is_news {
                tracing::warn!(%error, "PostgreSQL is away: waiting for it");
            }
            if since.elapsed() + wait > patience {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// A connection beside those of the pool.
    pub(super) async fn connect_for_long(&self) -> Result<Connection, Error> {
        self.connect_patiently(None, PATIENCE).await
    }

    /// Since when the server is away, and whether nobody knew.
    fn away_since(&self) -> (Instant, bool) {
        let mut since = self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = since.is_none();
        (*since.get_or_insert_with(Instant::now), is_news)
    }

    /// A new connection. [`ErrorKind::Unavailable`] if it makes sense to try again.
    async fn connect_once(&self) -> Result<Connection, Error> {
        let (config, no_password) = self.address.login();
        let (client, driver) = config.connect(self.tls.clone()).await.map_err(|error| {
            let passes = connection::is_broken(&error);
            let kind = if passes { ErrorKind::Unavailable } else { ErrorKind::Other };
            let error = Error::from(error);
            // It may be no reason at all: some servers ask for none.
            let reason = no_password.filter(|_| !passes).map(|reason| format!("; {reason}"));
            let reason = reason.unwrap_or_default();
            let message = error.message();
            Error::new(kind, format!("cannot connect to {}: {message}{reason}", self.address))
        })?;
        let version = driver.parameter("server_version").unwrap_or_default().to_owned();
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                let error = Error::from(error);
                tracing::debug!(%error, "connection to PostgreSQL lost");
            }
        });
        let major = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        if major.parse::<u32>().is_ok_and(|major| major < OLDEST) {
            let message = format!(
                "{} is PostgreSQL {version}: expected {OLDEST} or newer, so upgrade it",
                self.address
            );
            return Err(Error::new(ErrorKind::Other, message));
        }
        client.batch_execute(SESSION).await?;
        Ok(Connection::new(client, None))
    }

    fn give_back(&self, mut tx: Tx) {
        if let super::Connection::Postgres(connection) = &mut tx.connection
            && !connection.is_spent()
        {
            let permit = connection.permit.take();
            self.idle().push(tx);
            // There is a server that works, even if it takes no more connections.
            *self.away_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
            drop(permit);
        }
    }

    /// An idle connection that can be used.
    fn take_idle(&self) -> Option<Connection> {
        loop {
            match self.idle().pop()?.connection {
                super::Connection::Postgres(connection) if !connection.is_spent() => {
                    return Some(connection);
                }
                _ => {}
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Tx>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`super::Metadata::connections`].
    pub(super) fn connections(&self) -> Connections {
        let limit = self.address.connections;
        let used = limit.saturating_sub(self.permits.available_permits());
        let idle = self.idle().len();
        self.counts.add_to(Connections { limit, used, idle, ..Connections::default() })
    }

    /// A transaction has lost against others.
    pub(super) fn note_conflict(&self) {
        self.counts.lost();
    }

    /// What breaks one connection has broken others, too.
    fn broke(&self) {
        self.counts.broke();
        let forgotten = std::mem::take(&mut *self.idle());
        drop(forgotten);
    }

    /// See [`super::Metadata::version`].
    pub(super) fn version(&self) -> Option<u64> {
        self.staleness.version()
    }

    pub(super) fn set_fence(&self, value: String) {
        *self.fence.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    pub(super) async fn read<I, T, E, F>(&self, input: &I, function: F) -> Result<T, E>
    where
        I: ?Sized + Sync,
        E: From<Error>,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send,
    {
        let mut retries = Retries::begin();
        loop {
            let mut tx = self.connection().await?;
            with(&mut tx, Connection::begin_reading);
            let result = function(&mut tx, input).await;
            if !with(&mut tx, |connection| connection.is_spent()) {
                with(&mut tx, Connection::end_reading);
                self.give_back(tx);
                return result;
            }
            drop(tx);
            self.broke();
            if !retries.wait().await {
                return result;
            }
        }
    }

    /// The same, also at a standby if that is new enough.
    pub(super) async fn read_relaxed<I, T, E, F>(&self, input: &I, function: F) -> Result<T, E>
    where
        I: ?Sized + Sync,
        E: From<Error>,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send,
    {
        if let Some(replica) = &self.replica
            && let Some(answer) = replica.read(self, input, &function).await
        {
            return Ok(answer);
        }
        self.read(input, function).await
    }

    pub(super) async fn write<I, T, E, F>(
        &self,
        terms: Terms,
        input: &I,
        function: &F,
    ) -> Result<T, E>
    where
        I: Send + Sync + 'static,
        E: From<Error>,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E>,
    {
        let mut retries = Retries::begin();
        loop {
            let attempt = self.attempt(terms, input, function).await;
            self.staleness.note_write();
            match attempt {
                Attempt::Done(result) => return result,
                Attempt::Again(error) => {
                    self.broke();
                    if !retries.wait().await {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn attempt<I, T, E, F>(&self, terms: Terms, input: &I, function: &F) -> Attempt<T, E>
    where
        E: From<Error>,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E>,
    {
        let mut tx = match self.connection().await {
            Ok(tx) => tx,
            Err(error) => return Attempt::Done(Err(error.into())),
        };
        let id = match self.begin(&mut tx, terms).await {
            Ok(id) => id,
            Err(error) => return self.failed(tx, error.into()).await,
        };
        let value = match function(&mut tx, input).await {
            Ok(value) => value,
            Err(error) => return self.failed(tx, error).await,
        };
        match tx.statement("COMMIT").await {
            Ok(()) => {
                self.give_back(tx);
                Attempt::Done(Ok(value))
            }
            Err(error) if with(&mut tx, |connection| connection.is_spent()) => {
                drop(tx);
                self.broke();
                if self.was_rolled_back(&id).await {
                    return Attempt::Again(error.into());
                }
                let message = "the connection was lost at the end of a transaction, and it may \
                               have happened or not";
                Attempt::Done(Err(Error::new(ErrorKind::Unavailable, message).into()))
            }
            Err(error) => {
                self.give_back(tx);
                Attempt::Done(Err(error.into()))
            }
        }
    }

    /// Begins to write: the transaction's number.
    async fn begin(&self, tx: &mut Tx, terms: Terms) -> Result<String, Error> {
        let super::Connection::Postgres(connection) = &mut tx.connection else {
            return Err(Error::new(ErrorKind::Other, "not a connection to PostgreSQL"));
        };
        let fence = self.fence.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut begin = String::from(match terms.lock {
            Some(_) => "BEGIN ISOLATION LEVEL READ COMMITTED",
            None => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        });
        if terms.durability == Durability::Process {
            begin += "; SET LOCAL synchronous_commit = off";
        }
        if let Some(lock) = terms.lock {
            begin += "; ";
            begin += &lock.statement();
        }
        let Some(fence) = fence else {
            begin += "; SELECT pg_current_xact_id()";
            let row = connection.simple_row(&begin).await?;
            return Ok(row.get(0).unwrap_or_default().to_owned());
        };
        // What is seen must be what there is once the table can be read, not before that.
        begin += "; LOCK TABLE settings IN ACCESS SHARE MODE; SELECT pg_current_xact_id(), (";
        begin += super::presence::LOOK;
        begin += ")";
        let row = connection.simple_row(&begin).await?;
        if row.get(1).unwrap_or_default() != fence || self.is_fenced.load(Ordering::Relaxed) {
            return Err(super::presence::fenced());
        }
        Ok(row.get(0).unwrap_or_default().to_owned())
    }

    /// What comes of a transaction that has not got to its end.
    async fn failed<T, E>(&self, mut tx: Tx, error: E) -> Attempt<T, E> {
        if with(&mut tx, |connection| connection.is_spent()) {
            return Attempt::Again(error);
        }
        if tx.statement("ROLLBACK").await.is_ok() {
            self.give_back(tx);
        }
        Attempt::Done(Err(error))
    }

    /// Whether the server says of the transaction with this number that it was rolled back.
    async fn was_rolled_back(&self, id: &str) -> bool {
        let started = Instant::now();
        let Ok(id) = id.parse::<u64>() else { return false };
        while started.elapsed() < PATIENCE {
            let Ok(mut connection) = self.connect_patiently(None, PATIENCE).await else {
                return false;
            };
            let look = format!("SELECT pg_xact_status('{id}'::xid8)");
            match connection.simple_row(&look).await {
                Ok(row) if row.get(0) == Some("aborted") => return true,
                Ok(row) if row.get(0) == Some("in progress") => {}
                Err(_) if connection.is_spent() => {}
                _ => return false,
            }
            tokio::time::sleep(FIRST_WAIT).await;
        }
        false
    }
}

/// When a transaction whose connection broke is run again: at once, then more and more rarely.
struct Retries {
    begun: Instant,
    wait: Duration,
}

impl Retries {
    fn begin() -> Self {
        Self { begun: Instant::now(), wait: Duration::ZERO }
    }

    /// False if it has been tried for long enough.
    async fn wait(&mut self) -> bool {
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        self.begun.elapsed() < PATIENCE
    }
}

/// Every connection here is one to PostgreSQL.
fn with<T: Default>(tx: &mut Tx, work: impl FnOnce(&mut Connection) -> T) -> T {
    match &mut tx.connection {
        super::Connection::Postgres(connection) => work(connection),
        super::Connection::Sqlite(_) => T::default(),
    }
}
