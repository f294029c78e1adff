//! A cache on disk is a store like any other, and asks the one behind it seldom.

#![allow(clippy::unwrap_used)]

mod gated;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use blobs::{Blobs, CacheEvent, CacheResult, Cached, Content, Error, ObjectStore};
use bytes::Bytes;
use oci::Digest;
use tempfile::TempDir;

use gated::{Gated, PIECE};

/// More than any test needs.
const LARGE: u64 = 1 << 30;

struct Machine {
    store: Arc<Gated>,
    folder: TempDir,
}

/// A server of that machine.
struct Server {
    blobs: Arc<Cached>,
    events: Arc<Mutex<Vec<CacheEvent>>>,
}

impl Machine {
    fn new() -> Self {
        Self { store: Gated::open(), folder: tempfile::tempdir().unwrap() }
    }

    /// Starts a server, and waits until it uses its cache.
    async fn start(&self, max_size: u64) -> Server {
        let server = self.try_start(max_size).unwrap();
        server.until(|event| matches!(event, CacheEvent::Holds(..))).await;
        server
    }

    fn try_start(&self, max_size: u64) -> Result<Server, Error> {
        let objects = Arc::<Gated>::clone(&self.store);
        let events = Arc::<Mutex<Vec<CacheEvent>>>::default();
        let noted = Arc::clone(&events);
        let note = move |event| noted.lock().unwrap().push(event);
        let store = Arc::new(ObjectStore::new(objects, 6 << 20));
        let blobs = Arc::new(Cached::open(store, self.folder.path(), max_size, note)?);
        Ok(Server { blobs, events })
    }

    /// The files of content in the cache.
    fn files(&self) -> Vec<PathBuf> {
        files_below(&self.folder.path().join("blobs"))
    }

    fn arriving(&self) -> Vec<PathBuf> {
        files_below(&self.folder.path().join("arriving"))
    }
}

impl Server {
    async fn put(&self, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let _ = self.blobs.put(&digest, Bytes::copy_from_slice(content)).await.unwrap();
        digest
    }

    async fn open(&self, digest: &Digest, size: usize) -> Content {
        self.blobs.open(digest, None, size as u64).await.unwrap()
    }

    async fn pull(&self, digest: &Digest, size: usize) -> Result<Vec<u8>, Error> {
        read_all(&self.open(digest, size).await).await
    }

    /// What has become of reads since the last time.
    fn results(&self) -> Vec<CacheResult> {
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        let results = events.into_iter().filter_map(|event| match event {
            CacheEvent::Read(result, _) => Some(result),
            _ => None,
        });
        results.collect()
    }

    fn count(&self, is: impl Fn(&CacheEvent) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| is(event)).count()
    }

    async fn until(&self, is: impl Fn(&CacheEvent) -> bool) {
        until(|| self.count(&is) > 0).await;
    }

    /// Waits until nothing is on its way and what the disk has is what the cache says that it has:
    /// so many bytes and files, which are returned.
    async fn until_quiet(&self, machine: &Machine) -> (u64, u64) {
        let told = || {
            let events = self.events.lock().unwrap();
            events.iter().rev().find_map(|event| match event {
                CacheEvent::Holds(bytes, files) => Some((*bytes, *files)),
                _ => None,
            })
        };
        let mut on_disk = (0, 0);
        until(|| {
            let sizes = machine.files().into_iter().filter_map(|path| fs::metadata(path).ok());
            let rooms = sizes.map(|found| found.len().next_multiple_of(4096)).collect::<Vec<_>>();
            on_disk = (rooms.iter().sum(), rooms.len() as u64);
            machine.arriving().is_empty() && told() == Some(on_disk)
        })
        .await;
        on_disk
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it has not come about");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

async fn read_all(content: &Content) -> Result<Vec<u8>, Error> {
    content.begin(0).await?;
    let mut all = Vec::new();
    while (all.len() as u64) < content.size() {
        all.extend_from_slice(&content.read(all.len() as u64, 1 << 20).await?);
    }
    Ok(all)
}

fn bytes_of(number: u64, size: usize) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(size).collect()
}

#[tokio::test]
async fn passes_the_suite() {
    let machine = Machine::new();
    let server = machine.start(LARGE).await;
    blobs::conformance::run(&*server.blobs).await.unwrap();
    assert!(server.results().contains(&CacheResult::Miss));
}

