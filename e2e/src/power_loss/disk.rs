//! A disk that is replayed from a recording, and what is left on it when the
//! power goes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::recording::Event;
use crate::random::Random;

/// The unit in which a disk keeps or loses data.
const PAGE: usize = 4096;

/// What a file system makes of changes that nobody has synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Model {
    /// All are lost: data, and entries of folders. POSIX promises no more.
    Forgetful,
    /// Names and lengths that shrank are kept, in order; data is lost, and
    /// with it the length (ext4 with delayed allocation).
    Truncating,
    /// Names and lengths are kept, in order; new data reads as zeros (a
    /// journal of metadata only).
    Zeroing,
    /// Names and lengths are kept; of the data, some pages are.
    Torn,
    /// Everything is kept: what a killed process leaves.
    Lucky,
}

impl Model {
    pub(super) const ALL: [Self; 5] =
        [Self::Forgetful, Self::Truncating, Self::Zeroing, Self::Torn, Self::Lucky];
}

type Number = usize;

pub(super) struct Disk {
    /// The folder that was there, durably, when the recording began.
    base: PathBuf,
    nodes: Vec<Node>,
    open: HashMap<i32, Descriptor>,
    /// By thread.
    syncs: HashMap<u32, Vec<Sync>>,
}

enum Node {
    File(FileNode),
    Folder(Folder),
}

#[derive(Default)]
struct FileNode {
    synced: Vec<u8>,
    /// Since then, in order.
    pending: Vec<Change>,
    length: usize,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLength(usize),
}

#[derive(Default)]
struct Folder {
    synced: Entries,
    current: Entries,
}

type Entries = BTreeMap<String, Number>;

struct Descriptor {
    node: Number,
    offset: usize,
    append: bool,
}

/// What a sync that is under way will have made durable.
enum Sync {
    File(Number, usize),
    Folder(Number, Entries),
}

const ROOT: Number = 0;

impl Disk {
    pub(super) fn new(base: &Path) -> Self {
        Self {
            base: base.to_owned(),
            nodes: vec![Node::Folder(Folder::default())],
            open: HashMap::new(),
            syncs: HashMap::new(),
        }
    }

