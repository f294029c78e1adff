//! A PostgreSQL server of the run's own.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{Database, run, wait_until};
use crate::daemon::{Daemon, free_addresses};

/// `nobody` on Debian. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;
/// A server has up to 17, and all servers of a run are there at once.
const MOST_CONNECTIONS: u32 = 400;

pub(super) struct Postgres {
    programs: PathBuf,
    port: u16,
    daemon: Daemon,
}

impl Postgres {
    /// With the settings that it has when nobody sets any, but for how many may connect.
    pub(super) fn start(programs: Option<&Path>, folder: &Path) -> Result<Self> {
        let programs = programs.map_or_else(newest, |programs| Ok(programs.to_owned()))?;
        let data = folder.join("postgres");
        fs::create_dir(&data)?;
        if rustix::process::geteuid().is_root() {
            // Somebody else is to find the way.
            fs::set_permissions(folder, Permissions::from_mode(0o711))?;
            chown(&data, Some(NOBODY), Some(NOBODY))?;
        }
        let initialise = ["--auth=trust", "--no-sync", "--username=orlop", "--pgdata"];
        run(command(&programs.join("initdb")).args(initialise).arg(&data))?;

        let [address] = free_addresses()?;
        let port = address.port();
        let log = File::create(folder.join("postgres.log"))?;
        let mut server = command(&programs.join("postgres"));
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        server.arg("-c").arg(format!("port={port}"));
        server.arg("-c").arg(format!("max_connections={MOST_CONNECTIONS}"));
        server.arg("-D").arg(&data).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // It waits for clients to go when it is asked to terminate.
        let daemon = Daemon::start(server)?.stopped_by(Signal::INT);
        let postgres = Self { programs, port, daemon };
        wait_until(|| run(&mut postgres.client("pg_isready")))?;
        Ok(postgres)
    }

    /// A new database.
    pub(super) fn create(&self, name: &str) -> Result<Database> {
        run(self.client("createdb").args(["--username=orlop", name]))?;
        let url = format!("postgres://orlop@127.0.0.1:{}/{name}", self.port);
        Ok(Database { url, process: self.daemon.id() })
    }

    fn client(&self, name: &str) -> Command {
        let mut client = command(&self.programs.join(name));
        client.arg("--host=127.0.0.1").arg(format!("--port={}", self.port));
        client
    }
}

/// A program, as somebody who is not root.
fn command(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let nobody = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--"]).arg(program);
    command
}

/// Where Debian keeps the newest server's programs.
fn newest() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("it is missing")?;
    let newest = versions.filter_map(|version| Some(version.ok()?.path())).max();
    Ok(newest.context("it is missing")?.join("bin"))
}
