//! Beyond one machine: content in a bucket, facts in PostgreSQL, and several servers for one
//! registry.

use super::read::{self, Ask, Resource, size};
use super::{Extra, MIB, Pass, Row, write};
use crate::goal::Goal;
use crate::registry::{Blob, Upload};
use crate::server::{Kind, Server, Setup};
use crate::unit::Unit;

/// How many servers stand for one registry. The first is what the others are compared with.
const REPLICAS: [usize; 3] = [1, 2, 4];

/// A row for so many replicas, what it is called, and a server that shares nothing with its like:
/// what processors cost each other is in its figures too.
type Replicated = (&'static str, Option<Kind>, fn(usize) -> Row);
/// A row for one client, and what it is called.
type Single = (&'static str, fn() -> Row);

pub(super) fn rows() -> Vec<Row> {
    let rows = [replicas(), database(), bucket()];
    rows.into_iter().flatten().map(|row| row.only(Extra::Cluster)).collect()
}

/// One, two and four servers on one folder and one PostgreSQL, each with the same connections.
fn replicas() -> Vec<Row> {
    let (bare, nginx) = (Some(Kind::Bare), Some(Kind::Nginx));
    let works: [Replicated; 6] = [
        ("manifest GET by tag", bare, |n| rate("", Ask::Get, read::manifest_by_tag, 16 * n)),
        ("blob HEAD", bare, |n| rate("", Ask::Head, read::small_blob, 16 * n)),
        ("blob GET 4 KiB", nginx, |n| rate("", Ask::Get, read::small_blob, 16 * n)),
        ("blob GET 1 MiB", nginx, |n| rate("", Ask::Get, |pass| read::blob(pass, MIB), 4 * n)),
        ("push 4 KiB, POST+PUT", None, |n| small_pushes(8 * n)),
        ("manifest PUT, new tag each", None, |n| manifest_pushes(8 * n)),
    ];
    let mut rows = Vec::new();
    for (name, beside, row) in works {
        let titled = |count| match count {
            1 => format!("{name}, 1 replica"),
            _ => format!("{name}, {count} replicas"),
        };
        rows.extend(REPLICAS.map(|count| {
            let row = Row { name: titled(count), ..row(count) }.over(Setup::Replicas(count));
            let goal = || match beside {
                Some(kind) => Goal::GrowsWith(kind, titled(1), 1.1),
                None => Goal::NoDearer(titled(1), 1.1),
            };
            let goals = (count > 1).then(goal);
            let row = beside.into_iter().fold(row.ours(), Row::with);
            row.in_turn(name).goals(Vec::from_iter(goals))
        }));
    }
    rows
}

/// What it costs that facts are in PostgreSQL: one client that waits for each answer, and, where
/// answers come from memory meanwhile, many.
fn database() -> Vec<Row> {
    let works: [Single; 4] = [
        ("latency, manifest GET by tag", || timed(rate("", Ask::Get, read::manifest_by_tag, 1))),
        ("latency, blob HEAD", || timed(rate("", Ask::Head, read::small_blob, 1))),
        ("latency, push 4 KiB, POST+PUT", || timed(small_pushes(1))),
        ("latency, manifest PUT", || timed(manifest_pushes(1))),
    ];
    let mut rows = Vec::new();
    for (name, row) in works {
        let of = |setup, database: &str| {
            let row = Row { name: format!("{name}, {database}"), ..row() };
            row.over(setup).ours().in_turn(name).goals([])
        };
        rows.extend([of(Setup::Open, "SQLite"), of(Setup::Replicas(1), "PostgreSQL")]);
    }
    let stale = [
        rate("manifest GET by tag, staleness of 1 s (c16)", Ask::Get, read::manifest_by_tag, 16),
        rate("blob HEAD, staleness of 1 s (c16)", Ask::Head, read::small_blob, 16),
    ];
    rows.extend(stale.map(|row| row.over(Setup::Stale).ours().in_turn("stale").goals([])));
    rows
}

/// The same store behind all, each in a folder of its own.
fn bucket() -> Vec<Row> {
    let mut rows = vec![
        rate("manifest GET by tag (c16)", Ask::Get, read::manifest_by_tag, 16),
        rate("blob HEAD (c16)", Ask::Head, read::small_blob, 16),
        rate("blob GET 4 KiB (c8)", Ask::Get, read::small_blob, 8),
        rate("blob GET 1 MiB (c8)", Ask::Get, |pass| read::blob(pass, MIB), 8),
        Row::new("blob GET 16 MiB (c4)", Unit::Bandwidth, |server, pass| {
            read::sample(server, pass, Ask::Get, &read::blob(pass, 16 * MIB), 4)
        }),
        Row::new("push 4 KiB, POST+PUT (c16)", Unit::Rate, write::small),
        large("POST+PUT", 8 * MIB, 4, Upload::Monolithic),
        large("PATCH stream", 8 * MIB, 4, Upload::Stream),
        large("PATCH stream", 64 * MIB, 1, Upload::Stream),
        Row::new("manifest PUT, new tag each (c16)", Unit::Rate, write::manifests),
    ];
    rows = rows.into_iter().map(|row| row.over(Setup::Bucket)).collect();
    let redirected = rate("blob GET, redirected (c16)", Ask::Redirected, read::small_blob, 16);
    // zot 1.4.3 does not redirect.
    rows.push(redirected.over(Setup::Redirects).without(Kind::Zot));
    let beside =
        [Goal::CheaperThan(Kind::Distribution, 1.0), Goal::RateAtLeast(Kind::Distribution, 1.0)];
    let by_bucket = |row: Row| Row { name: format!("S3, {}", row.name), ..row };
    rows.into_iter()
        .map(|row| by_bucket(row).without(Kind::DockerRegistry).goals(beside.clone()))
        .collect()
}

/// Pushed to a server that is not fresh, so that the content has to be.
fn large(how: &str, length: u64, clients: usize, upload: Upload) -> Row {
    let name = format!("push {}, {how} (c{clients})", size(length));
    Row::new(name.clone(), Unit::Bandwidth, move |server: &mut Server, pass: &Pass<'_>| {
        let label = |client| format!("{name}/{}/{client}", pass.round);
        let blobs: Vec<Blob> =
            (0..clients).map(|client| pass.shelf.blob(label(client), length)).collect();
        write::push_large(server, pass, &blobs, upload)
    })
}

fn rate(name: &str, ask: Ask, resource: fn(&Pass<'_>) -> Resource, connections: usize) -> Row {
    Row::new(name, Unit::Rate, move |server, pass| {
        read::sample(server, pass, ask, &resource(pass), connections)
    })
}

fn small_pushes(connections: usize) -> Row {
    Row::new("", Unit::Rate, move |server, pass| write::small_of(server, pass, connections))
}

fn manifest_pushes(connections: usize) -> Row {
    Row::new("", Unit::Rate, move |server, pass| write::manifests_of(server, pass, connections))
}

/// With the time of an operation as its figure.
fn timed(row: Row) -> Row {
    Row { unit: Unit::Latency, ..row }
}