    /// Lets one thing happen. True if it changed the disk.
    pub(super) fn apply(&mut self, event: &Event) -> Result<bool> {
        match event {
            Event::Open { path, create, truncate, append, fd } => {
                return self.open(path, *create, *truncate, *append, *fd);
            }
            Event::Close { fd } => {
                self.open.remove(fd);
                return Ok(false);
            }
            Event::Write { fd, offset, data } => return self.write(*fd, *offset, data),
            Event::SetLength { fd, length } => {
                let Some(descriptor) = self.open.get(fd) else { return Ok(false) };
                self.change(descriptor.node, Change::SetLength(*length))?;
            }
            Event::Rename { from, to } => {
                let Some(node) = self.look_up(from) else { return Ok(false) };
                self.enter(to, node)?;
                self.leave(from)?;
            }
            Event::Link { from, to } => {
                let Some(node) = self.look_up(from) else { return Ok(false) };
                self.enter(to, node)?;
            }
            Event::Remove { path } => return self.leave(path),
            Event::MakeFolder { path } => {
                if !self.holds(path) {
                    return Ok(false);
                }
                let node = self.add(Node::Folder(Folder::default()));
                self.enter(path, node)?;
            }
            Event::SyncBegins { fd, thread } => {
                if let Some(descriptor) = self.open.get(fd) {
                    let sync = Sync::of(descriptor.node, self.node(descriptor.node)?);
                    self.syncs.insert(*thread, vec![sync]);
                }
                return Ok(false);
            }
            Event::SyncAllBegins { thread } => {
                let syncs = self.nodes.iter().enumerate().map(|(node, is)| Sync::of(node, is));
                self.syncs.insert(*thread, syncs.collect());
                return Ok(false);
            }
            Event::SyncEnds { thread } => {
                let Some(syncs) = self.syncs.remove(thread) else { return Ok(false) };
                syncs.into_iter().try_for_each(|sync| self.sync(sync))?;
            }
            Event::Unknown { fd, line } => {
                ensure!(!self.open.contains_key(fd), "this replay does not know {line}");
                return Ok(false);
            }
            Event::Sent { .. } => return Ok(false),
            Event::Ended => {
                self.open.clear();
                self.syncs.clear();
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn open(
        &mut self,
        path: &Path,
        create: bool,
        truncate: bool,
        append: bool,
        fd: i32,
    ) -> Result<bool> {
        self.open.remove(&fd);
        // SQLite's index of its log is worth nothing after a restart.
        if !self.holds(path) || path.to_string_lossy().ends_with("-shm") {
            return Ok(false);
        }
        let found = self.look_up(path);
        let node = match found {
            Some(node) => node,
            None if create => {
                let node = self.add(Node::File(FileNode::default()));
                self.enter(path, node)?;
                node
            }
            None => bail!("{} was opened, but the replay has no such file", path.display()),
        };
        self.open.insert(fd, Descriptor { node, offset: 0, append });
        if truncate && found.is_some() {
            self.change(node, Change::SetLength(0))?;
        }
        Ok(found.is_none() || truncate)
    }

    fn write(&mut self, fd: i32, offset: Option<usize>, data: &[u8]) -> Result<bool> {
        let Some(descriptor) = self.open.get(&fd) else { return Ok(false) };
        let node = descriptor.node;
        let start = match (offset, descriptor.append) {
            (Some(offset), _) => offset,
            (None, true) => self.file(node)?.length,
            (None, false) => descriptor.offset,
        };
        if let (None, Some(descriptor)) = (offset, self.open.get_mut(&fd)) {
            descriptor.offset = start + data.len();
        }
        self.change(node, Change::Write(start, data.to_owned()))?;
        Ok(true)
    }

    fn change(&mut self, node: Number, change: Change) -> Result<()> {
        let file = self.file(node)?;
        file.length = match &change {
            Change::Write(offset, data) => file.length.max(offset + data.len()),
            Change::SetLength(length) => *length,
        };
        file.pending.push(change);
        Ok(())
    }

    fn sync(&mut self, sync: Sync) -> Result<()> {
        match sync {
            Sync::File(node, count) => {
                let file = self.file(node)?;
                let rest = file.pending.split_off(count.min(file.pending.len()));
                for change in std::mem::replace(&mut file.pending, rest) {
                    change.keep(&mut file.synced);
                }
            }
            Sync::Folder(node, entries) => {
                if let Node::Folder(folder) = self.node_mut(node)? {
                    folder.synced = entries;
                }
            }
        }
        Ok(())
    }

    /// Writes below `target` what is left when the power goes now.
    pub(super) fn render(&self, model: Model, random: &mut Random, target: &Path) -> Result<()> {
        self.render_node(ROOT, model, random, target)
    }

    fn render_node(
        &self,
        node: Number,
        model: Model,
        random: &mut Random,
        target: &Path,
    ) -> Result<()> {
        match self.node(node)? {
            Node::File(file) => std::fs::write(target, file.left(model, random))?,
            Node::Folder(folder) => {
                std::fs::create_dir_all(target)?;
                let entries =
                    if model == Model::Forgetful { &folder.synced } else { &folder.current };
                for (name, &node) in entries {
                    self.render_node(node, model, random, &target.join(name))?;
                }
            }
        }
        Ok(())
    }

    fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.base)
    }

    fn look_up(&self, path: &Path) -> Option<Number> {
        let mut node = ROOT;
        for part in path.strip_prefix(&self.base).ok()?.components() {
            let Some(Node::Folder(folder)) = self.nodes.get(node) else { return None };
            node = *folder.current.get(&name(part))?;
        }
        Some(node)
    }

    fn enter(&mut self, path: &Path, node: Number) -> Result<()> {
        self.folder_of(path)?.current.insert(last_name(path)?, node);
        Ok(())
    }

    fn leave(&mut self, path: &Path) -> Result<bool> {
        if !self.holds(path) {
            return Ok(false);
        }
        self.folder_of(path)?.current.remove(&last_name(path)?);
        Ok(true)
    }

    fn folder_of(&mut self, path: &Path) -> Result<&mut Folder> {
        let above = path.parent().context("no folder above it")?;
        let node = self
            .look_up(above)
            .with_context(|| format!("the replay has no folder {}", above.display()))?;
        match self.node_mut(node)? {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => bail!("{} is no folder", above.display()),
        }
    }

    fn add(&mut self, node: Node) -> Number {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn node(&self, node: Number) -> Result<&Node> {
        self.nodes.get(node).context("no such node")
    }

    fn node_mut(&mut self, node: Number) -> Result<&mut Node> {
        self.nodes.get_mut(node).context("no such node")
    }

    fn file(&mut self, node: Number) -> Result<&mut FileNode> {
        match self.node_mut(node)? {
            Node::File(file) => Ok(file),
            Node::Folder(_) => bail!("a folder was written to"),
        }
    }
}

impl Sync {
    fn of(number: Number, node: &Node) -> Self {
        match node {
            Node::File(file) => Self::File(number, file.pending.len()),
            Node::Folder(folder) => Self::Folder(number, folder.current.clone()),
        }
    }
}

impl FileNode {
    fn left(&self, model: Model, random: &mut Random) -> Vec<u8> {
        let mut content = self.synced.clone();
        for change in &self.pending {
            match (model, change) {
                (Model::Forgetful, _) => {}
                (Model::Lucky, change) => change.clone().keep(&mut content),
                (_, Change::SetLength(length)) if *length <= content.len() => {
                    content.truncate(*length);
                }
                (Model::Truncating, _) => {}
                (_, Change::SetLength(length)) => content.resize(*length, 0),
                (model, Change::Write(offset, data)) => {
                    let end = offset + data.len();
                    content.resize(content.len().max(end), 0);
                    if model == Model::Torn {
                        keep_some(&mut content, *offset, data, random);
                    }
                }
            }
        }
        content
    }
}

impl Change {
    fn keep(self, content: &mut Vec<u8>) {
        match self {
            Self::SetLength(length) => content.resize(length, 0),
            Self::Write(offset, data) => {
                let end = offset + data.len();
                content.resize(content.len().max(end), 0);
                if let Some(space) = content.get_mut(offset..end) {
                    space.copy_from_slice(&data);
                }
            }
        }
    }
}

/// Of a write, each page reaches the disk or does not.
fn keep_some(content: &mut [u8], offset: usize, data: &[u8], random: &mut Random) {
    let mut done = 0;
    while done < data.len() {
        let here = offset + done;
        let part = (PAGE - here % PAGE).min(data.len() - done);
        if random.one_in(2)
            && let Some(space) = content.get_mut(here..here + part)
            && let Some(kept) = data.get(done..done + part)
        {
            space.copy_from_slice(kept);
        }
        done += part;
    }
}

fn name(part: Component<'_>) -> String {
    part.as_os_str().to_string_lossy().into_owned()
}

fn last_name(path: &Path) -> Result<String> {
    Ok(path.file_name().context("a path without a name")?.to_string_lossy().into_owned())
}
