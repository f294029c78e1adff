//! A PostgreSQL server for tests. It must be installed.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, dead_code)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use metadata::Metadata;

/// `nobody` on Debian. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// A PostgreSQL server in a temporary folder, which goes with it.
pub struct Server {
    process: Child,
    pub port: u16,
    pub folder: tempfile::TempDir,
    options: Vec<String>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these files, for some of which there are options.
    pub fn start_with(files: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        if is_root() {
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let initialised = command("initdb")
            .args(["--auth=trust", "--no-sync", "--username=orlop", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(initialised.status.success(), "{}", String::from_utf8_lossy(&initialised.stderr));
        let port = free_port();
        let mut options = vec![format!("port={port}")];
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            let path = path.display();
            match *name {
                "server.crt" => options.extend(["ssl=on".into(), format!("ssl_cert_file={path}")]),
                "server.key" => options.push(format!("ssl_key_file={path}")),
                "clients.crt" => options.push(format!("ssl_ca_file={path}")),
                _ => options.push(format!("hba_file={path}")),
            }
        }
        let process = run(folder.path(), &options);
        Self { process, port, folder, options }
    }

    /// A standby that follows this server.
    pub fn standby(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        if is_root() {
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let copied = command("pg_basebackup")
            .args(["--host=127.0.0.1", "--username=orlop", "--checkpoint=fast", "--no-sync"])
            .args(["--write-recovery-conf", &format!("--port={}", self.port), "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let port = free_port();
        let options = vec![format!("port={port}")];
        let process = run(folder.path(), &options);
        let standby = Self { process, port, folder, options };
        let deadline = Instant::now() + Duration::from_secs(20);
        let host = ["--host=127.0.0.1", &format!("--port={port}")];
        while !command("pg_isready").args(host).status().unwrap().success() {
            assert!(Instant::now() < deadline, "the standby does not start");
        }
        standby
    }

    /// Stops as `pg_ctl stop -m` does, and waits for its end.
    pub fn stop(&mut self, mode: &str) {
        let stopped = command("pg_ctl")
            .args(["stop", "-m", mode, "-D"])
            .arg(self.folder.path().join("data"))
            .status()
            .unwrap();
        assert!(stopped.success());
        self.process.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.process = run(self.folder.path(), &self.options);
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://orlop@127.0.0.1:{}/{database}", self.port)
    }

    /// Waits until the server has started.
    pub async fn connect(&self) -> Metadata {
        match Metadata::open_postgres(&self.url("postgres").parse().unwrap()).await {
            Ok(metadata) => metadata,
            Err(error) => {
                let log = fs::read_to_string(self.folder.path().join("log"));
                panic!("{error}\n{}", log.unwrap_or_default());
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

fn run(folder: &Path, options: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    command("postgres")
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(options.iter().flat_map(|option| ["-c", option]))
        .arg("-D")
        .arg(folder.join("data"))
        .stderr(log)
        .spawn()
        .unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A program of the server, as somebody that it runs for.
fn command(program: &str) -> Command {
    let mut command = Command::new(programs().join(program));
    command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
    if is_root() {
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

/// Below those that the kernel gives to clients, which could take it before the server has it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests run side by side in several processes, so each begins somewhere else.
    let first = u16::try_from(u64::from(std::process::id()) * 7_919 % 10_000).unwrap();
    let mut ports =
        std::iter::repeat_with(|| 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
