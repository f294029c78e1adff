//! A Redis in front of the object store: what one server has read, the next one finds there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::certificates::Authority;
use crate::image::media_type;
use crate::ports::free_port;
use crate::process::Daemon;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage, wait_until};

/// Only with an object store: nobody asks Redis for what is on the own disk.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("redis: one server, which goes away and comes back", 90, one),
    Scenario::new("redis: TLS and a password, as registry:2 writes it", 90, tls),
    Scenario::new("redis: sentinels and a new master", 90, sentinels),
    Scenario::new("redis: a cluster", 90, cluster),
];

const REPOSITORY: &str = "team/cached";

const LIMIT: Duration = Duration::from_secs(20);

/// Each can be asked of Redis once, and is in the registry's memory then.
const MANIFESTS: usize = 60;

fn one(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let mut redis = Some(Server::start(stage, "redis", port, &[])?);
    let configuration = format!("version: 0.1\nredis: {{addrs: ['127.0.0.1:{port}']}}\n");
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        keeps(stage, registry, "before")?;

        // Nobody notices that it stands still, or that it is gone.
        registry.stop()?;
        registry.restart(stage)?;
        if let Some(redis) = &redis {
            redis.process.signal(Signal::STOP)?;
            pulls(registry, "before", 0..MANIFESTS / 2)?;
            redis.process.signal(Signal::CONT)?;
        }
        drop(redis.take());
        pulls(registry, "before", MANIFESTS / 2..MANIFESTS)?;
        push(registry, "without")?;
        pulls(registry, "without", 0..MANIFESTS)?;
        wait_until(LIMIT, || {
            ensure!(registry.log().contains("Redis is away"), "nothing was said");
            Ok(())
        })?;

        let again = Server::start(stage, "redis", port, &[])?;
        wait_until(LIMIT, || {
            push(registry, "after")?;
            ensure!(registry.log().contains("Redis is back"), "it is still away");
            Ok(())
        })?;
        keeps(stage, registry, "after")?;
        drop(again);
        Ok(())
    })
}

fn tls(stage: &Stage) -> Result<()> {
    let authority = Authority::new(stage, "authority")?;
    let (server, client) = (authority.server("redis")?, authority.client("orlop")?);
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let port = free_port()?;
    let _redis = Server::start(
        stage,
        "redis",
        0,
        &[
            &format!("--tls-port {port}"),
            &format!("--tls-cert-file {}", path(&server.certificate)),
            &format!("--tls-key-file {}", path(&server.key)),
            &format!("--tls-ca-cert-file {}", path(authority.file())),
            "--requirepass hunter2",
        ],
    )?;
    let configuration = format!(
        "version: 0.1
redis:
  addr: 127.0.0.1:{port}
  password: hunter2
  pool: {{maxidle: 16, maxactive: 64, idletimeout: 300s}}
  tls: {{certificate: {}, key: {}, clientcas: [{}]}}
",
        path(&client.certificate),
        path(&client.key),
        path(authority.file()),
    );
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        keeps(stage, registry, "secret")?;
        ensure!(!registry.log().contains("hunter2"), "the password is in the log");
        Ok(())
    })
}

fn sentinels(stage: &Stage) -> Result<()> {
    let (first, second, watcher) = (free_port()?, free_port()?, free_port()?);
    let mut master = Some(Server::start(stage, "first", first, &[])?);
    let follows = format!("--replicaof 127.0.0.1 {first}");
    let _replica = Server::start(stage, "second", second, &[&follows])?;
    let text = format!(
        "port {watcher}
bind 127.0.0.1
sentinel monitor cache 127.0.0.1 {first} 1
sentinel down-after-milliseconds cache 500
sentinel failover-timeout cache 3000
"
    );
    let file = stage.file("sentinel.conf", text)?;
    let _sentinel = stage.daemon("sentinel", "redis-server", |command| {
        command.arg(&file).arg("--sentinel");
    })?;
    wait_until(LIMIT, || {
        let seen = ask(stage, watcher, &["sentinel", "replicas", "cache"])?;
        ensure!(seen.contains(&second.to_string()), "the sentinel knows of no replica: {seen}");
        Ok(())
    })?;
    let configuration =
        format!("version: 0.1\nredis: {{addrs: ['127.0.0.1:{watcher}'], mastername: cache}}\n");
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        keeps(stage, registry, "first")?;
        drop(master.take());
        wait_until(LIMIT, || {
            // What is written leads to the new one, once there is one.
            push(registry, "second")?;
            let kept = ask(stage, second, &["set", "probe", "1"])?;
            ensure!(kept.contains("OK"), "the other is no master yet: {kept}");
            Ok(())
        })?;
        keeps(stage, registry, "second")
    })
}