#[tokio::test]
async fn what_was_read_once_is_here() {
    let machine = Machine::new();
    let server = machine.start(LARGE).await;
    let content = bytes_of(1, 1_000_000);
    let digest = server.put(&content).await;
    assert_eq!(server.pull(&digest, content.len()).await.unwrap(), content);
    assert_eq!(server.until_quiet(&machine).await, (1_003_520, 1));
    // Another repository has the same content at another place.
    let again = server.blobs.open(&digest, Some("orlop/blobs/x"), 1_000_000).await.unwrap();
    assert!(again.map(10, 100_000).is_some(), "it can leave by sendfile");
    assert_eq!(read_all(&again).await.unwrap(), content);
    assert_eq!(server.results(), [CacheResult::Miss, CacheResult::Hit]);
    assert_eq!(machine.store.gets(), 1);

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&machine.files()[0]), 0o600);
    for folder in ["blobs", "arriving"] {
        assert_eq!(mode(&machine.folder.path().join(folder)), 0o700);
    }
    assert_eq!(mode(machine.files()[0].parent().unwrap()), 0o700);
}

#[tokio::test]
async fn a_herd_is_one_read_of_the_store() {
    let machine = Machine::new();
    let server = Arc::new(machine.start(LARGE).await);
    let content = Arc::new(bytes_of(2, 40 * PIECE));
    let digest = server.put(&content).await;
    machine.store.close();
    let pulls = (0..100).map(|_| {
        let (server, content) = (Arc::clone(&server), Arc::clone(&content));
        tokio::spawn(async move {
            assert!(server.pull(&digest, content.len()).await.unwrap() == *content);
        })
    });
    let pulls = pulls.collect::<Vec<_>>();
    until(|| server.count(|event| matches!(event, CacheEvent::Read(..))) == 100).await;
    machine.store.gate.add_permits(40);
    for pull in pulls {
        pull.await.unwrap();
    }
    let mut results = server.results();
    results.sort_by_key(|result| *result != CacheResult::Miss);
    assert_eq!(results.remove(0), CacheResult::Miss);
    assert_eq!(results, vec![CacheResult::Shared; 99]);
    assert_eq!(machine.store.gets(), 1);
}

#[tokio::test]
async fn bytes_reach_a_reader_while_the_rest_is_on_its_way() {
    let machine = Machine::new();
    let server = machine.start(LARGE).await;
    let content = bytes_of(3, 16 * PIECE);
    let digest = server.put(&content).await;
    machine.store.close();
    machine.store.gate.add_permits(4);
    let opened = server.open(&digest, content.len()).await;
    opened.begin(0).await.unwrap();
    assert_eq!(opened.read(0, 1 << 20).await.unwrap(), content[..4 * PIECE]);
    assert!(opened.map(0, 100).is_none(), "a file that grows is not sent by the kernel");
    // A part does not wait for what comes before it.
    let part = opened.part(15 * PIECE as u64, 10);
    part.begin(15 * PIECE as u64).await.unwrap();
    assert_eq!(part.read(15 * PIECE as u64, 10).await.unwrap(), content[..10]);
    assert_eq!(server.results(), [CacheResult::Miss, CacheResult::Pass]);
    assert_eq!(machine.store.gets(), 2);
    machine.store.gate.add_permits(12);
    assert!(read_all(&opened).await.unwrap() == content);
}

#[tokio::test]
async fn what_the_last_reader_leaves_is_dropped() {
    let machine = Machine::new();
    let server = machine.start(LARGE).await;
    let content = bytes_of(4, 16 * PIECE);
    let digest = server.put(&content).await;
    machine.store.close();
    machine.store.gate.add_permits(8);
    let first = server.open(&digest, content.len()).await;
    first.begin(0).await.unwrap();
    let second = server.open(&digest, content.len()).await;
    second.begin(0).await.unwrap();
    drop(first);
    assert_eq!(second.read(6 * PIECE as u64, 10).await.unwrap(), content[..10], "one is left");
    drop(second);
    machine.store.gate.add_permits(4);
    assert_eq!(server.until_quiet(&machine).await, (0, 0));
    machine.store.gate.add_permits(100);
    assert!(server.pull(&digest, content.len()).await.unwrap() == content);
    let (_, files) = server.until_quiet(&machine).await;
    assert_eq!((files, machine.store.gets()), (1, 2));
}

