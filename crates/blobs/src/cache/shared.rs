//! What the readers of a cache share: what is there, what is arriving, and the folder.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oci::Digest;
use tokio::sync::watch;

use super::arrival::{Arrival, Progress};
use super::content::{Origin, Way};
use super::folder::{self, Folder};
use super::index::{self, Gone, Index};
use super::{CacheEvent, CacheResult};
use crate::filesystem::open_files::OpenFiles;
use crate::{Error, FileContent};

/// How long nothing is taken in after trouble with the disk.
const REST: Duration = Duration::from_mins(1);

type Observe = Box<dyn Fn(CacheEvent) + Send + Sync>;

pub(super) struct Shared {
    pub(super) folder: Folder,
    pub(super) open_files: OpenFiles,
    pub(super) observe: Observe,
    state: Mutex<State>,
}

pub(super) struct State {
    index: Index,
    /// What is not in the index, because somebody is at work on its file.
    busy: HashMap<Digest, Busy>,
    /// Whether it is known what an earlier start has left.
    is_complete: bool,
    /// Nothing is taken in until then.
    rests_until: Option<Instant>,
}

/// What is done with a file.
enum Busy {
    /// It grows, or is looked at, by an [`Arrival`]: so far it has come.
    Arriving(Arc<watch::Sender<Progress>>),
    /// It is removed, or will be at the end of its [`Arrival`].
    Leaving,
}

impl Shared {
    pub(super) fn open(folder: &Path, max_size: u64, observe: Observe) -> Result<Self, Error> {
        let state = State {
            index: Index::new(max_size),
            busy: HashMap::new(),
            is_complete: false,
            rests_until: None,
        };
        let folder = Folder::open(folder)?;
        let (open_files, state) = (OpenFiles::new(), Mutex::new(state));
        Ok(Self { folder, open_files, observe, state })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists what an earlier start has left, as much of it as there is room for.
    pub(super) fn take_stock(&self) {
        let found = match self.folder.take_stock() {
            Ok(found) => found,
            Err(error) => {
                (self.observe)(CacheEvent::Failed);
                tracing::error!(%error, "the disk cache is not used until the next start");
                return;
            }
        };
        let mut state = self.state();
        let mut gone = Vec::new();
        for found in found {
            let room = index::room(found.size);
            if let Some(Gone { digests, surplus }) = state.index.reserve(room) {
                state.index.keep(found.digest, room, false);
                state.index.release(surplus);
                gone.extend(digests);
            } else {
                gone.push(found.digest);
            }
        }
        drop(state);
        if let Err(error) = self.evict(&Gone { digests: gone, surplus: 0 }) {
            self.trouble(&error);
        }
        self.state().is_complete = true;
        self.tell_size();
    }

    /// The file of this content, if it can be served at once.
    pub(super) fn find(&self, digest: &Digest, size: u64) -> Option<FileContent> {
        if !self.state().index.read(digest)? {
            return None;
        }
        let opened = self.open_files.open(digest, &self.folder.path(digest));
        let file = opened.ok().map(FileContent::new).filter(|file| file.size() == size);
        match &file {
            Some(_) => (self.observe)(CacheEvent::Read(CacheResult::Hit, size)),
            // Somebody has removed or cut it.
            None => self.forget_here(digest),
        }
        file
    }

    /// Decides on which way content is read that was not there a moment ago.
    pub(super) fn admit(self: &Arc<Self>, origin: &Arc<Origin>, is_whole: bool) -> Way {
        if let Some(file) = self.find(&origin.digest, origin.size) {
            return Way::File(file);
        }
        let (result, way) = self.admit_new(origin, is_whole);
        (self.observe)(CacheEvent::Read(result, origin.size));
        way
    }

    fn admit_new(self: &Arc<Self>, origin: &Arc<Origin>, is_whole: bool) -> (CacheResult, Way) {
        let &Origin { digest, size, .. } = &**origin;
        let mut state = self.state();
        if !is_whole || size == 0 || !state.takes() {
            return (CacheResult::Pass, Way::Past);
        }
        match state.busy.get(&digest) {
            Some(Busy::Arriving(progress)) => {
                return (CacheResult::Shared, Way::Arriving(progress.subscribe()));
            }
            Some(Busy::Leaving) => return (CacheResult::Pass, Way::Past),
            None => {}
        }
        let found = state.index.take(&digest);
        let room = found.unwrap_or_else(|| index::room(size));
        let gone = if found.is_some() { Some(Gone::default()) } else { state.index.reserve(room) };
        let Some(gone) = gone else { return (CacheResult::Pass, Way::Past) };
        state.busy.extend(gone.digests.iter().map(|digest| (*digest, Busy::Leaving)));
        let (progress, receiver) = watch::channel(Progress::Begun);
        let progress = Arc::new(progress);
        state.busy.insert(digest, Busy::Arriving(Arc::clone(&progress)));
        drop(state);
        let arrival = Arrival::new(Arc::clone(self), digest, size, room, progress);
        let way = Way::Arriving(receiver);
        if found.is_some() {
            tokio::spawn(arrival.verify());
            return (CacheResult::Hit, way);
        }
        let origin = Arc::clone(origin);
        tokio::spawn(async move { arrival.fill(&origin, gone).await });
        (CacheResult::Miss, way)
    }

    /// Removes the files of what has to go.
    pub(super) fn evict(&self, gone: &Gone) -> Result<(), Error> {
        if gone.digests.is_empty() {
            return Ok(());
        }
        (self.observe)(CacheEvent::Evicted(gone.digests.len() as u64));
        self.remove_files(&gone.digests, gone.surplus)
    }

    /// Removes content, also what is arriving.
    pub(super) async fn forget(self: &Arc<Self>, digest: &Digest) {
        let (cache, digest) = (Arc::clone(self), *digest);
        let _ = tokio::task::spawn_blocking(move || cache.forget_here(&digest)).await;
    }

    /// The same, on this thread.
    fn forget_here(&self, digest: &Digest) {
        let Some(room) = self.state().begin_to_leave(digest) else { return };
        if let Err(error) = self.remove_files(&[*digest], room) {
            self.trouble(&error);
        }
        self.tell_size();
    }

    /// Removes files, as many as can be, and then gives `room` back.
    fn remove_files(&self, leaving: &[Digest], room: u64) -> Result<(), Error> {
        let remove = |digest| {
            let removed = folder::remove(&self.folder.path(digest));
            // It keeps its space for as long as it is open.
            self.open_files.forget(digest);
            removed
        };
        let removed = leaving.iter().map(remove).collect::<Vec<_>>();
        let mut state = self.state();
        for digest in leaving {
            state.busy.remove(digest);
        }
        state.index.release(room);
        removed.into_iter().collect()
    }

    /// Notes that the disk can not be used, and leaves it alone for a while.
    pub(super) fn trouble(&self, error: &Error) {
        let now = Instant::now();
        let until = self.state().rests_until.replace(now + REST);
        (self.observe)(CacheEvent::Failed);
        if until.is_none_or(|until| until < now) {
            tracing::warn!(%error, "the disk cache takes nothing in for a minute; blobs come from the store");
        }
    }

    pub(super) fn tell_size(&self) {
        // Told in the order in which it changes.
        let state = self.state();
        (self.observe)(CacheEvent::Holds(state.index.used(), state.index.len() as u64));
    }
}

impl State {
    fn takes(&self) -> bool {
        self.is_complete && self.rests_until.is_none_or(|until| until < Instant::now())
    }

