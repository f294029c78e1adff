//! The thread that writes.
//!
//! A durable write costs a wait for the disk, so all writes that are there when the writer comes
//! round share one commit. One that fails takes nothing with it: if it had changed something, all
//! are run again, each in a savepoint of its own. (Savepoints for all cost more than most writes.)

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::{Connection, Durability, Tx, TxFuture};
use super::{control, run_to_end};
use crate::{Error, ErrorKind};

/// Writes that share a commit, at most.
const MAX_GROUP: usize = 256;

/// How often the writer lets others run without getting more from them.
const YIELDS: u32 = 4;

/// After so long it gathers no more.
const MAX_GATHERING: Duration = Duration::from_millis(2);

/// A write on its way to the writer thread.
pub(super) struct Job {
    durability: Durability,
    work: Box<dyn Work>,
}

impl Job {
    pub(super) fn new<I, T, E, F>(
        durability: Durability,
        function: F,
        input: I,
        answer: oneshot::Sender<Result<T, E>>,
    ) -> Self
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send + 'static,
    {
        Self { durability, work: Box::new(Write { function, input, result: None, answer }) }
    }
}

/// What a write does, and how its caller hears of it.
trait Work: Send {
    /// Runs it; again if the transaction that it ran in was taken back. False if it has failed.
    fn run(&mut self, tx: &mut Tx) -> bool;

    /// Tells the caller once the commit has (or has not) happened.
    fn reply(self: Box<Self>, committed: Result<(), Error>);
}

/// A transaction function that waits for its turn, or for its commit.
struct Write<I, T, E, F> {
    function: F,
    input: I,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

impl<I, T, E, F> Work for Write<I, T, E, F>
where
    I: Send + Sync,
    T: Send,
    E: From<Error> + Send,
    F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E> + Send,
{
    fn run(&mut self, tx: &mut Tx) -> bool {
        let run = || run_to_end((self.function)(tx, &self.input));
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Other, "a transaction panicked: this is a defect").into())
        });
        self.result.insert(result).is_ok()
    }

    fn reply(self: Box<Self>, committed: Result<(), Error>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            // Also for a write that failed by itself: it may have seen what never came about.
            (Err(error), _) => Err(error.into()),
            (Ok(()), None) => return,
        };
        // A caller that has gone away needs no answer.
        let _ = self.answer.send(result);
    }
}

/// What the writer thread has.
pub(super) struct Writer {
    tx: Tx,
    /// What commits survive, as far as SQLite was told.
    durability: Option<Durability>,
    commits: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(tx: Tx, commits: Arc<AtomicU64>) -> Self {
        Self { tx, durability: None, commits }
    }

    /// Runs the writes of the queue until there is nobody left to send any.
    pub(super) fn write_in_groups(mut self, queue: &mpsc::Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            self.write_group(gather(first, queue));
        }
        // Leaves one tidy file behind. Failing costs the next start a few milliseconds.
        let _ = run_to_end(self.tx.statement("PRAGMA wal_checkpoint(TRUNCATE)"));
    }

    fn write_group(&mut self, mut group: Vec<Job>) {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let committed = self.commit(&mut group);
        self.commits.fetch_add(1, Ordering::SeqCst);
        for job in group {
            job.work.reply(committed.clone());
        }
    }

    /// Runs the group, and commits those that have not failed.
    fn commit(&mut self, group: &mut [Job]) -> Result<(), Error> {
        let power = group.iter().any(|job| job.durability == Durability::Power);
        self.survive(if power { Durability::Power } else { Durability::Process })?;
        let tx = &mut self.tx;
        if in_transaction(tx) {
            // The one before could not be taken back then.
            control(tx, "ROLLBACK")?;
        }
        control(tx, "BEGIN IMMEDIATE")?;
        let mut ran = Ok(());
        if !run_together(tx, group) {
            // After some errors (a full disk) SQLite has rolled back by itself.
            let _ = control(tx, "ROLLBACK");
            control(tx, "BEGIN IMMEDIATE")?;
            ran = run_apart(tx, group);
        }
        let committed = ran.and_then(|()| control(tx, "COMMIT"));
        if committed.is_err() {
            let _ = control(tx, "ROLLBACK");
        }
        committed
    }

    /// Makes the next commits survive this.
    fn survive(&mut self, durability: Durability) -> Result<(), Error> {
        if self.durability != Some(durability) {
            // In WAL mode NORMAL leaves the last commits to the page cache.
            control(
                &mut self.tx,
                match durability {
                    Durability::Power => "PRAGMA synchronous=FULL",
                    Durability::Process => "PRAGMA synchronous=NORMAL",
                },
            )?;
            self.durability = Some(durability);
        }
        Ok(())
    }
}

/// What shares a commit with `first`: what waits, and what comes from others who can run now. Where
/// cores are few, the writer is woken by a write and others are about to bring more.
fn gather(first: Job, queue: &mpsc::Receiver<Job>) -> Vec<Job> {
    let started = Instant::now();
    let mut group = vec![first];
    let mut in_vain = 0;
    loop {
        let before = group.len();
        group.extend(queue.try_iter().take(MAX_GROUP - before));
        in_vain = if group.len() > before { 0 } else { in_vain + 1 };
        if in_vain > YIELDS || group.len() == MAX_GROUP || started.elapsed() > MAX_GATHERING {
            return group;
        }
        thread::yield_now();
    }
}

/// Runs all writes. False if that must be taken back: one has failed after it had begun to change
/// something, or all was rolled back with it.
fn run_together(tx: &mut Tx, group: &mut [Job]) -> bool {
    group.iter_mut().all(|job| {
        let before = writes(tx);
        let succeeded = job.work.run(tx);
        in_transaction(tx) && (succeeded || writes(tx) == before)
    })
}

/// Runs each write in a savepoint of its own.
fn run_apart(tx: &mut Tx, group: &mut [Job]) -> Result<(), Error> {
    group.iter_mut().try_for_each(|job| {
        control(tx, "SAVEPOINT one")?;
        let succeeded = job.work.run(tx);
        if !in_transaction(tx) {
            // SQLite does so by itself when the disk is full, or fails.
            let message = "took back all writes that were to be committed together";
            return Err(Error::new(last_failure(tx), message));
        }
        if !succeeded {
            control(tx, "ROLLBACK TO one")?;
        }
        control(tx, "RELEASE one")
    })
}

/// How many statements that may change something were run.
fn writes(tx: &Tx) -> u64 {
    match &tx.connection {
        Connection::Sqlite(connection) => connection.writes.get(),
        Connection::Postgres(_) => 0,
    }
}

fn last_failure(tx: &Tx) -> ErrorKind {
    let failure = match &tx.connection {
        Connection::Sqlite(connection) => connection.failure.get(),
        Connection::Postgres(_) => None,
    };
    failure.unwrap_or(ErrorKind::Other)
}

fn in_transaction(tx: &Tx) -> bool {
    match &tx.connection {
        Connection::Sqlite(connection) => connection.is_in_transaction(),
        Connection::Postgres(_) => false,
    }
}
