//! The binary: command line, configuration, wiring, start and stop.

#![deny(unsafe_code)]

mod access;
mod adoption;
mod allocator;
mod arguments;
mod check;
mod cli;
mod config;
mod config_command;
mod export;
mod garbage_collect;
mod generate;
mod health;
mod import;
mod logging;
mod progress;
mod purging;
mod reload;
mod serve;
mod store;
mod transport;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;

use cli::{Cli, Command};
use config::{Config, Loaded, Mode};

/// How long closing may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    allocator::share_heaps();
    let command = Cli::parse_from(arguments::of_distribution(std::env::args_os())).command;
    match run(&command) {
        Ok(code) => code,
        Err(error) => {
            // One line, whatever the level of the log is.
            eprintln!("orlop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let (file, mode) = match command {
        Command::Serve(serve) => (serve.config.path(), Mode::of(serve.strict)),
        Command::Check(check) => (check.config.path(), Mode::Lenient),
        Command::Import(import) => (import.config.path(), Mode::Lenient),
        Command::Export(export) => (export.config.path(), Mode::Lenient),
        Command::GarbageCollect(collect) => (collect.config.path(), Mode::Lenient),
        Command::Config(command) => return config_command::run(command),
        Command::Completions { shell } => return generate::completions(*shell),
        Command::Man => return generate::man_page(),
    };
    let loaded = Config::load(file.as_deref(), config::environment(), mode)?;
    // With another store than the one that is asked for, nothing is right.
    if let Some(first) = loaded.unsupported.first() {
        bail!("{first}");
    }
    logging::init(&loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let code = runtime.block_on(dispatch(command, loaded));
    // The database is closed when the last task that uses it is gone.
    runtime.shutdown_timeout(CLOSE_LIMIT);
    code
}

async fn dispatch(command: &Command, loaded: Loaded) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(serve) => serve::run(&loaded, serve).await,
        Command::Check(check) => check::run(&loaded.config, check.quick).await,
        Command::Import(import) => import::run(&loaded.config, import).await,
        Command::Export(export) => export::run(&loaded.config, export).await,
        Command::GarbageCollect(collect) => garbage_collect::run(&loaded.config, collect).await,
        // These need no configuration and have been run.
        Command::Config(_) | Command::Completions { .. } | Command::Man => Ok(ExitCode::SUCCESS),
    }
}
