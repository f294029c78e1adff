//! Orlop beside its peers: starts every server on loopback, gives all the same content, runs each
//! row in turn A B C A B C …, and prints figures and ratios. See `README.md`.

#![forbid(unsafe_code)]

mod arrivals;
mod background;
mod content;
mod cores;
mod goal;
mod grown;
mod http;
mod load;
mod outcome;
mod process;
mod random;
mod registry;
mod report;
mod rows;
mod seed;
mod server;
mod trace;
mod unit;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Parser;

use crate::cores::Cores;
use crate::outcome::{Figures, Outcome};
use crate::registry::Shelf;
use crate::rows::{Extra, Pass, Row, Scale};
use crate::seed::Seed;
use crate::server::{Kind, Server};

/// Measures Orlop beside docker-registry and nginx, all on loopback, and prints ratios.
#[derive(Parser)]
#[command(name = "orlop-bench")]
#[allow(clippy::struct_excessive_bools, reason = "options of a command line")]
struct Options {
    /// The `orlop` program; without it only the peers run
    #[arg(long, value_name = "PATH")]
    orlop: Option<PathBuf>,
    /// The docker-registry program
    #[arg(long, value_name = "PATH", default_value = "docker-registry")]
    docker_registry: PathBuf,
    /// The nginx program
    #[arg(long, value_name = "PATH", default_value = "nginx")]
    nginx: PathBuf,
    /// Rounds over all servers for each row [default: 5; with --short 3]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Short samples: the whole run takes about three minutes
    #[arg(long)]
    short: bool,
    /// Only rows whose name contains this
    #[arg(long, value_name = "SUBSTRING")]
    only: Option<String>,
    /// The rows with a million tags, repositories and blobs also with --short
    #[arg(long)]
    grow: bool,
    /// The rows with skopeo and crane too, if they are installed
    #[arg(long)]
    clients: bool,
    /// Also write all figures, every sample included, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the servers keep their data; a new folder in it is removed afterwards
    #[arg(long, value_name = "FOLDER", default_value_os_t = std::env::temp_dir())]
    data: PathBuf,
    /// Let the kernel choose the cores instead of keeping server and load apart
    #[arg(long)]
    unpinned: bool,
    /// Exit with 1 if a goal is missed
    #[arg(long)]
    check: bool,
}

