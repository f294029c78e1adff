//! The facts in PostgreSQL: two servers on one folder, a database that
//! restarts, and the way from SQLite and back.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::http::Http;
use crate::image::pseudo_random;
use crate::ports::free_port;
use crate::process::{Client, Daemon};
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("postgres: two servers, and a database that restarts", 180, two_servers),
    Scenario::new("postgres: from SQLite and back", 180, to_and_fro),
    Scenario::new("postgres: a database that stays away", 120, away),
];

const REPOSITORY: &str = "team/app";

/// `nobody` on Debian. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

const START_LIMIT: Duration = Duration::from_secs(30);

fn two_servers(stage: &Stage) -> Result<()> {
    let mut database = Database::start(stage)?;
    let setup = database.setup();
    let mut first = stage.start_registry("store", &setup)?;
    let mut second = stage.start_registry("store", &setup)?;
    let refused = first.command(stage, "garbage-collect").fail()?;
    ensure!(refused.contains("stop all servers"), "{refused}");

    let clients = [first.host.clone(), second.host.clone()].map(|host| {
        let limit = stage.remaining();
        std::thread::spawn(move || push_many(&Http::new(&host, limit?), &host))
    });
    for mode in [Signal::INT, Signal::QUIT] {
        let backs = || first.log().matches("PostgreSQL is back").count();
        let before = backs();
        database.restart(stage, mode)?;
        wait_until(START_LIMIT, || {
            // Both write into this log.
            ensure!(backs() >= before + 2, "not both servers have found it again");
            Ok(())
        })?;
    }
    let mut pushed = Vec::new();
    for client in clients {
        let done = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        pushed.extend(done?);
    }
    for (tag, digest) in &pushed {
        for server in [&first, &second] {
            ensure!(server.http.digest_of(REPOSITORY, tag)? == *digest, "{tag} is another image");
            server.http.read_whole(REPOSITORY, tag)?;
        }
    }
    first.check(stage)?;
    first.stop()?;
    let refused = first.command(stage, "garbage-collect").fail()?;
    ensure!(refused.contains("stop all servers"), "{refused}");
    second.stop()?;
    first.command(stage, "garbage-collect").succeed()?;
    first.check(stage)?;
    let status = first.command(stage, "db").arg("status").text()?;
    ensure!(status.contains("PostgreSQL") && status.contains("up to date"), "{status}");
    Ok(())
}

fn to_and_fro(stage: &Stage) -> Result<()> {
    let database = Database::start(stage)?;
    let mut sqlite = stage.start_registry("store", &Setup::default())?;
    let first = push(&sqlite.http, "a layer of the first days", "first")?;
    let copy = |registry: &Registry, from: &str, to: &str| -> Result<String> {
        let command = registry.command(stage, "db").arg("copy");
        let outcome = command.args(["--from", from, "--to", to]).outcome()?;
        let said = outcome.said();
        ensure!(outcome.code() == Some(0), "{said}");
        Ok(said)
    };
    let store = stage.path("store").to_string_lossy().into_owned();
    let refused = sqlite.command(stage, "db").args(["copy", "--to", &database.url]).fail()?;
    ensure!(refused.contains("another server is using"), "{refused}");
    sqlite.stop()?;
    let said = copy(&sqlite, &store, &database.url)?;
    ensure!(said.contains("found every one of them the same"), "{said}");

    let mut postgres = stage.start_registry("store", &database.setup())?;
    ensure!(postgres.http.digest_of(REPOSITORY, "first")? == first, "another image");
    postgres.http.read_whole(REPOSITORY, "first")?;
    let second = push(&postgres.http, "a layer of later days", "second")?;
    let refused = sqlite.command(stage, "garbage-collect").fail()?;
    ensure!(refused.contains("another server is using the data folder"), "{refused}");
    postgres.stop()?;
    postgres.check(stage)?;
    let again = postgres.command(stage, "db").args(["copy", "--from", &store]).fail()?;
    ensure!(again.contains("in use"), "{again}");

    std::fs::rename(stage.path("store/orlop/metadata.sqlite"), stage.path("old.sqlite"))?;
    copy(&postgres, &database.url, &store)?;
    sqlite.restart(stage)?;
    for (tag, digest) in [("first", first), ("second", second)] {
        ensure!(sqlite.http.digest_of(REPOSITORY, tag)? == digest, "{tag} is another image");
        sqlite.http.read_whole(REPOSITORY, tag)?;
    }
    push(&sqlite.http, "a layer of the last days", "third")?;
    sqlite.stop()?;
    sqlite.check(stage)
}

