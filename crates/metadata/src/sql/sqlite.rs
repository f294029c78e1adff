//! SQLite: reads run where they are asked for, writes run on one thread that commits in groups.
//!
//! A point read costs microseconds, so it is not worth a hop to another thread.

mod writer;

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, OpenFlags};
use tokio::sync::oneshot;

use writer::{Job, Writer};

use super::{Durability, Row, Tx, TxFuture, Value};
use crate::{Error, ErrorKind, migrate};

pub(super) const DIALECT: &[(&str, &str)] =
    &[("{ID}", "INTEGER PRIMARY KEY AUTOINCREMENT"), ("{TEXT}", "TEXT"), ("{BYTES}", "BLOB")];

/// Marks a file as ours: "ORLP".
const APPLICATION_ID: i64 = 0x4f52_4c50;

/// Pages that the writer keeps in memory, in KiB, at most. What a large transaction changes and
/// what does not fit is written twice.
const WRITER_CACHE: u32 = 8 * 1024;

/// Readers kept open for the next read.
const MAX_IDLE_READERS: usize = 16;

pub(super) struct Database {
    path: PathBuf,
    /// The file that was opened under this path: its device and number.
    file: (u64, u64),
    readers: Mutex<Vec<Tx>>,
    /// Twice the number of groups of writes; one more while there is one, when a reader may see
    /// what was before it or what comes after.
    commits: Arc<AtomicU64>,
    /// `None` only while dropping, and for a database opened for reading.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        create_private(path)?;
        let mut tx = Tx { connection: super::Connection::Sqlite(Connection::open(path)?) };
        prepare_file(&mut tx)?;
        let (jobs, queue) = mpsc::channel();
        let commits = Arc::new(AtomicU64::new(0));
        let writer = Writer::new(tx, Arc::clone(&commits));
        let thread = thread::Builder::new()
            .name("metadata-writer".to_owned())
            .spawn(move || writer.write_in_groups(&queue))
            .map_err(|error| {
                Error::new(ErrorKind::Other, format!("cannot start the writer thread: {error}"))
            })?;
        Ok(Self {
            path: path.to_owned(),
            file: identity(path)?,
            readers: Mutex::new(Vec::new()),
            commits,
            jobs: Some(jobs),
            writer: Some(thread),
        })
    }

    pub(super) fn open_read_only(path: &Path) -> Result<Self, Error> {
        let database = Self {
            path: path.to_owned(),
            file: identity(path)?,
            readers: Mutex::default(),
            commits: Arc::default(),
            jobs: None,
            writer: None,
        };
        let mut reader = Connection::open_for_reading(path)?;
        let look = "SELECT count(*) FROM sqlite_schema";
        match reader.handle.query_row(look, [], |_| Ok(())) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
                reader = Connection::open_immutable(path)?;
            }
            looked => looked.map_err(|error| Error::from_sqlite(&error, path))?,
        }
        check_mark(&mut reader)?;
        let reader = Tx { connection: super::Connection::Sqlite(reader) };
        database.give_back(reader);
        Ok(database)
    }

    /// A connection for reading: an idle one, or a new one.
    pub(super) fn reader(&self) -> Result<Tx, Error> {
        let idle = self.idle_readers().pop();
        if let Some(reader) = idle {
            return Ok(reader);
        }
        let connection = Connection::open_for_reading(&self.path)?;
        Ok(Tx { connection: super::Connection::Sqlite(connection) })
    }

    /// See [`super::Metadata::version`].
    pub(super) fn version(&self) -> Option<u64> {
        let commits = self.commits.load(Ordering::SeqCst);
        (self.jobs.is_some() && commits.is_multiple_of(2)).then_some(commits)
    }

    /// Fails if the file was removed or replaced since it was opened: what is written now would be
    /// gone after the next start.
    pub(super) fn check_file(&self) -> Result<(), Error> {
        if identity(&self.path)? == self.file {
            return Ok(());
        }
        let message = format!("{} is another file than at the start", self.path.display());
        Err(Error::new(ErrorKind::Damaged, message))
    }

    pub(super) fn give_back(&self, reader: Tx) {
        let mut idle = self.idle_readers();
        if idle.len() < MAX_IDLE_READERS {
            idle.push(reader);
        }
    }

    pub(super) async fn write<I, T, E, F>(
        &self,
        durability: Durability,
        input: I,
        function: F,
    ) -> Result<T, E>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Job::new(durability, function, input, answer);
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(Error::new(ErrorKind::ReadOnly, "it is open for reading only").into());
        }
        answered.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Other, "the writer thread has stopped").into())
        })
    }

    fn idle_readers(&self) -> std::sync::MutexGuard<'_, Vec<Tx>> {
        self.readers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Database {
    /// Writes what is queued, then closes the file properly.
    fn drop(&mut self) {
        self.idle_readers().clear();
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Polls a future that never waits. Transaction functions only wait for their [`Tx`], and SQLite's
/// answers at once.
fn run_to_end<T, E: From<Error>>(future: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => {
            Err(Error::new(ErrorKind::Other, "a transaction waited: this is a defect").into())
        }
    }
}

fn control(tx: &mut Tx, sql: &'static str) -> Result<(), Error> {
    match &mut tx.connection {
        super::Connection::Sqlite(connection) => connection.control(sql),
        super::Connection::Postgres(_) => Ok(()),
    }
}

/// Makes sure that there is a file, readable by nobody else. A new one comes into its place whole:
/// whenever the power goes, the file under this name is a database or is not there.
fn create_private(path: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                ErrorKind::ReadOnly
            }
            io::ErrorKind::StorageFull => ErrorKind::Full,
            _ => ErrorKind::Other,
        };
        Error::new(kind, format!("cannot open {}: {error}", path.display()))
    };
    match OpenOptions::new().read(true).write(true).open(path).and_then(|file| file.metadata()) {
        Ok(found) if found.len() > 0 => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        // An empty file is what a crash or a full disk may leave of a new one.
        _ => {}
    }
    // The log of a database that is gone would be replayed into the new one.
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let new = path.with_added_extension("new");
    remove(Path::new(&log)).map_err(failed)?;
    let file = empty_file(&new).map_err(failed)?;
    mark_new_file(&new)?;
    let folder = path.parent().unwrap_or(path);
    file.sync_all()
        .and_then(|()| std::fs::rename(&new, path))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(failed)
}

