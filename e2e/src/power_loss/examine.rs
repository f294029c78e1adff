//! Rebuilt disks are looked at as their owner would: everything that was
//! acknowledged must be there.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};

use super::history::{Cut, Fact, History, Tree, acknowledged};
use crate::http::{sha256, with_query};
use crate::pusher::arrived;
use crate::random::Random;
use crate::registry::{Registry, Setup};
use crate::scenario::{Stage, Store};

/// Trees are looked at by so many threads.
const EXAMINERS: usize = 2;
/// Room for the trees that are being looked at.
const ROOM: &str = "size=1g";

#[derive(Clone, Copy, Default)]
pub(super) struct Examined {
    trees: usize,
    pub(super) facts: usize,
    /// Uploads that were gone on with, whole.
    pub(super) resumed: usize,
}

impl std::fmt::Display for Examined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} disks rebuilt, up to {} facts found on each, {} uploads resumed",
            self.trees, self.facts, self.resumed
        )
    }
}

impl History {
    /// Rebuilds the disk of every cut, and looks whether everything that was
    /// acknowledged by then is on it.
    pub(super) fn examine(
        &self,
        stage: &Stage,
        cuts: Vec<Cut>,
        random: &mut Random,
    ) -> Result<Examined> {
        let folder = stage.folder("trees")?;
        // In memory, because the replay has done all the syncing there is.
        stage.client("mount").args(["-t", "tmpfs", "-o", ROOM, "tmpfs"]).arg(&folder).succeed()?;
        let binary = rebooting(stage)?;
        let machines: Vec<Stage> = (0..EXAMINERS)
            .map(|_| Stage::new(&binary, stage.remaining()?, Store::Folder))
            .collect::<Result<_>>()?;
        let facts: Vec<Fact> = self.events.iter().filter_map(acknowledged).collect();
        let (queue, trees) = sync_channel::<Tree>(2 * EXAMINERS);
        let trees = Mutex::new(trees);
        let work = Work { facts, failed: AtomicBool::new(false), resumed: AtomicUsize::new(0) };
        std::thread::scope(|scope| {
            let examiners: Vec<_> = machines
                .iter()
                .map(|machine| scope.spawn(|| self.examine_all(machine, &trees, &work)))
                .collect();
            let mut rebuilt = 0;
            let replayed = self.rebuild(&folder, cuts, random, |tree| {
                rebuilt += 1;
                queue.send(tree).is_ok() && !work.failed.load(Ordering::SeqCst)
            });
            drop(queue);
            examiners
                .into_iter()
                .map(|examiner| examiner.join().unwrap_or_else(|_| bail!("an examiner panicked")))
                .fold(replayed, Result::and)
                .map(|()| rebuilt)
        })
        .map(|trees| Examined {
            trees,
            facts: work.facts.len(),
            resumed: work.resumed.into_inner(),
        })
    }

    /// Takes trees from the queue until there are no more. After a failure
    /// they are only taken, so that nobody waits for room in it.
    fn examine_all(
        &self,
        machine: &Stage,
        trees: &Mutex<Receiver<Tree>>,
        work: &Work,
    ) -> Result<()> {
        let mut outcome = Ok(());
        loop {
            let next = trees.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(tree) = next else { return outcome };
            if work.failed.load(Ordering::SeqCst) {
                continue;
            }
            let known = work.facts.get(..tree.facts).unwrap_or_default();
            match self.examine_tree(machine, &tree, known) {
                Ok(resumed) => {
                    work.resumed.fetch_add(resumed, Ordering::SeqCst);
                    // Room for the next ones; what cannot be removed ends with the stage.
                    let _ = std::fs::remove_dir_all(&tree.store);
                }
                Err(error) => {
                    work.failed.store(true, Ordering::SeqCst);
                    let what = format!("power lost, {}, {} facts", tree.origin, tree.facts);
                    outcome = Err(error.context(what));
                }
            }
        }
    }

