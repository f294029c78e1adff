//! PostgreSQL passes the suite. Starts a server of its own, which must be installed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use metadata::Metadata;
use tokio_postgres::NoTls;

/// `nobody` on Debian. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_suite() {
    let server = Server::start();
    let metadata = server.connect().await;
    metadata::conformance::run(&metadata).await.unwrap();
    // A second start finds the schema that the first one made.
    server.connect().await.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_once_make_one_schema() {
    let server = Server::start();
    server.connect().await;
    let config = server.url("postgres");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("CREATE DATABASE fresh").await.unwrap();
    let config = server.url("fresh");
    let opening = (0..8).map(|_| {
        let config = config.clone();
        tokio::spawn(async move { Metadata::open_postgres(&config).await })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap().ping().await.unwrap();
    }
}

struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
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

    fn url(&self, database: &str) -> String {
        format!("postgres://orlop@127.0.0.1:{}/{database}", self.port)
    }

    async fn connect(&self) -> Metadata {
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