fn identity(path: &Path) -> Result<(u64, u64), Error> {
    let found = std::fs::metadata(path).map_err(|error| {
        Error::new(ErrorKind::Damaged, format!("cannot find {}: {error}", path.display()))
    })?;
    Ok((found.dev(), found.ino()))
}

fn empty_file(path: &Path) -> io::Result<File> {
    remove(path)?;
    OpenOptions::new().read(true).write(true).mode(0o600).create_new(true).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes an empty file ours, with the schema in it. Nothing of it counts before the caller has
/// synced it, so nothing waits for the disk here.
fn mark_new_file(path: &Path) -> Result<(), Error> {
    let mut connection = Connection::open(path)?;
    connection.statement(&format!(
        "PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF; PRAGMA application_id={APPLICATION_ID};"
    ))?;
    let mut tx = Tx { connection: super::Connection::Sqlite(connection) };
    control(&mut tx, "BEGIN")?;
    run_to_end(migrate::run(&mut tx))?;
    control(&mut tx, "COMMIT")?;
    run_to_end(tx.statement("PRAGMA journal_mode=WAL"))
}

/// Checks that the file is ours and sets what lasts in it, and how the writer works. What takes a
/// savepoint back is kept in memory: in a file it would be most of what a transaction writes.
///
/// There are no statistics (`sqlite_stat1` and `4`): taken when there are few rows, they make SQLite read
/// whole tables when there are many. Without them it uses the indices, which all queries have.
fn prepare_file(tx: &mut Tx) -> Result<(), Error> {
    let super::Connection::Sqlite(connection) = &mut tx.connection else {
        return Ok(());
    };
    check_mark(connection)?;
    connection.statement(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY; \
         PRAGMA cache_size=-{WRITER_CACHE}; \
         DROP TABLE IF EXISTS sqlite_stat1; DROP TABLE IF EXISTS sqlite_stat4"
    ))
}

