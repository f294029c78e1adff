//! The servers are replaced by a newer version, one after another, while clients work.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::load::Reports;
use super::service::Role;
use super::stack::{Cluster, wait_for};
use super::{Play, alone};
use crate::random::Random;
use crate::scenario::Stage;

/// Prints where it has put the version before this one.
const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/previous.sh");

/// How often docker tries to push a layer before it gives up. A manifest, or a tag, it asks for once.
const ATTEMPTS: usize = 5;

/// How long clients work before, between and after the replacements.
const PAUSE: Duration = Duration::from_secs(15);

pub(super) fn rolling(stage: &Stage) -> Result<()> {
    let previous = build()?;
    alone(|| {
        let mut random = Random::printed("upgrade");
        let mut cluster = Cluster::start(stage, &previous)?;
        let play = Play { stage, duration: 4 * PAUSE };
        let outcome =
            play.run(&mut cluster, &mut random, |cluster, stop| replace_all(cluster, stage, stop))?;
        crate::say(&format!("upgrade: {}", outcome.summary));
        outcome.tally.lost_nothing()?;
        let Reports { uploads, tags, images } = outcome.reports;
        ensure!(uploads.in_a_row < ATTEMPTS, "docker would have given up: {:#?}", uploads.shown);
        for report in [tags, images] {
            ensure!(report.failures == 0, "a client failed: {:#?}", report.shown);
        }
        Ok(())
    })
}

fn build() -> Result<PathBuf> {
    let built = Command::new(BUILD).output().with_context(|| format!("cannot run {BUILD}"))?;
    let said = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "{BUILD} failed:\n{said}");
    Ok(PathBuf::from(String::from_utf8(built.stdout)?.trim_end()))
}

fn replace_all(cluster: &mut Cluster, stage: &Stage, stop: &AtomicBool) -> Result<()> {
    let wait = || {
        let end = Instant::now() + PAUSE;
        while Instant::now() < end && !stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let program = stage.binary().to_string_lossy().into_owned();
    let hosts = cluster.replicas();
    for (number, host) in hosts.iter().enumerate() {
        wait();
        let mut replicas = cluster.services.iter_mut().filter(|one| one.role == Role::Replica);
        let replica = replicas.nth(number).context("a server")?;
        replica.ask_to_stop()?;
        replica.wait_for_stop()?;
        replica.replace_program(program.clone());
        replica.start(stage)?;
        wait_for(host)?;
    }
    wait();
    Ok(())
}
