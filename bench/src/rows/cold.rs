//! Blobs that are not in the page cache, and what reading them does to others.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use sha2::{Digest as _, Sha256};

use super::{Extra, Pass, Row};
use crate::arrivals::Arrivals;
use crate::background;
use crate::content::name_of;
use crate::goal::Goal;
use crate::http::{Client, Request, Sink};
use crate::load::{self, Bound, Load, Sample};
use crate::registry::Blob;
use crate::seed::{self, READ};
use crate::server::{Kind, Server};
use crate::unit::Unit;

const CONNECTIONS: usize = 8;
const SIZE: u64 = 10 << 20;

/// Per second: half of what the slowest server can do.
const HEADS: f64 = 300.0;
/// For a p99 that means something.
const LONG_ENOUGH: Duration = Duration::from_secs(1);

const UNDISTURBED: &str = "blob HEAD at 300/s";

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("cold blob GET 10 MiB (c8)", Unit::Bandwidth, cold)
            .static_files()
            .goals([Goal::Ahead(1.0), Goal::RateAtLeast(Kind::Nginx, 0.95)]),
        Row::new(UNDISTURBED, Unit::Tail, heads).static_files().only(Extra::Long).goals([]),
        Row::new("blob HEAD at 300/s while cold blobs are read", Unit::Tail, heads_meanwhile)
            .static_files()
            .only(Extra::Long)
            .goals([Goal::NoWorse(UNDISTURBED.to_owned(), 2.0)]),
    ]
}

fn cold(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let blobs = stored(server, pass)?;
    load::run(server, pass.scale.timed(CONNECTIONS), |connection| {
        let mut client = server.client();
        let mut blobs = share(&blobs, connection);
        Ok(move |_| blobs.next().context("no blob")?.read(&mut client, Sink::Discard))
    })
}

fn heads(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    head(server, pass)
}

fn head(server: &Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let target = format!("/v2/{READ}/blobs/{}", pass.seed.small.digest);
    let head = Request::new("HEAD", server.address(), &target, &[]);
    let arrivals = Arrivals::during(HEADS, pass.scale.sample.max(LONG_ENOUGH));
    let load = Load { connections: CONNECTIONS, bound: Bound::Due(arrivals) };
    load::run(server, load, |_| {
        let mut client = server.client();
        let head = &head;
        Ok(move |_| Ok(client.send(head, Sink::Discard)?.expect(200, "HEAD")?.received))
    })
}

fn heads_meanwhile(server: &mut Server, pass: &Pass<'_>) -> anyhow::Result<Sample> {
    let blobs = stored(server, pass)?;
    let reader = |connection| {
        let mut client = server.client();
        let mut blobs = share(&blobs, connection);
        move || blobs.next().context("no blob")?.read(&mut client, Sink::Discard).map(drop)
    };
    background::during(CONNECTIONS, reader, || head(server, pass))
}

/// Each connection has its own: nobody drops what another reads.
fn share(blobs: &[Stored], connection: usize) -> impl Iterator<Item = &Stored> {
    blobs.iter().skip(connection).step_by(CONNECTIONS).cycle()
}

/// A blob, and the file in which the server has it.
struct Stored {
    target: String,
    digest: String,
    file: File,
}

/// The blobs that are read, at least two for each connection.
fn stored(server: &Server, pass: &Pass<'_>) -> anyhow::Result<Vec<Stored>> {
    let count = (pass.scale.layer / SIZE).max(2 * CONNECTIONS as u64);
    let blobs: Vec<Blob> =
        (0..count).map(|number| pass.shelf.blob(format!("cold/{number}"), SIZE)).collect();
    if pass.round == 0 {
        seed::in_parallel(server, count, |_, number| {
            let blob = blobs.get(usize::try_from(number)?).context("no blob")?;
            seed::ensure_blob(server, READ, blob)
        })?;
    }
    // What is not yet on the disk cannot be dropped.
    rustix::fs::sync();
    let mut files = Vec::new();
    files_below(&server.data(), &mut files)?;
    let stored: Vec<Stored> =
        blobs.into_iter().map(|blob| Stored::find(blob, &files)).collect::<anyhow::Result<_>>()?;
    if pass.round == 0 {
        let first = stored.first().context("no blob")?;
        first.check(&mut server.client())?;
    }
    Ok(stored)
}

impl Stored {
    fn find(blob: Blob, files: &[PathBuf]) -> anyhow::Result<Self> {
        let hex = blob.digest.trim_start_matches("sha256:");
        let path = files
            .iter()
            .find(|path| path.to_string_lossy().contains(hex))
            .with_context(|| format!("no file has {}", blob.digest))?;
        let file = File::open(path)?;
        Ok(Self { target: format!("/v2/{READ}/blobs/{}", blob.digest), digest: blob.digest, file })
    }

    /// Pulls the blob from the disk; tells its bytes.
    fn read(&self, client: &mut Client, sink: Sink<'_>) -> anyhow::Result<u64> {
        fadvise(&self.file, 0, None, Advice::DontNeed)?;
        let request = Request::new("GET", client.address(), &self.target, &[]);
        let received = client.send(&request, sink)?.expect(200, &self.target)?.received;
        ensure!(received == SIZE, "expected {SIZE} bytes, found {received}");
        Ok(received)
    }

    /// The blob is dropped from the cache, and is read as it was pushed.
    fn check(&self, client: &mut Client) -> anyhow::Result<()> {
        fadvise(&self.file, 0, None, Advice::DontNeed)?;
        let mut byte = [0];
        let mut target = [std::io::IoSliceMut::new(&mut byte)];
        let cached = preadv2(&self.file, &mut target, SIZE / 2, ReadWriteFlags::NOWAIT);
        ensure!(cached == Err(Errno::AGAIN), "the page cache was not dropped: found {cached:?}");
        let mut hash = Sha256::new();
        self.read(client, Sink::Hash(&mut hash))?;
        let found = name_of(hash);
        ensure!(found == self.digest, "GET {}: the bytes are {found}", self.target);
        Ok(())
    }
}

/// All files of the right size.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        // Where distribution's layout has links and no bytes.
        if kind.is_dir() && entry.file_name() != "repositories" {
            files_below(&entry.path(), found)?;
        } else if kind.is_file() && entry.metadata()?.len() == SIZE {
            found.push(entry.path());
        }
    }
    Ok(())
}