fn cluster(stage: &Stage) -> Result<()> {
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for name in ["a", "b", "c"] {
        let (port, bus) = (free_port()?, free_port()?);
        let bus = format!("--cluster-port {bus}");
        servers.push(Server::start(stage, name, port, &["--cluster-enabled yes", &bus])?);
        addresses.push(format!("127.0.0.1:{port}"));
    }
    let create = stage.client("redis-cli").args(["--cluster", "create"]);
    create.args(&addresses).arg("--cluster-yes").succeed()?;
    let configuration = format!("version: 0.1\nredis: {{addrs: {addresses:?}}}\n");
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        keeps(stage, registry, "spread")?;
        for server in &servers {
            let keys = ask(stage, server.port, &["dbsize"])?;
            ensure!(keys.trim() != "0", "one of the three has nothing");
        }
        Ok(())
    })
}

/// Pushes manifests that all differ.
fn push(registry: &Registry, name: &str) -> Result<()> {
    let config = registry.http.push_blob(REPOSITORY, b"{}")?;
    for number in 0..MANIFESTS {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": {"mediaType": media_type::OCI_CONFIG, "digest": config, "size": 2},
            "layers": [],
            "annotations": {"name": name, "number": number.to_string()},
        });
        let (tag, bytes) = (format!("{name}-{number}"), manifest.to_string().into_bytes());
        let pushed =
            registry.http.put_manifest(REPOSITORY, &tag, media_type::OCI_MANIFEST, &bytes)?;
        pushed.expect(201)?;
    }
    Ok(())
}

fn pulls(registry: &Registry, name: &str, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        registry.http.digest_of(REPOSITORY, &format!("{name}-{number}"))?;
    }
    Ok(())
}

/// What is pushed comes into Redis. On a busy machine it takes a while to be connected, and what is
/// pushed and pulled meanwhile goes past it.
fn keeps(stage: &Stage, registry: &mut Registry, name: &str) -> Result<()> {
    wait_until(LIMIT, || {
        push(registry, name)?;
        finds(stage, registry, name)
    })
}

/// A server that has just started has nothing in memory, and finds in Redis what was pushed.
fn finds(stage: &Stage, registry: &mut Registry, name: &str) -> Result<()> {
    registry.stop()?;
    registry.restart(stage)?;
    // It asks Redis for each only once; the first may come before it is connected.
    let mut numbers = 0..MANIFESTS;
    wait_until(LIMIT, || {
        let Some(number) = numbers.next() else { return Ok(Err("nothing was found in Redis")) };
        pulls(registry, name, number..number + 1)?;
        ensure!(hits(registry)? > 0, "nothing was found in Redis yet");
        Ok(Ok(()))
    })?
    .map_err(|error| anyhow::anyhow!("{error}: {}", registry.log()))
}

fn hits(registry: &Registry) -> Result<u64> {
    let metrics = registry.metrics()?;
    let line = "orlop_shared_cache_reads_total{result=\"hit\"} ";
    let count = metrics.lines().find_map(|found| found.strip_prefix(line));
    Ok(count.map(str::parse).transpose()?.unwrap_or(0))
}

fn ask(stage: &Stage, port: u16, command: &[&str]) -> Result<String> {
    stage.client("redis-cli").args(["-p", &port.to_string()]).args(command).text()
}

/// A Redis that keeps nothing on disk.
struct Server {
    process: Daemon,
    port: u16,
}

impl Server {
    /// Each option may have values, after spaces.
    fn start(stage: &Stage, name: &'static str, port: u16, options: &[&str]) -> Result<Self> {
        let folder = stage.folder(name)?;
        let process = stage.daemon(name, "redis-server", |command| {
            command
                .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"])
                .arg(&folder)
                .args(options.iter().flat_map(|option| option.split(' ')));
        })?;
        let server = Self { process, port };
        wait_until(LIMIT, || {
            let log = server.process.log();
            ensure!(log.contains("Ready to accept connections"), "{log}");
            Ok(())
        })
        .context("Redis does not start")?;
        Ok(server)
    }
}
