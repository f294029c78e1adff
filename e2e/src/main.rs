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
mod fault_proxy;
mod guide;
mod http;
mod image;
mod other_stores;
mod process;
mod pusher;
mod random;
mod registry;
mod scenario;
mod seaweedfs;
mod yaml;

mod access;
mod acme;
mod alerts;
mod bucket;
mod buildah;
mod cloudfront;
mod cluster;
mod conformance;
mod containerd;
mod crane;
mod crash;
mod deploy;
mod differential;
mod disk_cache;
mod docker;
mod drill;
mod foreign_layer;
mod garbage_collect;
mod kubernetes;
mod large_layer;
mod layouts;
mod metrics;
mod migrate;
mod oras;
mod podman;
mod ports;
mod postgres;
mod power_loss;
mod proxy;
mod redis;
mod referrers;
mod regctl;
mod reload;
mod replicas;
mod skopeo;
mod socket;
mod store_faults;
mod store_nodes;
mod systemd;
mod tls;
mod traces;
mod trouble;
mod upload;
mod urls;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;

use other_stores::OtherStore;
use scenario::{Scenario, Stage, Store};
use seaweedfs::SeaweedFs;

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
    drill::SCENARIOS,
    postgres::SCENARIOS,
    replicas::SCENARIOS,
    cluster::SCENARIOS,
    crash::SCENARIOS,
    power_loss::SCENARIOS,
    trouble::SCENARIOS,
    differential::SCENARIOS,
    deploy::SCENARIOS,
    kubernetes::SCENARIOS,
    access::SCENARIOS,
    tls::SCENARIOS,
    acme::SCENARIOS,
    proxy::SCENARIOS,
    socket::SCENARIOS,
    urls::SCENARIOS,
    reload::SCENARIOS,
    metrics::SCENARIOS,
    alerts::SCENARIOS,
    systemd::SCENARIOS,
    traces::SCENARIOS,
];

/// What is done once more with an object store: of each subject the scenarios whose name contains
/// the text; all with `--long`.
const ON_S3: &[(&[Scenario], &str)] = &[
    (docker::SCENARIOS, "push, pull and run"),
    (podman::SCENARIOS, "pull, run, push"),
    (buildah::SCENARIOS, "of two platforms"),
    (skopeo::SCENARIOS, "copy --all"),
    (containerd::SCENARIOS, "push, pull and run"),
    (oras::SCENARIOS, "attach"),
    (crane::SCENARIOS, ""),
    (regctl::SCENARIOS, ""),
    (foreign_layer::SCENARIOS, "by hand"),
    (referrers::SCENARIOS, "pages"),
    (upload::SCENARIOS, ""),
    (large_layer::SCENARIOS, "256 MB, streamed"),
    (conformance::SCENARIOS, "dev, sparse"),
    (crash::SCENARIOS, "killed 40 times"),
    (replicas::SCENARIOS, ""),
    (bucket::SCENARIOS, ""),
    (redis::SCENARIOS, ""),
    (drill::ON_BUCKET, ""),
    (cloudfront::SCENARIOS, ""),
    (disk_cache::SCENARIOS, ""),
    (store_faults::SCENARIOS, ""),
    (store_nodes::SCENARIOS, ""),
];

/// What is done, with `--long`, with every other object store.
const ON_OTHERS: &[(&[Scenario], &str)] = &[
    (crane::SCENARIOS, "push, pull, copy"),
    (upload::SCENARIOS, ""),
    (large_layer::SCENARIOS, "256 MB, streamed"),
    (conformance::SCENARIOS, "dev, sparse"),
];

/// A scenario, and where it plays.
struct Play {
    scenario: &'static Scenario,
    on: Place,
    long: bool,
}

/// Where registries keep their content.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Place {
    Folder,
    S3,
    Azure,
    Gcs,
    Swift,
    Garage,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Folder => "",
            Self::S3 => "s3, ",
            Self::Azure => "azure, ",
            Self::Gcs => "gcs, ",
            Self::Swift => "swift, ",
            Self::Garage => "garage, ",
        }
    }

    fn start(self, stage: &Stage) -> Result<Store> {
        Ok(match self {
            Self::Folder => Store::Folder,
            Self::S3 => Store::S3(Arc::new(SeaweedFs::start(stage)?)),
            Self::Azure => Store::Other(Arc::new(OtherStore::azurite(stage)?)),
            Self::Gcs => Store::Other(Arc::new(OtherStore::fake_gcs(stage)?)),
            Self::Swift => Store::Other(Arc::new(OtherStore::swift(stage)?)),
            Self::Garage => Store::Other(Arc::new(OtherStore::garage(stage)?)),
        })
    }
}

impl Play {
    fn all() -> impl Iterator<Item = Self> {
        let plain = SUBJECTS.iter().copied().flatten();
        let plain = plain.map(|scenario| Self { scenario, on: Place::Folder, long: scenario.long });
        let on_s3 = ON_S3.iter().flat_map(|(scenarios, short)| {
            scenarios.iter().map(move |scenario| {
                let long = scenario.long || !scenario.name.contains(short);
                Self { scenario, on: Place::S3, long }
            })
        });
        let others = [Place::Azure, Place::Gcs, Place::Swift, Place::Garage];
        let others = others.into_iter().flat_map(|on| {
            ON_OTHERS.iter().flat_map(move |&(scenarios, text)| {
                let chosen = scenarios.iter().filter(move |scenario| scenario.name.contains(text));
                chosen.map(move |scenario| Self { scenario, on, long: true })
            })
        });
        plain.chain(on_s3).chain(others)
    }

    fn name(&self) -> String {
        format!("{}{}", self.on.name(), self.scenario.name)
    }
}

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
    let chosen: Vec<Play> = Play::all()
        .filter(|play| args.long || !play.long)
        .filter(|play| play.name().contains(&args.filter))
        .collect();
    anyhow::ensure!(
        !chosen.is_empty(),
        "no scenario's name contains {:?}; --list prints them all",
        args.filter
    );
    if args.list {
        for play in chosen {
            say(&play.name());
        }
        return Ok(true);
    }

    let binary = args.binary.clone().unwrap_or_default();
    let binary = std::fs::canonicalize(&binary)
        .with_context(|| format!("no registry binary at {}", binary.display()))?;
    let (mut passed, mut failed) = (0, 0);
    // One object store of each kind for all; each scenario has a folder in its bucket.
    let beside = Stage::new(&binary, Duration::from_hours(3), Store::Folder)?;
    let mut stores = BTreeMap::<Place, Store>::new();
    for play in chosen {
        let start = Instant::now();
        let (name, scenario) = (play.name(), play.scenario);
        let store = match stores.entry(play.on) {
            Entry::Occupied(store) => store.get().clone(),
            Entry::Vacant(place) => place.insert(play.on.start(&beside)?).clone(),
        };
        let outcome =
            Stage::new(&binary, scenario.deadline, store).and_then(|stage| (scenario.run)(&stage));
        match outcome {
            Ok(()) => {
                passed += 1;
                say(&format!("ok {name} ({:.1} s)", start.elapsed().as_secs_f64()));
            }
            Err(error) => {
                failed += 1;
                say(&format!("FAIL {name}: {error:#}"));
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
