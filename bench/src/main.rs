//! Orlop beside its peers: starts every server on loopback, gives all the same content, runs each
//! row in turn A B C A B C …, and prints figures and ratios. See `README.md`.

#![forbid(unsafe_code)]

mod arrivals;
mod background;
mod bare;
mod content;
mod cores;
mod daemon;
mod engines;
mod fleet;
mod goal;
mod grown;
mod http;
mod load;
mod meter;
mod outcome;
mod peers;
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
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

use crate::cores::Cores;
use crate::engines::{Engines, Installed};
use crate::fleet::Fleet;
use crate::outcome::{Figures, Outcome};
use crate::peers::{Peer, Programs};
use crate::registry::Shelf;
use crate::rows::{Extra, Pass, Row, Scale};
use crate::seed::Seed;
use crate::server::Kind;

/// Measures Orlop beside other registries and nginx, all on loopback, and prints ratios.
#[derive(Parser)]
#[command(name = "orlop-bench", version, args_conflicts_with_subcommands = true)]
#[allow(clippy::struct_excessive_bools, reason = "options of a command line")]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    installed: Installed,
    /// Rounds over all servers for each row [default: 7; with --short 3]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Short samples: the whole run takes about eight minutes
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
    /// The rows with PostgreSQL, an object store and replicas too
    #[arg(long)]
    cluster: bool,
    /// Also write all figures, every sample included, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the tables to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
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

/// What this program does as one of the servers.
#[derive(Subcommand)]
enum Part {
    /// The floors, at this address, with the files of this folder
    #[command(hide = true)]
    Bare { address: SocketAddr, folder: PathBuf },
}

impl Options {
    fn wants(&self, extra: Extra) -> bool {
        match extra {
            Extra::Growth => self.grow || !self.short,
            Extra::Clients => self.clients,
            Extra::Cluster => self.cluster,
            Extra::Long => !self.short,
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    match &options.part {
        None => compare(&options),
        Some(Part::Bare { address, folder }) => {
            bare::serve(*address, folder)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn compare(options: &Options) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let scale = if options.short { Scale::short() } else { Scale::full() };
    let mut rows = chosen_rows(options, &scale)?;
    let rounds = options.rounds.unwrap_or(if options.short { 3 } else { 7 });
    let peers = options.programs.find(|kind| rows.iter().any(|row| row.suits(kind)))?;
    let cores = Cores::choose(options.unpinned)?;
    cores.pin_load()?;

    let folder = tempfile::tempdir_in(&options.data)
        .with_context(|| format!("cannot make a folder in {}", options.data.display()))?;
    let seed = Seed::new();
    let engines = Engines::new(&options.installed, folder.path());
    let mut fleet = Fleet::new(&peers, folder.path(), cores, &seed, engines)?;
    let shelf = Shelf::default();
    let mut outcomes = Vec::new();
    while !rows.is_empty() {
        let count = rows.chunk_by(Row::runs_with).next().map_or(0, <[Row]>::len);
        let together: Vec<Row> = rows.drain(..count).collect();
        for row in &together {
            eprintln!("{:4} s  {}", begin.elapsed().as_secs(), row.name);
        }
        fleet.gather(&together)?;
        outcomes.extend(run(&together, &mut fleet, rounds, &scale, &seed, &shelf)?);
        // What rows have made lies in the folders of the servers, so it goes first.
        drop(together);
        fleet.release(&rows)?;
    }

    let kinds: Vec<Kind> = peers.iter().map(|peer| peer.kind).collect();
    let about = about(options, &peers, rounds, cores, &outcomes);
    let goals = goal::judge(&outcomes);
    let mut out = std::io::stdout().lock();
    for (name, value) in &about {
        writeln!(out, "{name}: {value}")?;
    }
    writeln!(out, "\n{}", report::text(&outcomes, &kinds))?;
    if kinds.contains(&Kind::Orlop) {
        let (reached, missed) = (goals.reached, goals.missed.len());
        writeln!(out, "{reached} goals reached, {missed} missed, {} not judged", goals.open)?;
    }
    for sentence in &goals.missed {
        writeln!(out, "- {sentence}")?;
    }
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_vec_pretty(&report::json(&outcomes, &about))?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.markdown {
        fs::write(path, report::markdown(&outcomes, &kinds, &about))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    drop(out);

    eprintln!("{:4} s  removing the data", begin.elapsed().as_secs());
    drop(fleet);
    folder.close().context("cannot remove the data")?;
    eprintln!("{:4} s  done", begin.elapsed().as_secs());
    Ok(if options.check && !goals.missed.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn chosen_rows(options: &Options, scale: &Scale) -> anyhow::Result<Vec<Row>> {
    let only = options.only.as_deref();
    let mut rows = rows::all(scale);
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

/// Runs rows whose samples are taken in turn: A B C of the first, A B C of the second, A B C …
fn run(
    rows: &[Row],
    fleet: &mut Fleet<'_>,
    rounds: u32,
    scale: &Scale,
    seed: &Seed,
    shelf: &Shelf,
) -> anyhow::Result<Vec<Outcome>> {
    let mut taken: Vec<Vec<(Kind, Vec<load::Sample>)>> = rows
        .iter()
        .map(|row| fleet.of(row).map(|server| (server.kind(), Vec::new())).collect())
        .collect();
    for round in 0..rounds {
        let pass = Pass { round, scale, seed, shelf };
        for (row, taken) in rows.iter().zip(&mut taken) {
            if row.once && round > 0 {
                continue;
            }
            for (server, (kind, samples)) in fleet.of(row).zip(taken) {
                let sample = row
                    .sample(server, &pass)
                    .with_context(|| format!("row {:?} on {}", row.name, kind.name()))?;
                samples.push(sample);
            }
        }
    }
    let outcome = |(row, taken): (&Row, Vec<(Kind, Vec<load::Sample>)>)| {
        let figures = |(kind, samples)| Figures::new(kind, row.unit, samples);
        Outcome {
            name: row.name.clone(),
            unit: row.unit,
            goals: row.goals.clone(),
            servers: taken.into_iter().map(figures).collect(),
        }
    };
    Ok(rows.iter().zip(taken).map(outcome).collect())
}

/// The circumstances that a figure depends on.
fn about(
    options: &Options,
    peers: &[Peer],
    rounds: u32,
    cores: Cores,
    outcomes: &[Outcome],
) -> Vec<(String, String)> {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = text("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let length = if options.short { "short" } else { "full" };
    let mut about = vec![
        ("processor".to_owned(), model.map_or("unknown", |(_, name)| name).to_owned()),
        ("kernel".to_owned(), text("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("load average".to_owned(), text("/proc/loadavg").trim().to_owned()),
        (
            "used by others".to_owned(),
            format!("{:.0} % of the machine", outcome::foreign(outcomes) * 100.0),
        ),
        ("run".to_owned(), format!("{length}, {rounds} rounds, {cores}")),
    ];
    let measured = peers.iter().filter(|peer| peer.kind != Kind::Bare);
    about.extend(measured.map(|peer| (peer.kind.name().to_owned(), peer.version.clone())));
    about
}
