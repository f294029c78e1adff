//! A PostgreSQL server for tests. It must be installed.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use metadata::Metadata;

/// `nobody` on Debian. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// A PostgreSQL server in a temporary folder, which goes with it.
pub struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let root = fs::metadata(folder.path())
            .map(|folder| std::os::unix::fs::MetadataExt::uid(&folder))
            .unwrap()
            == 0;
        if root {
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let programs = programs();
        let initialised = command(&programs.join("initdb"), root)
            .args(["--auth=trust", "--no-sync", "--username=orlop", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(initialised.status.success(), "{}", String::from_utf8_lossy(&initialised.stderr));

        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = command(&programs.join("postgres"), root)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", &format!("port={port}"), "-D"])
            .arg(&data)
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, port, folder }
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://orlop@127.0.0.1:{}/{database}", self.port)
    }

    pub async fn connect(&self) -> Metadata {
        let url = self.url("postgres");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match Metadata::open_postgres(&url).await {
                Ok(metadata) => return metadata,
                Err(error) if Instant::now() > deadline => {
                    let log = fs::read_to_string(self.folder.path().join("log"));
                    panic!("{error}\n{}", log.unwrap_or_default());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(program: &Path, root: bool) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Where Debian keeps the newest server's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed");
    let newest = versions.map(|version| version.unwrap().path()).max();
    newest.expect("PostgreSQL is not installed").join("bin")
}
