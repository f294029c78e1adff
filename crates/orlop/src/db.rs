//! `orlop db …`: the database, looked at, brought up to date, copied.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::PoisonError;
use std::time::Instant;

use anyhow::{Context as _, bail};
use metadata::{CopyProgress, Metadata, Role};

use crate::cli::{DbCommand, DbCopy};
use crate::config::{self, Config};
use crate::database;
use crate::import::{count, say};
use crate::progress::{seconds, size, watch};

pub(crate) async fn run(config: &Config, command: &DbCommand) -> anyhow::Result<ExitCode> {
    match command {
        DbCommand::Status { .. } => status(config).await?,
        DbCommand::Migrate { .. } => migrate(config).await?,
        DbCommand::Copy(copy) => Box::pin(self::copy(config, copy)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(config: &Config) -> anyhow::Result<()> {
    let metadata = database::look_at(config).await?;
    let status = metadata.status().await?;
    let engine = match config.database {
        config::Database::Postgres { .. } => "PostgreSQL",
        config::Database::Sqlite(_) | config::Database::Temporary => "SQLite",
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "database   {}", database::place(config))?;
    writeln!(out, "engine     {engine} {}", status.server)?;
    writeln!(out, "size       {}", size(status.bytes))?;
    let schema = match (status.schema, status.known) {
        (0, known) => format!("none yet; `orlop db migrate` makes version {known}"),
        (schema, known) if schema < known => {
            format!("version {schema}; `orlop db migrate` brings it to version {known}")
        }
        (schema, known) if status.compatible > known => {
            format!("version {schema}, which this program ({known}) can not use")
        }
        (schema, known) if schema > known => {
            format!("version {schema}, which this program ({known}) can use")
        }
        (schema, _) => format!("version {schema}, up to date"),
    };
    writeln!(out, "schema     {schema}")?;
    if status.is_part {
        writeln!(
            out,
            "a part of another database: run the `orlop db copy` again that was cut short"
        )?;
    }
    for (table, rows) in &status.tables {
        writeln!(out, "{rows:>10} {table}")?;
    }
    Ok(())
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    // Opening does it, beside servers too: a migration leaves to those that run what they need.
    let metadata = if let Some(address) = config.database.address()? {
        metadata::Metadata::open_postgres(&address).await?
    } else {
        database::look_at(config).await?;
        database::open(config, Role::Alone).await?.metadata
    };
    let version = metadata.status().await?.schema;
    say(&format!("{}: the schema has version {version}", database::place(config)))
}

async fn copy(config: &Config, copy: &DbCopy) -> anyhow::Result<()> {
    let from = match (&copy.from, config.storage.place.folder(), &config.database) {
        (Some(from), ..) => from.clone(),
        (None, _, config::Database::Sqlite(file)) => file.display().to_string(),
        (None, Some(folder), _) => folder.display().to_string(),
        (None, None, _) => bail!("where from? Give --from"),
    };
    let to = match (&copy.to, &config.database) {
        (Some(to), _) => to.clone(),
        (None, config::Database::Postgres { url, .. }) => url.expose().to_owned(),
        (None, _) => bail!(
            "where to? Give --to, or set database.url (REGISTRY_DATABASE_URL) to the PostgreSQL \
             database"
        ),
    };
    let source = database::open_side(&from, false).await.context("--from")?;
    let copied = async {
        let target = database::open_side(&to, true).await.context("--to")?;
        target.alone(Box::pin(copy_rows(&source.metadata, &target.metadata))).await
    };
    source.alone(Box::pin(copied)).await
}

async fn copy_rows(source: &Metadata, target: &Metadata) -> anyhow::Result<()> {
    let progress = CopyProgress::default();
    let started = Instant::now();
    let work = source.copy_into(target, &progress);
    let rows = watch("rows", work, || {
        let step = progress.step.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (count(&progress.done), count(&progress.expected), step)
    })
    .await?;
    say(&format!(
        "copied {rows} rows in {}, and found every one of them the same in the copy. From now on \
         use only one of the two: what is written to the other is lost",
        seconds(started.elapsed())
    ))
}
