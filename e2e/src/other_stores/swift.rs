//! `OpenStack` Swift with `TempAuth`: its proxy, and a server each for accounts, containers and
//! objects.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::Path;

use anyhow::Result;

use super::{BUCKET, OtherStore, START_LIMIT};
use crate::ports::free_port;
use crate::scenario::{Stage, wait_until};

const USER: &str = "test:tester";
const PASSWORD: &str = "testing-it";

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

/// The servers that keep something.
const KEEPERS: [&str; 3] = ["account", "container", "object"];

impl OtherStore {
    /// All on this machine, with an empty container.
    pub(crate) fn swift(stage: &Stage) -> Result<Self> {
        let folder = stage.folder("swift")?;
        let [account, container, object] = [free_port()?, free_port()?, free_port()?];
        let (memcached, proxy) = (free_port()?, free_port()?);
        let user = stage.client("id").arg("-un").text()?;
        let write = |name: &str, text: &str| stage.file(&format!("swift/{name}"), text);
        write(
            "swift.conf",
            "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n",
        )?;
        let common = common(stage, &folder, &user)?;
        for (name, port) in KEEPERS.into_iter().zip([account, container, object]) {
            write(&format!("{name}.conf"), &keeper(&common, name, port))?;
        }
        write("proxy.conf", &proxy_config(&common, proxy, memcached)?)?;
        // Not any other Python: this is the one for which Debian installs Swift.
        stage
            .client("/usr/bin/python3")
            .args(["-c", RINGS])
            .arg(&folder)
            .args([account, container, object].map(|port| port.to_string()))
            .succeed()?;

        let mut processes = vec![stage.daemon("memcached", "memcached", |command| {
            command.args(["-l", "127.0.0.1", "-m", "16", "-u", &user]);
            command.args(["-p", &memcached.to_string()]);
        })?];
        for name in KEEPERS.into_iter().chain(["proxy"]) {
            let config = folder.join(format!("{name}.conf"));
            processes.push(stage.daemon(name, format!("swift-{name}-server"), |command| {
                command.arg(config);
            })?);
        }
        for port in [memcached, account, container, object, proxy] {
            wait_until(START_LIMIT, || Ok(TcpStream::connect(("127.0.0.1", port))?))?;
        }
        let auth = format!("http://127.0.0.1:{proxy}/auth/v1.0");
        wait_until(START_LIMIT, || make_container(stage, &auth))?;
        Ok(Self {
            _processes: processes,
            environment: vec![
                ("REGISTRY_STORAGE_SWIFT_AUTHURL", auth),
                ("REGISTRY_STORAGE_SWIFT_USERNAME", USER.to_owned()),
                ("REGISTRY_STORAGE_SWIFT_PASSWORD", PASSWORD.to_owned()),
                ("REGISTRY_STORAGE_SWIFT_CONTAINER", BUCKET.to_owned()),
            ],
            folder: "REGISTRY_STORAGE_SWIFT_PREFIX",
        })
    }
}

/// What all servers are told.
fn common(stage: &Stage, folder: &Path, user: &str) -> Result<String> {
    let devices = stage.folder("swift/devices")?;
    stage.folder("swift/devices/sda")?;
    Ok(format!(
        "[DEFAULT]\nbind_ip = 127.0.0.1\nuser = {user}\nswift_dir = {}\nworkers = 0\n\
         devices = {}\nmount_check = false\n",
        folder.display(),
        devices.display(),
    ))
}

fn keeper(common: &str, name: &str, port: u16) -> String {
    format!(
        "{common}bind_port = {port}\n[pipeline:main]\npipeline = {name}-server\n\
         [app:{name}-server]\nuse = egg:swift#{name}\n"
    )
}

fn proxy_config(common: &str, port: u16, memcached: u16) -> Result<String> {
    let mut config = format!(
        "{common}bind_port = {port}\n[pipeline:main]\npipeline = {} proxy-server\n\
         [app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n",
        FILTERS.join(" ")
    );
    for name in FILTERS {
        let egg = if name == "cache" { "memcache" } else { name };
        write!(config, "[filter:{name}]\nuse = egg:swift#{egg}\n")?;
        match name {
            "cache" => writeln!(config, "memcache_servers = 127.0.0.1:{memcached}")?,
            "tempauth" => writeln!(config, "user_test_tester = {PASSWORD} .admin")?,
            _ => {}
        }
    }
    Ok(config)
}

fn make_container(stage: &Stage, auth: &str) -> Result<()> {
    let user = [format!("X-Auth-User: {USER}"), format!("X-Auth-Key: {PASSWORD}")];
    let [name, key] = &user;
    let login = stage.curl().args(["--header", name, "--header", key, auth]).reply(200)?;
    let token = format!("X-Auth-Token: {}", login.header("x-auth-token")?);
    let url = format!("{}/{BUCKET}", login.header("x-storage-url")?);
    stage.curl().args(["--request", "PUT", "--header", &token, &url]).reply(201)?;
    Ok(())
}
