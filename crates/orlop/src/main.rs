//! The binary: command line, configuration, wiring, start and stop.

#![deny(unsafe_code)]

mod access;
mod adoption;
mod allocator;
mod amazon_networks;
mod arguments;
mod check;
mod cli;
mod config;
mod config_command;
mod database;
mod db;
mod export;
mod garbage_collect;
mod generate;
mod health;
mod import;
mod logging;
mod progress;
mod purging;
mod redis;
mod reload;
mod serve;
mod store;
mod traces;
mod transfer;
mod transport;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;

use cli::{Cli, Command, DataCommand};
use config::{Config, Loaded, Mode};
use traces::Exporter;

/// How long closing may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    allocator::share_heaps();
    let command = Cli::parse_from(arguments::of_distribution(std::env::args_os())).command;
    match run(&command) {
        Ok(code) => code,
        Err(error) => {
            // Whatever the level of the log is.
            eprintln!("orlop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::OnData(command) => run_on_data(command),
        Command::Config(command) => config_command::run(command),
        Command::Completions { shell } => generate::completions(*shell),
        Command::Man => generate::man_page(),
    }
}

fn run_on_data(command: &DataCommand) -> anyhow::Result<ExitCode> {
    let (config, mode) = match command {
        DataCommand::Serve(serve) => (&serve.config, Mode::of(serve.strict)),
        DataCommand::Check(check) => (&check.config, Mode::Lenient),
        DataCommand::Import(import) => (&import.config, Mode::Lenient),
        DataCommand::Export(export) => (&export.config, Mode::Lenient),
        DataCommand::GarbageCollect(collect) => (&collect.config, Mode::Lenient),
        DataCommand::Db(command) => (command.config(), Mode::Lenient),
    };
    let path = config.path();
    if path.is_none() && arguments::is_distribution(std::env::args_os().next().as_deref()) {
        bail!(
            "no configuration file: as `registry` the program needs one, behind the command or in \
             REGISTRY_CONFIGURATION_PATH"
        );
    }
    let loaded = Config::load(path.as_deref(), config::environment(), mode)?;
    // With another store than the one that is asked for, nothing is right.
    if let Some(first) = loaded.unsupported.first() {
        bail!("{first}");
    }
    let (traces, warnings) = match command {
        DataCommand::Serve(_) => traces::from_environment(),
        _ => (None, Vec::new()),
    };
    let (recorder, exporter) = traces.unzip();
    logging::init(&loaded.config.log, recorder);
    for warning in loaded.warnings.iter().chain(&warnings) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let code = runtime.block_on(dispatch(command, loaded, exporter));
    // The database is closed when the last task that uses it is gone.
    runtime.shutdown_timeout(CLOSE_LIMIT);
    code
}

async fn dispatch(
    command: &DataCommand,
    loaded: Loaded,
    exporter: Option<Exporter>,
) -> anyhow::Result<ExitCode> {
    let config = &loaded.config;
    match command {
        DataCommand::Serve(serve) => serve::run(&loaded, serve, exporter).await,
        DataCommand::Check(check) => check::run(config, check.quick).await,
        DataCommand::Import(import) => import::run(config, import).await,
        DataCommand::Export(export) => export::run(config, export).await,
        DataCommand::GarbageCollect(collect) => garbage_collect::run(config, collect).await,
        DataCommand::Db(command) => db::run(config, command).await,
    }
}