/// Fails if the file is not one of ours.
fn check_mark(connection: &mut Connection) -> Result<(), Error> {
    if connection.pragma("PRAGMA application_id")? == APPLICATION_ID {
        return Ok(());
    }
    let message = format!("{} is the database of another program", connection.path.display());
    Err(Error::new(ErrorKind::Damaged, message))
}

/// One connection to the file.
pub(super) struct Connection {
    handle: rusqlite::Connection,
    path: PathBuf,
    /// Statements that may have changed something.
    writes: Cell<u64>,
    /// What went wrong last.
    failure: Cell<Option<ErrorKind>>,
}

impl Connection {
    fn open(path: &Path) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::with_flags(path, path, flags)
    }

    fn open_for_reading(path: &Path) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::with_flags(path, path, flags)
    }

    /// Opens a file that nobody writes to, on a file system that nobody can write to: even for
    /// reading SQLite would make files beside it.
    fn open_immutable(path: &Path) -> Result<Self, Error> {
        let name = path.to_string_lossy();
        let name = name.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        Self::with_flags(path, Path::new(&format!("file:{name}?immutable=1")), flags)
    }

    /// `name` is what SQLite calls the file.
    fn with_flags(path: &Path, name: &Path, flags: OpenFlags) -> Result<Self, Error> {
        let open = || {
            let connection = rusqlite::Connection::open_with_flags(name, flags)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            connection.set_prepared_statement_cache_capacity(128);
            // Plans are made for the statement, not for its parameters: else SQLite plans a join
            // anew each time it runs, which takes twelve times as long as running it.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            Ok(connection)
        };
        match open() {
            Ok(handle) => Ok(Self {
                handle,
                path: path.to_owned(),
                writes: Cell::default(),
                failure: Cell::default(),
            }),
            Err(error) => Err(Error::from_sqlite(&error, path)),
        }
    }

    pub(super) fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Error> {
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            self.count(&statement);
            let columns = statement.column_count();
            bind(&mut statement, parameters)?;
            let mut rows = statement.raw_query();
            let mut answer = Vec::new();
            while let Some(row) = rows.next()? {
                let values = (0..columns)
                    .map(|column| row.get_ref(column).map(own))
                    .collect::<Result<_, _>>()?;
                answer.push(Row(values));
            }
            Ok(answer)
        })
    }

    pub(super) fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Error> {
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            bind(&mut statement, parameters)?;
            let changed = statement.raw_execute();
            // What has found nothing to change counts for nothing.
            if !matches!(changed, Ok(0)) {
                self.count(&statement);
            }
            Ok(changed? as u64)
        })
    }

    pub(super) fn statement(&mut self, sql: &str) -> Result<(), Error> {
        self.writes.update(|writes| writes + 1);
        self.run(|connection| connection.execute_batch(sql))
    }

    fn is_in_transaction(&self) -> bool {
        !self.handle.is_autocommit()
    }

    /// Begins or ends a transaction.
    pub(super) fn control(&mut self, sql: &'static str) -> Result<(), Error> {
        self.execute(sql, &[]).map(drop)
    }

    fn count(&self, statement: &rusqlite::Statement<'_>) {
        if !statement.readonly() {
            self.writes.update(|writes| writes + 1);
        }
    }

    fn pragma(&mut self, sql: &str) -> Result<i64, Error> {
        self.run(|connection| connection.query_row(sql, [], |row| row.get(0)))
    }

    fn run<T>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        work(&self.handle).map_err(|error| {
            let error = Error::from_sqlite(&error, &self.path);
            self.failure.set(Some(error.kind()));
            error
        })
    }
}

/// Binds `$1`, `$2` … by their numbers. To SQLite they are names, numbered as they come in the text.
fn bind(statement: &mut rusqlite::Statement<'_>, parameters: &[Value]) -> rusqlite::Result<()> {
    for index in 1..=statement.parameter_count() {
        let number = statement.parameter_name(index).and_then(|name| name.get(1..)?.parse().ok());
        let value = number.and_then(|number: usize| parameters.get(number.checked_sub(1)?));
        let Some(value) = value else {
            return Err(rusqlite::Error::InvalidParameterCount(parameters.len(), index));
        };
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}

fn own(value: ValueRef<'_>) -> Value {
    match value {
        // No column holds a real number.
        ValueRef::Null | ValueRef::Real(_) => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
