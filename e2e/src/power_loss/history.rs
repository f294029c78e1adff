//! What was recorded, and the disks that it could have left behind.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::disk::{Disk, Model};
use super::recording::Event;
use crate::http::sha256;
use crate::pusher::Pusher;
use crate::random::Random;

/// What was recorded.
pub(super) struct History {
    /// What was there, durably, before the registry started.
    base: PathBuf,
    store: PathBuf,
    pub(super) events: Vec<Event>,
    pub(super) tags: TagMoves,
    /// By path: all that was to be sent.
    pub(super) uploads: HashMap<String, Vec<u8>>,
}

/// A moment at which the power goes.
pub(super) struct Cut {
    /// Before this event.
    event: usize,
    model: Model,
}

/// What was acknowledged: the path leads to the digest.
#[derive(Clone)]
pub(super) struct Fact {
    pub(super) path: String,
    pub(super) digest: String,
}

/// A disk after the loss of power, rebuilt in a folder.
pub(super) struct Tree {
    /// The data folder.
    pub(super) store: PathBuf,
    /// Where it comes from.
    pub(super) origin: String,
    /// The registry had answered a request by then.
    pub(super) ready: bool,
    pub(super) facts: usize,
    /// The paths of uploads that had begun and not ended.
    pub(super) uploads: Vec<String>,
}

/// By the digest of a manifest that was pushed by a tag: the tag's path, and
/// where it may lead from then on.
pub(super) type TagMoves = HashMap<String, (String, Vec<String>)>;

fn tag_moves(clients: &[Pusher]) -> TagMoves {
    let mut moves = TagMoves::new();
    for (path, digests) in clients.iter().flat_map(Pusher::tags) {
        for (at, digest) in digests.iter().enumerate() {
            let later = digests.get(at..).unwrap_or_default().to_vec();
            moves.insert(digest.clone(), (path.clone(), later));
        }
    }
    moves
}

impl History {
    pub(super) fn new(
        base: PathBuf,
        store: PathBuf,
        events: Vec<Event>,
        clients: &[Pusher],
    ) -> Self {
        let uploads = clients.iter().flat_map(Pusher::uploads).cloned().collect();
        Self { base, store, events, tags: tag_moves(clients), uploads }
    }

    /// Every answer that acknowledged something, and moments in between: as
    /// many as there is time for.
    pub(super) fn cuts(&self, trees: usize, models: &[Model]) -> Result<Vec<Cut>> {
        let mut disk = Disk::new(&self.base);
        let (mut answers, mut changes) = (Vec::new(), Vec::new());
        for (at, event) in self.events.iter().enumerate() {
            if acknowledged(event).is_some() {
                answers.push(at + 1);
            }
            if disk.apply(event)? {
                changes.push(at + 1);
            }
        }
        let between = trees.saturating_sub(answers.len() * models.len().min(2));
        let all = trees == usize::MAX;
        let step = if all {
            1
        } else {
            changes.len().checked_div(between).map_or(usize::MAX, |step| step + 1)
        };
        let mut cuts = Vec::new();
        for (nth, &event) in answers.iter().enumerate() {
            for (place, &model) in models.iter().enumerate() {
                // The first is the hardest; of the others one will do.
                if all || place == 0 || place == 1 + nth % (models.len() - 1) {
                    cuts.push(Cut { event, model });
                }
            }
        }
        for (nth, &event) in changes.iter().step_by(step).enumerate() {
            for (place, &model) in models.iter().enumerate() {
                if all || place == nth % models.len() {
                    cuts.push(Cut { event, model });
                }
            }
        }
        cuts.sort_by_key(|cut| cut.event);
        Ok(cuts)
    }

    /// Replays the recording; `hand_over` says whether to go on.
    pub(super) fn rebuild(
        &self,
        folder: &Path,
        cuts: Vec<Cut>,
        random: &mut Random,
        mut hand_over: impl FnMut(Tree) -> bool,
    ) -> Result<()> {
        let mut disk = Disk::new(&self.base);
        let (mut at, mut facts, mut ready) = (0, 0, false);
        let mut uploads: Vec<String> = Vec::new();
        for (number, cut) in cuts.into_iter().enumerate() {
            while at < cut.event {
                let event = self.events.get(at).context("past the end")?;
                disk.apply(event).with_context(|| format!("event {at}"))?;
                if let Some(fact) = acknowledged(event) {
                    facts += 1;
                    uploads.retain(|path| !self.was_completed(path, &fact));
                }
                uploads.extend(opened(event));
                ready |= answer(event).is_some();
                at += 1;
            }
            let target = folder.join(number.to_string());
            disk.render(cut.model, random, &target)?;
            let tree = Tree {
                store: target.join(self.store.strip_prefix(&self.base)?),
                origin: format!("{:?} at event {} of {}", cut.model, cut.event, self.events.len()),
                ready,
                facts,
                uploads: uploads.clone(),
            };
            if !hand_over(tree) {
                break;
            }
        }
        Ok(())
    }

    fn was_completed(&self, upload: &str, fact: &Fact) -> bool {
        let bytes = self.uploads.get(upload);
        let (repository, _) = fact.path.split_once("/blobs/").unwrap_or_default();
        upload.starts_with(&format!("{repository}/blobs/"))
            && bytes.is_some_and(|bytes| sha256(bytes) == fact.digest)
    }
}

/// The answer that an event sent, if it is one.
fn answer(event: &Event) -> Option<&str> {
    let Event::Sent { data } = event else { return None };
    let text = std::str::from_utf8(data).ok()?;
    text.starts_with("HTTP/1.1 ").then_some(text)
}

/// What an event acknowledged.
pub(super) fn acknowledged(event: &Event) -> Option<Fact> {
    let text = answer(event)?.strip_prefix("HTTP/1.1 201 ")?;
    let path = path_in(text)?;
    Some(Fact { path, digest: header(text, "docker-content-digest")?.to_owned() })
}

/// The path of the upload that an event reports about.
fn opened(event: &Event) -> Option<String> {
    let text = answer(event)?.strip_prefix("HTTP/1.1 202 ")?;
    header(text, "range").filter(|range| *range == "0-0")?;
    path_in(text)
}

/// The path of the `Location` in an answer.
fn path_in(answer: &str) -> Option<String> {
    let location = header(answer, "location")?;
    location.find("/v2/").and_then(|at| location.get(at..)).map(str::to_owned)
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