fn away(stage: &Stage) -> Result<()> {
    let mut database = Database::start(stage)?;
    let mut registry = stage.start_registry("store", &database.setup())?;
    push(&registry.http, "a layer", "v1")?;
    database.process.signal(Signal::INT)?;
    database.process.stop(START_LIMIT)?;
    let answer = registry.http.get(&format!("/v2/{REPOSITORY}/manifests/v1"))?.expect(503)?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(body.contains("\"UNAVAILABLE\"") && !body.contains("postgres"), "{body}");
    ensure!(!registry.log().contains("w@rd"), "the password is in the log");
    database.process = Database::run(stage, &database.data, database.port)?;
    wait_until(START_LIMIT, || registry.http.get_manifest(REPOSITORY, "v1")?.expect(200))?;
    registry.stop()?;
    registry.check(stage)
}

/// Images one after another, as a client does that tries again what the registry could not do.
/// Their tags and digests.
fn push_many(http: &Http, name: &str) -> Result<Vec<(String, String)>> {
    let mut pushed = Vec::new();
    for number in 0..60 {
        let tag = format!("v{number}-{}", name.replace(':', "-"));
        let digest = wait_until(START_LIMIT, || push(http, &tag, &tag))?;
        pushed.push((tag, digest));
    }
    Ok(pushed)
}

fn push(http: &Http, layer: &str, tag: &str) -> Result<String> {
    http.push_image(REPOSITORY, tag, &pseudo_random(layer, 100_000))
}

/// A PostgreSQL server of the scenario's own.
pub(crate) struct Database {
    process: Daemon,
    data: PathBuf,
    port: u16,
    url: String,
}

impl Database {
    pub(crate) fn start(stage: &Stage) -> Result<Self> {
        let data = initialise(stage)?;
        let port = free_port()?;
        let process = Self::run(stage, &data, port)?;
        let url = format!("postgres://orlop:w%40rd@127.0.0.1:{port}/postgres");
        Ok(Self { process, data, port, url })
    }

    fn run(stage: &Stage, data: &Path, port: u16) -> Result<Daemon> {
        let line = command_line(data, "127.0.0.1", port)?;
        let process = stage.daemon("postgres", "env", |command| {
            command.args(line);
        })?;
        let port = port.to_string();
        wait_until(START_LIMIT, || {
            client(stage, "pg_isready")?.args(["-h", "127.0.0.1", "-p", &port]).succeed()
        })?;
        Ok(process)
    }

    /// `INT` is a fast shutdown, `QUIT` an immediate one, which is a crash.
    fn restart(&mut self, stage: &Stage, mode: Signal) -> Result<()> {
        self.process.signal(mode)?;
        wait_until(START_LIMIT, || {
            let ended = self.process.is_running().is_err();
            ensure!(ended, "PostgreSQL does not stop");
            Ok(())
        })?;
        self.process = Self::run(stage, &self.data, self.port)?;
        Ok(())
    }

    pub(crate) fn setup(&self) -> Setup<'static> {
        Setup {
            environment: vec![
                ("REGISTRY_DATABASE_URL", self.url.clone()),
                ("REGISTRY_HTTP_SECRET", "shared by both".to_owned()),
            ],
            ..Setup::default()
        }
    }
}

/// A new data folder, for whoever is called `orlop`.
pub(crate) fn initialise(stage: &Stage) -> Result<PathBuf> {
    // Somebody else is to find the way.
    std::fs::set_permissions(stage.path(""), std::fs::Permissions::from_mode(0o711))?;
    let data = stage.folder("postgres")?;
    chown(&data, Some(NOBODY), Some(NOBODY))?;
    let arguments = ["--auth=trust", "--no-sync", "--username=orlop", "--pgdata"];
    client(stage, "initdb")?.args(arguments).arg(&data).succeed()?;
    Ok(data)
}

/// The server's program, and what it needs to listen there.
pub(crate) fn command_line(data: &Path, address: &str, port: u16) -> Result<Vec<String>> {
    let mut line = as_nobody("postgres")?;
    let settings = [
        format!("listen_addresses={address}"),
        format!("port={port}"),
        "unix_socket_directories=".to_owned(),
    ];
    line.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
    line.extend(["-D".to_owned(), data.to_string_lossy().into_owned()]);
    Ok(line)
}

pub(crate) fn client<'a>(stage: &'a Stage, name: &str) -> Result<Client<'a>> {
    Ok(stage.client("env").args(as_nobody(name)?))
}

/// One of its programs, as a user who may run it.
fn as_nobody(name: &str) -> Result<Vec<String>> {
    let nobody = NOBODY.to_string();
    let switch = ["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--"];
    let program = program(name)?.to_string_lossy().into_owned();
    Ok(switch.into_iter().map(str::to_owned).chain([program]).collect())
}

/// Where Debian keeps the newest server's programs.
fn program(name: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is missing")?;
    let newest = versions.filter_map(|version| Some(version.ok()?.path())).max();
    Ok(newest.context("PostgreSQL is missing")?.join("bin").join(name))
}