    /// Nobody is given the content from now on. Returns the room of its file if the caller is the one
    /// to remove that.
    fn begin_to_leave(&mut self, digest: &Digest) -> Option<u64> {
        if let Some(busy) = self.busy.get_mut(digest) {
            *busy = Busy::Leaving;
            return None;
        }
        let room = self.index.take(digest)?;
        self.busy.insert(*digest, Busy::Leaving);
        Some(room)
    }

    /// Whether content that arrives is still wanted. If not, nobody can begin to wait for it.
    pub(super) fn is_wanted(&mut self, digest: &Digest) -> bool {
        let Some(busy) = self.busy.get_mut(digest) else { return false };
        let is_wanted = match busy {
            Busy::Arriving(progress) => progress.receiver_count() > 0,
            Busy::Leaving => false,
        };
        if !is_wanted {
            *busy = Busy::Leaving;
        }
        is_wanted
    }

    /// Takes in content that has arrived in the room that was reserved for it, unless it was removed
    /// meanwhile.
    pub(super) fn keep(&mut self, digest: &Digest, room: u64) -> bool {
        let is_removed = matches!(self.busy.get(digest), Some(Busy::Leaving) | None);
        if !is_removed {
            self.busy.remove(digest);
            self.index.keep(*digest, room, true);
        }
        !is_removed
    }

    /// Ends an arrival of which nothing is left.
    pub(super) fn give_up(&mut self, digest: &Digest, room: u64) {
        self.busy.remove(digest);
        self.index.release(room);
    }
}
