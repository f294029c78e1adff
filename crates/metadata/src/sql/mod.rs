//! Statements, values and transactions, whichever engine runs them.

mod lock;
mod postgres;
mod presence;
mod sqlite;
mod value;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use crate::{Error, ErrorKind, migrate, tables};
pub use lock::Lock;
pub use postgres::{Address, Connections};
pub use presence::{Presence, Role};
pub(crate) use value::{Row, Value, size};

/// How often a transaction that lost against others is run again before its caller hears of it.
const MAX_ATTEMPTS: u32 = 50;

/// The future of a transaction function.
pub type TxFuture<'t, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// The death of this process (`kill -9`), but not the loss of power.
    Process,
    /// The loss of power, too.
    Power,
}

/// What a transaction that writes asks of its engine.
#[derive(Clone, Copy)]
struct Terms {
    durability: Durability,
    lock: Option<Lock>,
}

/// A handle to the database. Clones share it.
#[derive(Clone)]
pub struct Metadata {
    engine: Engine,
}

#[derive(Clone)]
enum Engine {
    Sqlite(Arc<sqlite::Database>),
    Postgres(Arc<postgres::Database>),
}

impl Metadata {
    /// Opens the SQLite database at `path`, or makes it (readable by its owner only), and brings
    /// its schema up to date.
    ///
    /// Fails with [`ErrorKind::Damaged`] if the file is something else, is broken, can only be used
    /// by newer versions, or holds a copy that was cut short. The cost does not grow with the
    /// database.
    pub async fn open_sqlite(path: &Path) -> Result<Self, Error> {
        let metadata = Self::open_sqlite_for_copy(path).await?;
        metadata.read(&(), |tx, ()| Box::pin(migrate::check_whole(tx))).await?;
        Ok(metadata)
    }

    /// The same for what is to become a copy of another database ([`Self::copy_into`]).
    pub async fn open_sqlite_for_copy(path: &Path) -> Result<Self, Error> {
        let database = sqlite::Database::open(path)?;
        let metadata = Self { engine: Engine::Sqlite(Arc::new(database)) };
        metadata.migrate().await?;
        Ok(metadata)
    }

    /// Opens the SQLite database at `path` for reading only, beside a server that may be running.
    ///
    /// Fails with [`ErrorKind::Damaged`] as [`Self::open_sqlite`] does, and if the database was
    /// written by an older version, because it is not brought up to date.
    pub async fn open_sqlite_read_only(path: &Path) -> Result<Self, Error> {
        let metadata = Self::look_at_sqlite(path)?;
        metadata.check_schema().await?;
        Ok(metadata)
    }

    /// The same whatever its schema is: only [`Self::status`] is sure to work.
    pub fn look_at_sqlite(path: &Path) -> Result<Self, Error> {
        let database = sqlite::Database::open_read_only(path)?;
        Ok(Self { engine: Engine::Sqlite(Arc::new(database)) })
    }

    /// Connects to PostgreSQL (15 or newer) and brings the schema up to date. Waits half a minute
    /// for a server that is starting.
    pub async fn open_postgres(address: &Address) -> Result<Self, Error> {
        let metadata = Self::open_postgres_for_copy(address).await?;
        metadata.read(&(), |tx, ()| Box::pin(migrate::check_whole(tx))).await?;
        Ok(metadata)
    }

    /// The same for what is to become a copy of another database ([`Self::copy_into`]).
    pub async fn open_postgres_for_copy(address: &Address) -> Result<Self, Error> {
        let metadata = Self::look_at_postgres(address).await?;
        metadata.migrate().await?;
        Ok(metadata)
    }

