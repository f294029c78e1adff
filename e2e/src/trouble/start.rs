//! A registry that cannot start says why, in one line, and fails.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::image::pseudo_random;
use crate::ports::free_port;
use crate::registry::Setup;
use crate::scenario::Stage;

const DATABASE: &str = "orlop/metadata.sqlite";

pub(super) fn port_in_use(stage: &Stage) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let host = taken.local_addr()?.to_string();
    let store = stage.path("store");
    one_line(stage, &host, &store, &[&host])?;
    ensure!(!store.exists(), "it made a data folder although it could not start");
    Ok(())
}

pub(super) fn second_server(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let store = stage.path("store");
        one_line(stage, &free_host()?, &store, &["another server", &store.to_string_lossy()])?;
        registry.http.push_blob("trouble/first", b"the first one goes on")?;
        Ok(())
    })
}

pub(super) fn no_folder(stage: &Stage) -> Result<()> {
    let store = stage.file("file", "not a folder")?.join("store");
    one_line(stage, &free_host()?, &store, &[&store.to_string_lossy()])
}

pub(super) fn read_only(stage: &Stage) -> Result<()> {
    let store = stage.folder("store")?;
    stage.client("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&store).succeed()?;
    let remount = |option: &str| {
        stage.client("mount").args(["-o", &format!("remount,{option}")]).arg(&store).succeed()
    };
    remount("ro")?;
    one_line(stage, &free_host()?, &store, &[&store.to_string_lossy(), "ead-only"])?;
    // The same with a store in it.
    remount("rw")?;
    stage.with_registry(|registry| registry.http.push_blob("trouble/kept", b"kept").map(drop))?;
    remount("ro")?;
    one_line(stage, &free_host()?, &store, &[&store.to_string_lossy(), "ead-only"])?;
    remount("rw")?;
    stage.with_registry(|registry| {
        let digest = crate::http::sha256(b"kept");
        registry.http.get(&format!("/v2/trouble/kept/blobs/{digest}"))?.expect(200).map(drop)
    })
}

pub(super) fn damaged_database(stage: &Stage) -> Result<()> {
    let damages: [(&str, Vec<u8>, &str); 4] = [
        ("garbage", pseudo_random("garbage", 8192), "damaged"),
        ("a text", b"This is not a database.\n".repeat(400), "damaged"),
        ("the database of another program", foreign_database(), "another program"),
        // As after a lost disk: a new database would forget all that is stored.
        ("nothing", Vec::new(), "do not belong together"),
    ];
    for (place, (what, content, expected)) in damages.into_iter().enumerate() {
        let name = format!("store-{place}");
        let mut registry = stage.start_registry(&name, &Setup::default())?;
        registry.http.push_blob("trouble/kept", b"kept")?;
        registry.stop()?;
        let store = stage.path(&name);
        let database = store.join(DATABASE);
        for left in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(store.join(format!("{DATABASE}{left}")));
        }
        std::fs::write(&database, &content)?;
        one_line(stage, &free_host()?, &store, &[expected, DATABASE])
            .map_err(|error| error.context(format!("the database is {what}")))?;
        let left = std::fs::read(&database)?;
        // An empty file is made a database before the two are compared.
        ensure!(content.is_empty() || left == content, "{what}: the file was changed");
    }
    Ok(())
}

/// `orlop serve` must fail with one line that holds these words.
fn one_line(stage: &Stage, host: &str, store: &Path, words: &[&str]) -> Result<()> {
    let outcome = stage
        .client(&stage.binary().to_string_lossy())
        .arg("serve")
        .env("REGISTRY_HTTP_ADDR", host)
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", store)
        .outcome()?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    ensure!(outcome.code() == Some(1), "expected it to fail with 1:{}", outcome.said());
    ensure!(
        said.lines().count() == 1 && words.iter().all(|word| said.contains(word)),
        "expected one line with {words:?}:{}",
        outcome.said()
    );
    Ok(())
}

fn free_host() -> Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
}

/// An SQLite file with one empty table, `CREATE TABLE t(a)`, as its format
/// description lays it out: two pages of 512 bytes.
fn foreign_database() -> Vec<u8> {
    const PAGE: usize = 512;
    let record = b"\x06\x17\x0f\x0f\x01\x2ftablett\x02CREATE TABLE t(a)";
    let mut cell = vec![u8::try_from(record.len()).unwrap_or_default(), 1];
    cell.extend(record);
    let start = u16::try_from(PAGE - cell.len()).unwrap_or_default().to_be_bytes();

    let mut file = b"SQLite format 3\0".to_vec();
    file.extend([2, 0, 1, 1, 0, 64, 32, 32, 0, 0, 0, 1, 0, 0, 0, 2]);
    file.resize(40, 0);
    // Schema cookie and format, then the text encoding.
    file.extend([0, 0, 0, 1, 0, 0, 0, 4]);
    file.resize(56, 0);
    file.extend([0, 0, 0, 1]);
    file.resize(92, 0);
    file.extend([0, 0, 0, 1, 0, 0x2e, 0x4f, 0x20]);
    // A leaf with one cell, and one with none.
    file.extend([0x0d, 0, 0, 0, 1, start[0], start[1], 0, start[0], start[1]]);
    file.resize(PAGE - cell.len(), 0);
    file.extend(cell);
    file.extend([0x0d, 0, 0, 0, 0, 2, 0, 0]);
    file.resize(2 * PAGE, 0);
    file
}