impl Options {
    fn wants(&self, extra: Extra) -> bool {
        match extra {
            Extra::Growth => self.grow || !self.short,
            Extra::Clients => self.clients,
            Extra::Long => !self.short,
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let options = Options::parse();
    let rows = chosen_rows(&options)?;
    let scale = if options.short { Scale::short() } else { Scale::full() };
    let rounds = options.rounds.unwrap_or(if options.short { 3 } else { 5 });
    let cores = Cores::choose(options.unpinned);
    cores.pin_load()?;

    let folder = tempfile::tempdir_in(&options.data)
        .with_context(|| format!("cannot make a folder in {}", options.data.display()))?;
    let mut servers = servers(&options, folder.path(), cores)?;
    let seed = Seed::new();
    for server in &mut servers {
        let name = server.kind().name();
        eprintln!("{:4} s  starting and filling {name}", begin.elapsed().as_secs());
        server.start()?;
        seed.fill(server).with_context(|| format!("filling {name}"))?;
        if rows.iter().any(|row| row.needs_lists) {
            seed::fill_lists(server).with_context(|| format!("filling {name}'s lists"))?;
        }
    }

    let mut outcomes = Vec::new();
    for row in rows {
        eprintln!("{:4} s  {}", begin.elapsed().as_secs(), row.name);
        outcomes.push(run(row, &mut servers, rounds, &scale, &seed)?);
    }

    let kinds: Vec<Kind> = servers.iter().map(Server::kind).collect();
    let about = about(&options, rounds, cores);
    let missed = goal::missed(&outcomes);
    let mut out = std::io::stdout().lock();
    for (name, value) in &about {
        writeln!(out, "{name}: {value}")?;
    }
    writeln!(out, "\n{}", report::tables(&outcomes, &kinds))?;
    if kinds.contains(&Kind::Orlop) {
        writeln!(out, "{} goals missed", missed.len())?;
    }
    for sentence in &missed {
        writeln!(out, "- {sentence}")?;
    }
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_vec_pretty(&report::json(&outcomes, &about))?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    drop(out);

    eprintln!("{:4} s  removing the data", begin.elapsed().as_secs());
    drop(servers);
    folder.close().context("cannot remove the data")?;
    eprintln!("{:4} s  done", begin.elapsed().as_secs());
    Ok(if options.check && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn chosen_rows(options: &Options) -> anyhow::Result<Vec<Row>> {
    let only = options.only.as_deref();
    let mut rows = rows::all();
    rows.retain(|row| row.extra.is_none_or(|extra| options.wants(extra)));
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    rows.retain(|row| only.is_none_or(|part| row.name.contains(part)));
    ensure!(
        !rows.is_empty(),
        "no row's name contains {:?}; the rows are:\n{}",
        only.unwrap_or_default(),
        names.join("\n")
    );
    Ok(rows)
}

fn servers(options: &Options, folder: &Path, cores: Cores) -> anyhow::Result<Vec<Server>> {
    let programs = [
        (Kind::Orlop, options.orlop.as_ref()),
        (Kind::DockerRegistry, Some(&options.docker_registry)),
        (Kind::Nginx, Some(&options.nginx)),
    ];
    programs
        .into_iter()
        .filter_map(|(kind, program)| program.map(|program| (kind, program)))
        .map(|(kind, program)| Server::new(kind, program, &folder.join(kind.name()), cores))
        .collect()
}

fn run(
    row: Row,
    servers: &mut [Server],
    rounds: u32,
    scale: &Scale,
    seed: &Seed,
) -> anyhow::Result<Outcome> {
    let mut taken: Vec<(Kind, Vec<load::Sample>)> = servers
        .iter()
        .filter(|server| row.suits(server.kind()))
        .map(|server| (server.kind(), Vec::new()))
        .collect();
    for round in 0..if row.once { 1 } else { rounds } {
        let pass = Pass { round, scale, seed, shelf: Shelf::default() };
        let suited = servers.iter_mut().filter(|server| row.suits(server.kind()));
        for (server, (kind, samples)) in suited.zip(&mut taken) {
            let sample = row
                .sample(server, &pass)
                .with_context(|| format!("row {:?} on {}", row.name, kind.name()))?;
            samples.push(sample);
        }
    }
    let servers =
        taken.into_iter().map(|(kind, samples)| Figures::new(kind, row.unit, samples)).collect();
    Ok(Outcome { name: row.name, unit: row.unit, goals: row.goals, servers })
}

/// The circumstances that a figure depends on.
fn about(options: &Options, rounds: u32, cores: Cores) -> Vec<(String, String)> {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = text("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let length = if options.short { "short" } else { "full" };
    let mut about = vec![
        ("processor".to_owned(), model.map_or("unknown", |(_, name)| name).to_owned()),
        ("kernel".to_owned(), text("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("load average".to_owned(), text("/proc/loadavg").trim().to_owned()),
        ("run".to_owned(), format!("{length}, {rounds} rounds, {cores}")),
    ];
    if let Some(orlop) = &options.orlop {
        about.push(("orlop".to_owned(), version(orlop, "--version")));
    }
    about.push(("docker-registry".to_owned(), version(&options.docker_registry, "--version")));
    about.push(("nginx".to_owned(), version(&options.nginx, "-v")));
    about
}

fn version(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else {
        return "unknown".to_owned();
    };
    // nginx says it on standard error.
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().unwrap_or("unknown").trim().to_owned()
}