    /// Connects to PostgreSQL as [`Self::open_postgres`] does, but leaves the schema as it is.
    ///
    /// Fails with [`ErrorKind::Damaged`] if this program can not use that.
    pub async fn open_postgres_as_is(address: &Address) -> Result<Self, Error> {
        let metadata = Self::look_at_postgres(address).await?;
        if metadata.status_of_schema().await?.version == 0 {
            let message = "there is no registry in it: `orlop db migrate` makes its tables";
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        metadata.check_schema().await?;
        Ok(metadata)
    }

    /// The same whatever its schema is: only [`Self::status`] and [`Self::has_schema`] are sure to
    /// work.
    pub async fn look_at_postgres(address: &Address) -> Result<Self, Error> {
        let database = postgres::Database::connect(address.clone()).await?;
        Ok(Self { engine: Engine::Postgres(Arc::new(database)) })
    }

    /// Whether there are tables of Orlop, of whatever version.
    pub async fn has_schema(&self) -> Result<bool, Error> {
        Ok(self.status_of_schema().await?.version > 0)
    }

    async fn status_of_schema(&self) -> Result<migrate::Schema, Error> {
        self.read(&(), |tx, ()| {
            Box::pin(async move {
                let there = tables::names(tx).await?;
                if there.iter().any(|name| name == "migrations") {
                    return migrate::schema(tx).await;
                }
                Ok(migrate::Schema { version: 0, compatible: 0 })
            })
        })
        .await
    }

    async fn check_schema(&self) -> Result<(), Error> {
        self.read(&(), |tx, ()| {
            Box::pin(async move {
                migrate::check(tx).await?;
                migrate::check_whole(tx).await
            })
        })
        .await
    }

    /// Runs `function` on a snapshot. It must only read.
    pub async fn read<I, T, E, F>(&self, input: &I, function: F) -> Result<T, E>
    where
        I: ?Sized + Sync,
        E: From<Error>,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send,
    {
        let span = self.read_span(&function);
        self.run_read(input, function).instrument(span).await
    }

    fn read_span<F>(&self, function: &F) -> tracing::Span {
        tracing::info_span!(
            target: "traces",
            "database read",
            db.system.name = self.system(),
            code.function.name = name_of(function),
        )
    }

    async fn run_read<I, T, E, F>(&self, input: &I, function: F) -> Result<T, E>
    where
        I: ?Sized + Sync,
        E: From<Error>,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send,
    {
        match &self.engine {
            Engine::Sqlite(database) => {
                let mut tx = database.reader()?;
                tx.execute("BEGIN", &[]).await?;
                let result = function(&mut tx, input).await;
                tx.execute("COMMIT", &[]).await?;
                database.give_back(tx);
                result
            }
            // Boxed, as most futures hold one, and most registries use SQLite.
            Engine::Postgres(database) => Box::pin(database.read(input, function)).await,
        }
    }

    /// The same where the answer may be as old as [`Address::with_staleness`] allows: a standby may
    /// give it, if there is one.
    pub async fn read_relaxed<I, T, E, F>(&self, input: &I, function: F) -> Result<T, E>
    where
        I: ?Sized + Sync,
        E: From<Error>,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send,
    {
        match &self.engine {
            Engine::Sqlite(_) => self.read(input, function).await,
            Engine::Postgres(database) => {
                let span = self.read_span(&function);
                Box::pin(database.read_relaxed(input, function)).instrument(span).await
            }
        }
    }

    /// Runs `function` as one transaction and returns once it is committed as safely as
    /// `durability` asks. Writes that arrive together share the wait for the disk. `function` may run
    /// more than once.
    pub async fn write<I, T, E, F>(
        &self,
        durability: Durability,
        input: I,
        function: F,
    ) -> Result<T, E>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Retry + Send + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send + 'static,
    {
        self.write_with(durability, None, input, function).await
    }

    /// The same for what is known of one repository. On PostgreSQL it costs less than
    /// [`Self::write`], because nothing but the lock keeps others away.
    pub async fn write_locked<I, T, E, F>(
        &self,
        durability: Durability,
        lock: Lock,
        input: I,
        function: F,
    ) -> Result<T, E>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Retry + Send + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send + 'static,
    {
        self.write_with(durability, Some(lock), input, function).await
    }

    async fn write_with<I, T, E, F>(
        &self,
        durability: Durability,
        lock: Option<Lock>,
        input: I,
        function: F,
    ) -> Result<T, E>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Retry + Send + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send + 'static,
    {
        let span = tracing::info_span!(
            target: "traces",
            "database write",
            db.system.name = self.system(),
            code.function.name = name_of(&function),
        );
        self.run_write(durability, lock, input, function).instrument(span).await
    }

    async fn run_write<I, T, E, F>(
        &self,
        durability: Durability,
        lock: Option<Lock>,
        input: I,
        function: F,
    ) -> Result<T, E>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Retry + Send + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send + 'static,
    {
        match &self.engine {
            Engine::Sqlite(database) => database.write(durability, input, function).await,
            Engine::Postgres(database) => {
                let terms = Terms { durability, lock };
                Box::pin(write_to_postgres(database, terms, &input, &function)).await
            }
        }
    }

    /// A number that stays the same for as long as nothing is written: what was read after it was
    /// looked up can be read again from memory while it is still the same.
    ///
    /// `None` while something is being committed, and where others than this handle and its clones
    /// may write. Nobody else may write to a database of [`Self::open_sqlite`]. Where it is allowed
    /// that answers are old ([`Address::with_staleness`]), the number changes with this handle's own
    /// writes, and before an answer is too old.
    pub fn version(&self) -> Option<u64> {
        match &self.engine {
            Engine::Sqlite(database) => database.version(),
            Engine::Postgres(database) => database.version(),
        }
    }

    /// Whether other servers may share the database: then what must be done by one at a time is
    /// agreed on in it.
    pub fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    /// How the connections to PostgreSQL are used. `None` with SQLite.
    pub fn connections(&self) -> Option<Connections> {
        match &self.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(database) => Some(database.connections()),
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        if let Engine::Sqlite(database) = &self.engine {
            database.check_file()?;
        }
        self.read(&(), |tx, ()| Box::pin(async move { tx.statement("SELECT 1").await })).await
    }

    /// Reads the whole database and reports what its own structure check finds. Only for SQLite;
    /// PostgreSQL looks after itself.
    pub async fn check_structure(&self) -> Result<Vec<String>, Error> {
        match &self.engine {
            Engine::Sqlite(_) => {
                self.read(&(), |tx, ()| {
                    Box::pin(async move {
                        let rows = tx.query("PRAGMA integrity_check", &[]).await?;
                        let lines =
                            rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
                        Ok(lines.into_iter().filter(|line| line != "ok").collect())
                    })
                })
                .await
            }
            Engine::Postgres(_) => Ok(Vec::new()),
        }
    }

    /// As OpenTelemetry calls it.
    fn system(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres(_) => "postgresql",
        }
    }

