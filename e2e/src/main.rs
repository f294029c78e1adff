//! Runs real container clients, and the official conformance suite, against a
//! built `orlop`.
//!
//! Every scenario gets a folder and a registry process of its own and runs by
//! itself, one after another. A line is printed for each, and the last line is
//! always `N passed, M failed`; nothing is ever skipped. `install.sh` beside
//! this crate installs what the scenarios start.
#![forbid(unsafe_code)]

mod certificates;
mod curl;
mod guide;
mod http;
mod image;
mod process;
mod pusher;
mod random;
mod registry;
mod scenario;

mod access;
mod acme;
mod buildah;
mod conformance;
mod containerd;
mod crane;
mod crash;
mod deploy;
mod differential;
mod docker;
mod foreign_layer;
mod garbage_collect;
mod large_layer;
mod layouts;
mod metrics;
mod migrate;
mod oras;
mod podman;
mod postgres;
mod power_loss;
mod proxy;
mod referrers;
mod regctl;
mod reload;
mod skopeo;
mod socket;
mod systemd;
mod tls;
mod traces;
mod trouble;
mod upload;
mod urls;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;

use scenario::{Scenario, Stage};

/// Every scenario there is: a new file adds its line here.
const SUBJECTS: &[&[Scenario]] = &[
    docker::SCENARIOS,
    podman::SCENARIOS,
    buildah::SCENARIOS,
    skopeo::SCENARIOS,
    containerd::SCENARIOS,
    oras::SCENARIOS,
    crane::SCENARIOS,
    regctl::SCENARIOS,
    foreign_layer::SCENARIOS,
    referrers::SCENARIOS,
    upload::SCENARIOS,
    large_layer::SCENARIOS,
    conformance::SCENARIOS,
    migrate::SCENARIOS,
    layouts::SCENARIOS,
    garbage_collect::SCENARIOS,
    postgres::SCENARIOS,
    crash::SCENARIOS,
    power_loss::SCENARIOS,
    trouble::SCENARIOS,
    differential::SCENARIOS,
    deploy::SCENARIOS,
    access::SCENARIOS,
    tls::SCENARIOS,
    acme::SCENARIOS,
    proxy::SCENARIOS,
    socket::SCENARIOS,
    urls::SCENARIOS,
    reload::SCENARIOS,
    metrics::SCENARIOS,
    systemd::SCENARIOS,
    traces::SCENARIOS,
];

/// Run real container clients against a built registry.
#[derive(Parser)]
struct Args {
    /// The registry to test. Debian's docker-registry works too, to tell a
    /// client's fault from the registry's (it fails what it cannot do).
    #[arg(long, value_name = "PATH", required_unless_present = "list")]
    binary: Option<PathBuf>,

    /// Also run the scenarios that take minutes, such as the 5 GB layer.
    #[arg(long)]
    long: bool,

    /// Run only the scenarios whose name contains this.
    #[arg(long, value_name = "SUBSTRING", default_value = "")]
    filter: String,

    /// Print the names of the scenarios and do nothing else.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "orlop-e2e: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True if every scenario passed.
fn run(args: &Args) -> Result<bool> {
    let chosen: Vec<&Scenario> = SUBJECTS
        .iter()
        .copied()
        .flatten()
        .filter(|scenario| args.long || !scenario.long)
        .filter(|scenario| scenario.name.contains(&args.filter))
        .collect();
    anyhow::ensure!(
        !chosen.is_empty(),
        "no scenario's name contains {:?}; --list prints them all",
        args.filter
    );
    if args.list {
        for scenario in chosen {
            say(scenario.name);
        }
        return Ok(true);
    }

    let binary = args.binary.clone().unwrap_or_default();
    let binary = std::fs::canonicalize(&binary)
        .with_context(|| format!("no registry binary at {}", binary.display()))?;
    let (mut passed, mut failed) = (0, 0);
    for scenario in chosen {
        let start = Instant::now();
        let outcome =
            Stage::new(&binary, scenario.deadline).and_then(|stage| (scenario.run)(&stage));
        match outcome {
            Ok(()) => {
                passed += 1;
                say(&format!("ok {} ({:.1} s)", scenario.name, start.elapsed().as_secs_f64()));
            }
            Err(error) => {
                failed += 1;
                say(&format!("FAIL {}: {error:#}", scenario.name));
            }
        }
    }
    say(&format!("{passed} passed, {failed} failed"));
    Ok(failed == 0)
}

fn say(line: &str) {
    // A reader that went away must not end the run half way.
    let _ = writeln!(std::io::stdout(), "{line}");
}
