//! Statements, values and transactions, whichever engine runs them.

mod postgres;
mod sqlite;
mod value;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tracing::Instrument;

use crate::{Error, ErrorKind, migrate};
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
    /// Fails with [`ErrorKind::Damaged`] if the file is something else, is broken, or was written
    /// by a newer version. The cost does not grow with the database.
    pub async fn open_sqlite(path: &Path) -> Result<Self, Error> {
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
        let database = sqlite::Database::open_read_only(path)?;
        let metadata = Self { engine: Engine::Sqlite(Arc::new(database)) };
        metadata.read(&(), |tx, ()| Box::pin(migrate::check(tx))).await?;
        Ok(metadata)
    }

    /// Connects to PostgreSQL (15 or newer) and brings the schema up to date. `config` is a
    /// `postgres://` URL or a `key=value` text.
    pub async fn open_postgres(config: &str) -> Result<Self, Error> {
        let database = postgres::Database::connect(config).await?;
        let metadata = Self { engine: Engine::Postgres(Arc::new(database)) };
        metadata.migrate().await?;
        Ok(metadata)
    }

    /// Runs `function` on a snapshot. It must only read.
    pub async fn read<I, T, E, F>(&self, input: &I, function: F) -> Result<T, E>
    where
        I: ?Sized + Sync,
        E: From<Error>,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send,
    {
        let span = tracing::info_span!(
            target: "traces",
            "database read",
            db.system.name = self.system(),
            code.function.name = name_of(&function),
        );
        self.run_read(input, function).instrument(span).await
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
            Engine::Postgres(database) => {
                let mut tx = database.connection().await?;
                tx.statement("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                let result = function(&mut tx, input).await;
                tx.statement("COMMIT").await?;
                database.give_back(tx);
                result
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
        let span = tracing::info_span!(
            target: "traces",
            "database write",
            db.system.name = self.system(),
            code.function.name = name_of(&function),
        );
        self.run_write(durability, input, function).instrument(span).await
    }

    async fn run_write<I, T, E, F>(
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
        match &self.engine {
            Engine::Sqlite(database) => database.write(durability, input, function).await,
            Engine::Postgres(database) => {
                for _ in 1..MAX_ATTEMPTS {
                    match database.write(durability, &input, &function).await {
                        Err(error) if error.is_conflict() => tokio::task::yield_now().await,
                        done => return done,
                    }
                }
                database.write(durability, &input, &function).await
            }
        }
    }

    /// A number that stays the same for as long as nothing is written: what was read after it was
    /// looked up can be read again from memory while it is still the same.
    ///
    /// `None` while something is being committed, and where others than this handle and its clones
    /// may write. Nobody else may write to a database of [`Self::open_sqlite`].
    pub fn version(&self) -> Option<u64> {
        match &self.engine {
            Engine::Sqlite(database) => database.version(),
            Engine::Postgres(_) => None,
        }
    }

    /// Whether other servers may share the database: then what must be done by one at a time is
    /// agreed on in it.
    pub fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
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

    async fn migrate(&self) -> Result<(), Error> {
        self.write(Durability::Power, (), |tx, ()| Box::pin(migrate::run(tx))).await
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

    /// The words that the two engines spell differently.
    pub(crate) fn dialect(&self) -> &'static [(&'static str, &'static str)] {
        match self.connection {
            Connection::Sqlite(_) => sqlite::DIALECT,
            Connection::Postgres(_) => postgres::DIALECT,
        }
    }
}