    /// Whoever uses the database needs no right to change its tables if they are as they should be.
    async fn migrate(&self) -> Result<(), Error> {
        if self.check_schema().await.is_ok() {
            return Ok(());
        }
        self.write(Durability::Power, (), |tx, ()| Box::pin(migrate::run(tx))).await
    }
}

/// Runs a transaction until it has not lost against others.
async fn write_to_postgres<I, T, E, F>(
    database: &postgres::Database,
    terms: Terms,
    input: &I,
    function: &F,
) -> Result<T, E>
where
    I: Send + Sync + 'static,
    E: From<Error> + Retry,
    F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E>,
{
    for attempt in 1..MAX_ATTEMPTS {
        match database.write(terms, input, function).await {
            Err(error) if error.is_conflict() => {
                database.note_conflict();
                yield_to_others(attempt).await;
            }
            done => return done,
        }
    }
    database.write(terms, input, function).await
}

/// Lets those win that a transaction has lost against `attempt` times, longer each time.
async fn yield_to_others(attempt: u32) {
    let random = u64::from(uuid::Uuid::now_v7().as_fields().1 ^ uuid::Uuid::now_v7().as_fields().2);
    let limit = u64::from(attempt.min(10)) * 500;
    if attempt < 3 {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(Duration::from_micros(random % limit)).await;
    }
}

/// The function that a transaction function was written in, for traces.
fn name_of<F>(_: &F) -> &'static str {
    std::any::type_name::<F>().trim_end_matches("::{{closure}}")
}

/// Tells whether an error means "somebody else was faster: run it again". Errors of the rules
/// implement it by asking the database error inside them.
pub trait Retry {
    /// True if running the same transaction again may succeed.
    fn is_conflict(&self) -> bool;
}

impl Retry for Error {
    fn is_conflict(&self) -> bool {
        self.kind() == ErrorKind::Conflict
    }
}

/// A statement and what it is run with.
pub(crate) type Query = (&'static str, Vec<Value>);

/// Where a transaction function runs its statements.
pub struct Tx {
    connection: Connection,
}

enum Connection {
    Sqlite(sqlite::Connection),
    Postgres(postgres::Connection),
}

impl Tx {
    /// Runs a query and returns its rows.
    pub(crate) async fn query(
        &mut self,
        sql: &'static str,
        parameters: &[Value],
    ) -> Result<Vec<Row>, Error> {
        match &mut self.connection {
            Connection::Sqlite(connection) => connection.query(sql, parameters),
            Connection::Postgres(connection) => connection.query(sql, parameters).await,
        }
    }

    /// Runs a query that has at most one row.
    pub(crate) async fn query_one(
        &mut self,
        sql: &'static str,
        parameters: &[Value],
    ) -> Result<Option<Row>, Error> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        sql: &'static str,
        parameters: &[Value],
    ) -> Result<u64, Error> {
        match &mut self.connection {
            Connection::Sqlite(connection) => connection.execute(sql, parameters),
            Connection::Postgres(connection) => connection.execute(sql, parameters).await,
        }
    }

    /// Runs several queries whose answers do not depend on each other, and returns the rows of each.
    /// Over a network that takes one round trip.
    pub(crate) async fn query_all(&mut self, queries: &[Query]) -> Result<Vec<Vec<Row>>, Error> {
        match &mut self.connection {
            Connection::Sqlite(connection) => {
                queries.iter().map(|(sql, values)| connection.query(sql, values)).collect()
            }
            Connection::Postgres(connection) => connection.query_all(queries).await,
        }
    }

    /// What time it is by the clock of the database, which all who share it have in common.
    pub(crate) async fn clock(&mut self) -> Result<i64, Error> {
        let sql = match self.connection {
            Connection::Sqlite(_) => "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            Connection::Postgres(_) => {
                "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
            }
        };
        let row = self.query_one(sql, &[]).await?;
        row.map_or_else(
            || Err(Error::new(ErrorKind::Other, "the database does not tell the time")),
            |row| row.integer(0),
        )
    }

    /// Runs text that is not worth preparing: several statements, or transaction control.
    pub(crate) async fn statement(&mut self, sql: &str) -> Result<(), Error> {
        match &mut self.connection {
            Connection::Sqlite(connection) => connection.statement(sql),
            Connection::Postgres(connection) => connection.statement(sql).await,
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.connection, Connection::Postgres(_))
    }

    /// The words that the two engines spell differently.
    pub(crate) fn dialect(&self) -> &'static [(&'static str, &'static str)] {
        match self.connection {
            Connection::Sqlite(_) => sqlite::DIALECT,
            Connection::Postgres(_) => postgres::DIALECT,
        }
    }
}
