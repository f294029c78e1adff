//! `OpenStack` Swift with `TempAuth`, on free ports of this machine, for as long as a test needs it.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::server::{Server, free_ports};

pub(crate) const USER: &str = "test:tester";
pub(crate) const PASSWORD: &str = "testing-it";
/// May read what it is let read, and nothing else.
pub(crate) const OTHER_USER: &str = "test:other";

/// The rings, which say that all is on one device.
const RINGS: &str = r#"
import sys
from swift.common.ring import RingBuilder
folder = sys.argv[1]
for name, port in zip(("account", "container", "object"), sys.argv[2:]):
    ring = RingBuilder(4, 1, 0)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "sda",
                  "weight": 1.0, "replication_ip": "127.0.0.1", "replication_port": int(port)})
    ring.rebalance()
    ring.get_ring().save(f"{folder}/{name}.ring.gz")
"#;

/// What the proxy's pipeline consists of, before it ends in the proxy itself.
const FILTERS: [&str; 10] = [
    "catch_errors",
    "healthcheck",
    "cache",
    "listing_formats",
    "bulk",
    "tempurl",
    "tempauth",
    "copy",
    "slo",
    "dlo",
];

/// The servers, which end with this.
pub(crate) struct Swift {
    memcached: Option<Server>,
    _servers: [Server; 4],
    ports: [u16; 5],
    folder: tempfile::TempDir,
}

impl Swift {
    /// Starts the servers, with an account that has no container.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports();
        let [memcached, account, container, object, proxy] = ports;
        write(folder.path(), &ports);
        // Not any other: this is the one for which Debian installs Swift.
        let rings = Command::new("/usr/bin/python3")
            .args(["-c", RINGS])
            .arg(folder.path())
            .args([account, container, object].map(|port| port.to_string()))
            .status();
        assert!(rings.unwrap().success(), "rings");
        let memcached = Some(start_memcached(folder.path(), memcached));
        let servers =
            [("account", account), ("container", container), ("object", object), ("proxy", proxy)];
        let mut servers = servers.map(|(name, port)| {
            let config = folder.path().join(format!("{name}.conf"));
            let program = format!("swift-{name}-server");
            (Server::start(&program, folder.path(), |command| command.arg(config)), port)
        });
        for (server, port) in &mut servers {
            server.wait_until(|| listens(*port));
        }
        let servers = servers.map(|(server, _)| server);
        Self { memcached, _servers: servers, ports, folder }
    }

    /// Where one logs in.
    pub(crate) fn auth_url(&self) -> String {
        let [.., proxy] = self.ports;
        format!("http://127.0.0.1:{proxy}/auth/v1.0")
    }

    /// Makes all tokens void.
    pub(crate) fn forget_tokens(&mut self) {
        // The one before must have left the port.
        drop(self.memcached.take());
        self.memcached = Some(start_memcached(self.folder.path(), self.ports[0]));
    }

    /// How many objects there are on the disk, manifests and segments among them.
    pub(crate) fn objects(&self) -> usize {
        count_data(&self.folder.path().join("devices/sda/objects"))
    }
}

/// Writes what the servers are told.
fn write(folder: &Path, ports: &[u16; 5]) {
    let [memcached, account, container, object, proxy] = ports;
    let devices = folder.join("devices");
    fs::create_dir_all(devices.join("sda")).unwrap();
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap();
    let common = format!(
        "[DEFAULT]\nbind_ip = 127.0.0.1\nuser = {}\nswift_dir = {}\nworkers = 0\n\
         devices = {}\nmount_check = false\n",
        user.trim(),
        folder.display(),
        devices.display(),
    );
    let hash = "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n";
    fs::write(folder.join("swift.conf"), hash).unwrap();
    for (name, port) in [("account", account), ("container", container), ("object", object)] {
        let config = format!(
            "{common}bind_port = {port}\n[pipeline:main]\npipeline = {name}-server\n\
             [app:{name}-server]\nuse = egg:swift#{name}\n"
        );
        fs::write(folder.join(format!("{name}.conf")), config).unwrap();
    }
    let mut config = format!(
        "{common}bind_port = {proxy}\n[pipeline:main]\npipeline = {} proxy-server\n\
         [app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n",
        FILTERS.join(" ")
    );
    for name in FILTERS {
        let egg = if name == "cache" { "memcache" } else { name };
        write!(config, "[filter:{name}]\nuse = egg:swift#{egg}\n").unwrap();
        match name {
            "cache" => writeln!(config, "memcache_servers = 127.0.0.1:{memcached}").unwrap(),
            "tempauth" => {
                writeln!(config, "user_test_tester = {PASSWORD} .admin").unwrap();
                writeln!(config, "user_test_other = {PASSWORD}").unwrap();
            }
            _ => (),
        }
    }
    fs::write(folder.join("proxy.conf"), config).unwrap();
}

fn start_memcached(folder: &Path, port: u16) -> Server {
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let mut memcached = Server::start("memcached", folder, |command| {
        command
            .args(["-l", "127.0.0.1", "-m", "16", "-p", &port.to_string()])
            .args(["-u", String::from_utf8(user).unwrap().trim()])
    });
    memcached.wait_until(|| listens(port));
    memcached
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn count_data(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let count = |entry: fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() {
            count_data(&path)
        } else {
            usize::from(path.extension().is_some_and(|ending| ending == "data"))
        }
    };
    entries.filter_map(Result::ok).map(count).sum()
}