    /// How many uploads could be gone on with.
    fn examine_tree(&self, stage: &Stage, tree: &Tree, facts: &[Fact]) -> Result<usize> {
        let store = &tree.store;
        ensure!(facts.is_empty() || store.is_dir(), "the data folder itself is gone");
        if tree.ready {
            stage
                .client(&stage.binary().to_string_lossy())
                .arg("check")
                .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", store)
                .succeed()?;
        }
        let mut registry = start(stage, store)?;
        let resumed = self
            .examine_answers(&registry, &tree.uploads, facts)
            .with_context(|| format!("the registry's log:\n{}", registry.log()))?;
        registry.kill()?;
        Ok(resumed)
    }

    fn examine_answers(
        &self,
        registry: &Registry,
        uploads: &[String],
        facts: &[Fact],
    ) -> Result<usize> {
        for fact in facts {
            let found = &registry.http.get(&fact.path)?.expect(200)?.body;
            ensure!(sha256(found) == fact.digest, "{}: its bytes are others", fact.path);
        }
        // Of a tag that moved, the last move counts.
        let tags: HashMap<_, _> = facts
            .iter()
            .filter_map(|fact| self.tags.get(&fact.digest))
            .map(|(path, later)| (path, later))
            .collect();
        for (path, later) in tags {
            let answer = registry.http.send("GET", path, &[("accept", "*/*")], ())?.expect(200)?;
            let found = sha256(&answer.body);
            ensure!(later.contains(&found), "{path} leads to {found}, expected one of {later:?}");
        }
        let mut resumed = 0;
        for path in uploads {
            resumed += usize::from(self.resume(registry, path).context(path.clone())?);
        }
        Ok(resumed)
    }

    /// Nothing is promised about an upload that has not ended: but if it goes
    /// on, and ends well, then with the bytes that were sent.
    fn resume(&self, registry: &Registry, path: &str) -> Result<bool> {
        let http = &registry.http;
        let status = http.get(path)?;
        let Some(bytes) = self.uploads.get(path).filter(|_| status.status() != 404) else {
            return Ok(false);
        };
        let rest = bytes.get(arrived(&status.expect(204)?)?..).context("more than was sent")?;
        let digest = sha256(bytes);
        let headers = [("content-type", "application/octet-stream")];
        let answer = http.send("PUT", &with_query(path, "digest", &digest), &headers, rest)?;
        if [400, 404].contains(&answer.status()) {
            return Ok(false);
        }
        answer.expect(201)?;
        let (repository, _) = path.split_once("/blobs/").context("not the path of an upload")?;
        let (_, found) = http.digest_of_body(&format!("{repository}/blobs/{digest}"))?;
        ensure!(found == digest, "sent {digest}, kept {found}");
        Ok(true)
    }
}

/// What the examiners share.
struct Work {
    facts: Vec<Fact>,
    failed: AtomicBool,
    resumed: AtomicUsize,
}

/// Starts a registry on a rebuilt disk. With so many starts it happens that
/// another examiner's registry takes the port that was free a moment ago, and
/// answers in the place of this one.
fn start(stage: &Stage, store: &Path) -> Result<Registry> {
    let store = store.to_string_lossy();
    for _ in 0..5 {
        match stage.start_registry(&store, &Setup::default()) {
            Ok(registry) if registry.listens_itself()? => return Ok(registry),
            Ok(_) => {}
            Err(error) if format!("{error:#}").contains("listening there already") => {}
            Err(error) => return Err(error),
        }
    }
    bail!("five times another registry took the port")
}

/// The registry's program on a machine that has been started again: it sees
/// the id of another boot.
fn rebooting(stage: &Stage) -> Result<PathBuf> {
    let boot = stage.file("boot-id", "00000000-0000-4000-8000-000000000000\n")?;
    let program = stage.file(
        "orlop-after-boot",
        format!(
            "#!/bin/sh\n\
             exec unshare --mount sh -c '\
             mount --bind {} /proc/sys/kernel/random/boot_id && exec {} \"$@\"' orlop \"$@\"\n",
            boot.display(),
            stage.binary().display()
        ),
    )?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700))?;
    Ok(program)
}
