//! What servers may have behind them instead of a folder: PostgreSQL for their facts, and an object
//! store for their bytes. One of each serves all of a run, started when a row first needs it.

mod postgres;
mod seaweedfs;

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::postgres::Postgres;
use self::seaweedfs::SeaweedFs;
pub(crate) use self::seaweedfs::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY};
use crate::server::{Kind, Setup};

/// One that is not ready by then has failed.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Where `e2e/install.sh` puts it.
const WEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/.tools/bin/weed");

#[derive(Args)]
pub(crate) struct Installed {
    /// The folder with PostgreSQL's programs [default: Debian's newest]
    #[arg(long, value_name = "FOLDER")]
    postgres: Option<PathBuf>,
    /// The weed program, an object store [default: the one of e2e/install.sh]
    #[arg(long, value_name = "PATH", default_value = WEED)]
    weed: PathBuf,
}

/// What one server has behind it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind {
    pub(crate) database: Option<Database>,
    pub(crate) bucket: Option<Bucket>,
}

/// A database of a server's own.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) url: String,
    /// PostgreSQL's first process.
    pub(crate) process: u32,
}

/// A folder of the bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) endpoint: String,
    pub(crate) folder: String,
    pub(crate) process: u32,
}

pub(crate) struct Engines<'a> {
    installed: &'a Installed,
    folder: &'a Path,
    postgres: OnceCell<Postgres>,
    store: OnceCell<SeaweedFs>,
    /// How many databases were made.
    databases: Cell<u32>,
}

impl<'a> Engines<'a> {
    /// None runs yet; their data will be in `folder`. They run on the load's core.
    pub(crate) fn new(installed: &'a Installed, folder: &'a Path) -> Self {
        let (postgres, store) = (OnceCell::new(), OnceCell::new());
        Self { installed, folder, postgres, store, databases: Cell::new(0) }
    }

    /// What a server needs behind it in this setup.
    pub(crate) fn behind(&self, kind: Kind, setup: Setup) -> Result<Behind> {
        let has_database = setup.has_database() && kind == Kind::Orlop;
        let folder = format!("{}-{setup:?}", kind.name());
        Ok(Behind {
            database: has_database.then(|| self.database()).transpose()?,
            bucket: setup.has_bucket().then(|| self.bucket(folder)).transpose()?,
        })
    }

    fn database(&self) -> Result<Database> {
        if self.postgres.get().is_none() {
            let started = Postgres::start(self.installed.postgres.as_deref(), self.folder)
                .context("PostgreSQL, which bench/install.sh installs")?;
            let _ = self.postgres.set(started);
        }
        let postgres = self.postgres.get().context("no PostgreSQL")?;
        let number = self.databases.get() + 1;
        self.databases.set(number);
        postgres.create(&format!("bench{number}"))
    }

    fn bucket(&self, folder: String) -> Result<Bucket> {
        if self.store.get().is_none() {
            let started = SeaweedFs::start(&self.installed.weed, self.folder)
                .context("SeaweedFS, which bench/install.sh installs")?;
            let _ = self.store.set(started);
        }
        Ok(self.store.get().context("no object store")?.folder(folder))
    }
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}: {}", output.status, said.trim());
    Ok(())
}

/// Tries until it works.
fn wait_until(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err(_) if begin.elapsed() < START_LIMIT => sleep(Duration::from_millis(100)),
            outcome => return outcome.context("did not get ready"),
        }
    }
}