#[tokio::test]
async fn what_was_read_again_stays() {
    let machine = Machine::new();
    let server = machine.start(10 * 4096).await;
    let kept = server.put(&bytes_of(0, 4000)).await;
    for _ in 0..2 {
        server.pull(&kept, 4000).await.unwrap();
        server.until_quiet(&machine).await;
    }
    for number in 1..50 {
        let passing = server.put(&bytes_of(number, 4000)).await;
        server.pull(&passing, 4000).await.unwrap();
        let (bytes, _) = server.until_quiet(&machine).await;
        assert!(bytes <= 10 * 4096);
    }
    server.results();
    server.pull(&kept, 4000).await.unwrap();
    assert_eq!(server.results(), [CacheResult::Hit]);

    let huge = server.put(&bytes_of(50, 11 * 4096)).await;
    server.pull(&huge, 11 * 4096).await.unwrap();
    assert_eq!(server.results(), [CacheResult::Pass], "it has no room");
}

/// Many readers of much more than there is room for: each has the right bytes, and the disk never
/// has more than it should.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_bound_holds_among_many_readers() {
    const MAX: u64 = 1 << 20;
    let given = std::env::var("ORLOP_TEST_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = given.unwrap_or_else(|| clock().subsec_nanos().into());
    println!("run it again with ORLOP_TEST_SEED={seed}");
    let machine = Arc::new(Machine::new());
    let server = Arc::new(machine.start(MAX).await);
    let mut contents = Vec::new();
    for number in 0..60_u64 {
        let content = bytes_of(number, 1 + usize::try_from(number * number * 100).unwrap());
        contents.push((server.put(&content).await, content));
    }
    let contents = Arc::new(contents);
    let is_over = Arc::new(AtomicBool::new(false));
    let watch = {
        let (machine, is_over) = (Arc::clone(&machine), Arc::clone(&is_over));
        std::thread::spawn(move || {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                let files = machine.files().into_iter().chain(machine.arriving());
                // What has gone meanwhile is not there.
                let sizes = files.filter_map(|path| Some(fs::metadata(path).ok()?.len()));
                most = most.max(sizes.sum::<u64>());
            }
            most
        })
    };
    let readers = (0..16_u64).map(|reader| {
        let (server, contents) = (Arc::clone(&server), Arc::clone(&contents));
        tokio::spawn(async move {
            let mut random = seed.wrapping_mul(0x9e37_79b9).wrapping_add(reader) | 1;
            for _ in 0..100 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let (digest, content) = &contents[usize::try_from(random % 60).unwrap()];
                match random >> 32 & 7 {
                    0 => {
                        // A client that leaves at once.
                        let _ = server.open(digest, content.len()).await.begin(0).await;
                    }
                    1 => {
                        let _ = server.blobs.remove(digest, None).await.unwrap();
                        server.put(content).await;
                    }
                    _ => match server.pull(digest, content.len()).await {
                        Ok(found) => assert!(found == *content),
                        // Somebody has removed it a moment ago.
                        Err(error) => assert_eq!(error.kind(), blobs::ErrorKind::NotFound),
                    },
                }
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    let most = watch.join().unwrap();
    let (bytes, files) = server.until_quiet(&machine).await;
    assert!(bytes <= MAX && most <= MAX, "{bytes} bytes, {most} at most");
    assert!(files > 0 && server.count(|event| matches!(event, CacheEvent::Evicted(_))) > 0);
}

#[tokio::test]
async fn a_restart_keeps_what_is_whole() {
    let machine = Machine::new();
    let server = machine.start(LARGE).await;
    let contents = [bytes_of(5, 900_000), bytes_of(6, 800_000), bytes_of(7, 700_000)];
    let mut digests = Vec::new();
    for content in &contents {
        let digest = server.put(content).await;
        server.pull(&digest, content.len()).await.unwrap();
        digests.push(digest);
    }
    server.until_quiet(&machine).await;
    drop(server);
    let of = |digest: &Digest| {
        let mut files = machine.files().into_iter();
        files.find(|path| path.to_string_lossy().contains(&digest.hex())).unwrap()
    };
    let mut damaged = contents[1].clone();
    damaged[400_000] ^= 1;
    fs::write(of(&digests[1]), damaged).unwrap();
    fs::write(of(&digests[2]), &contents[2][..100_000]).unwrap();
    fs::write(machine.folder.path().join("arriving/left"), "of a crash").unwrap();

    let server = machine.start(LARGE).await;
    assert!(machine.arriving().is_empty());
    assert_eq!(machine.store.gets(), 3);
    for (gets, (digest, content)) in [3, 4, 5].iter().zip(digests.iter().zip(&contents)) {
        assert!(server.pull(digest, content.len()).await.unwrap() == *content);
        assert_eq!(machine.store.gets(), *gets);
    }
    server.until_quiet(&machine).await;
    for (digest, content) in digests.iter().zip(&contents) {
        // Twice: what was damaged is taken in again.
        for _ in 0..2 {
            assert!(server.pull(digest, content.len()).await.unwrap() == *content);
            server.until_quiet(&machine).await;
        }
    }
    assert_eq!(machine.store.gets(), 7);

    // With less room as much stays as there is room for.
    drop(server);
    let server = machine.start(2_000_000).await;
    let (bytes, files) = server.until_quiet(&machine).await;
    assert!(bytes <= 2_000_000 && files == 2, "{bytes} bytes, {files} files");
}

#[tokio::test]
async fn the_folder_may_be_thrown_away() {
    let machine = Machine::new();
    let server = machine.start(LARGE).await;
    let content = bytes_of(8, 300_000);
    let digest = server.put(&content).await;
    for round in 1..4 {
        assert!(server.pull(&digest, content.len()).await.unwrap() == content);
        server.until_quiet(&machine).await;
        assert_eq!(machine.store.gets(), round);
        match round {
            1 => fs::remove_dir_all(machine.folder.path().join("blobs")).unwrap(),
            // As it may be after trouble with its disk.
            _ => fs::OpenOptions::new()
                .write(true)
                .open(&machine.files()[0])
                .and_then(|file| file.set_len(1000))
                .unwrap(),
        }
        // A file that was seen is not looked up again at once.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn trouble_with_the_disk_is_no_error() {
    let machine = Machine::new();
    let server = machine.start(LARGE).await;
    let here = server.put(&bytes_of(9, 100_000)).await;
    server.pull(&here, 100_000).await.unwrap();
    server.until_quiet(&machine).await;
    let arriving = machine.folder.path().join("arriving");
    fs::remove_dir(&arriving).unwrap();
    fs::write(&arriving, "in the way").unwrap();
    server.results();
    for number in 10..13 {
        let content = bytes_of(number, 100_000);
        let digest = server.put(&content).await;
        assert!(server.pull(&digest, content.len()).await.unwrap() == content);
    }
    server.pull(&here, 100_000).await.unwrap();
    let [first, rest @ ..] = &*server.results() else { panic!("no results") };
    assert_eq!(*first, CacheResult::Miss);
    assert_eq!(rest, [CacheResult::Pass, CacheResult::Pass, CacheResult::Hit]);
}

#[tokio::test]
async fn wrong_bytes_are_not_kept() {
    let machine = Machine::new();
    let server = machine.start(LARGE).await;
    for size in [15, 1_000_000] {
        let digest = Digest::sha256(format!("what was pushed: {size} bytes").as_bytes());
        let _ = server.blobs.put(&digest, bytes_of(9, size).into()).await.unwrap();
        server.results();
        for round in 1..3 {
            // Not even those that others have read already are followed by the rest.
            let damaged = server.pull(&digest, size).await.unwrap_err();
            assert_eq!(damaged.kind(), blobs::ErrorKind::Damaged, "{damaged}");
            until(|| server.count(|event| matches!(event, CacheEvent::Holds(0, 0))) >= round).await;
            assert!(machine.files().is_empty() && machine.arriving().is_empty());
        }
        assert_eq!(server.results(), [CacheResult::Miss, CacheResult::Miss]);
    }
}

#[tokio::test]
async fn what_is_removed_goes_from_the_disk() {
    let machine = Machine::new();
    let server = machine.start(LARGE).await;
    let content = bytes_of(13, 16 * PIECE);
    let digest = server.put(&content).await;
    server.pull(&digest, content.len()).await.unwrap();
    server.until_quiet(&machine).await;
    assert!(server.blobs.remove(&digest, None).await.unwrap());
    assert_eq!(server.until_quiet(&machine).await, (0, 0));

    // While it is arriving: whoever reads it may go on.
    server.put(&content).await;
    machine.store.close();
    machine.store.gate.add_permits(4);
    let opened = server.open(&digest, content.len()).await;
    opened.begin(0).await.unwrap();
    assert!(server.blobs.remove(&digest, None).await.unwrap());
    server.put(&content).await;
    machine.store.gate.add_permits(100);
    assert!(read_all(&opened).await.unwrap() == content);
    assert_eq!(server.until_quiet(&machine).await, (0, 0));
}

#[tokio::test]
async fn a_folder_has_one_user() {
    let machine = Machine::new();
    let first = machine.start(LARGE).await;
    let Err(error) = machine.try_start(LARGE) else { panic!("two servers in one folder") };
    let text = error.to_string();
    assert!(text.contains("another server uses it"), "{text}");
    assert!(text.contains(&*machine.folder.path().to_string_lossy()), "{text}");
    drop(first);
    until(|| machine.try_start(LARGE).is_ok()).await;
}
