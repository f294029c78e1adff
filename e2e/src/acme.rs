//! Certificates by themselves, from Pebble: Let's Encrypt's own test server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::certificates::Authority;
use crate::ports::free_port;
use crate::process::Daemon;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("acme: a certificate, used again after a restart", 120, issued)];

const ISSUE_LIMIT: Duration = Duration::from_mins(1);

fn issued(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let authority = Authority::new(stage, "authority")?;
    let mut pebble = Pebble::start(stage, &authority, port)?;
    let cache = stage.path("certificates");
    let configuration = format!(
        "version: 0.1\nhttp:\n  tls:\n    letsencrypt:\n      cachefile: {}\n      \
         email: admin@example.org\n      hosts: [orlop.test, second.test]\n      \
         directoryurl: {}\n",
        cache.display(),
        pebble.directory
    );
    let setup = Setup {
        // The authority asks back on the port that it was told.
        environment: vec![
            ("REGISTRY_HTTP_ADDR", format!("127.0.0.1:{port}")),
            ("SSL_CERT_FILE", authority.file().to_string_lossy().into_owned()),
        ],
        is_not_plain: true,
        ..Setup::configuration(&configuration)
    };
    let ask = |root: &Path, name: &str| {
        stage
            .curl()
            .arg("--cacert")
            .arg(root)
            .args(["--resolve", &format!("{name}:{port}:127.0.0.1")])
            .arg(format!("https://{name}:{port}/v2/"))
    };
    let mut registry = stage.start_registry("store", &setup)?;
    let played = play(stage, &mut registry, &mut pebble, &cache, &ask);
    played.map_err(|error| error.context(registry.log()))?;
    registry.stop()?;
    registry.check(stage)
}

fn play<'a>(
    stage: &Stage,
    registry: &mut Registry,
    pebble: &mut Pebble<'_>,
    cache: &Path,
    ask: &impl Fn(&Path, &str) -> crate::process::Client<'a>,
) -> Result<()> {
    let root = pebble.root()?;
    for name in ["orlop.test", "second.test"] {
        wait_until(ISSUE_LIMIT, || ask(&root, name).reply(200))?;
    }
    ask(&root, "other.test").fail()?;

    // Without the authority there is only what was kept.
    pebble.stop()?;
    let kept = std::fs::read(cache.join("orlop.test")).context("no certificate is kept")?;
    ensure!(kept.starts_with(b"-----BEGIN"), "what is kept is not PEM");
    registry.stop()?;
    registry.restart(stage)?;
    for name in ["orlop.test", "second.test"] {
        ask(&root, name).reply(200)?;
    }
    Ok(())
}

/// The authority, and the name server that it asks.
struct Pebble<'a> {
    stage: &'a Stage,
    daemon: Daemon,
    names: Daemon,
    /// Where its own certificate comes from.
    trusted: PathBuf,
    directory: String,
    management: String,
}

impl<'a> Pebble<'a> {
    /// It verifies names at this port of this machine.
    fn start(stage: &'a Stage, authority: &Authority<'_>, verified: u16) -> Result<Self> {
        let server = authority.server("pebble")?;
        let (port, management) = (free_port()?, free_port()?);
        let configuration = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": server.certificate,
            "privateKey": server.key,
            "httpPort": free_port()?,
            "tlsPort": verified,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let file = stage.file("pebble.json", configuration.to_string())?;
        let resolver = format!("127.0.0.1:{}", free_port()?);
        let control = format!("127.0.0.1:{}", free_port()?);
        let names = stage.daemon("pebble-challtestsrv", "pebble-challtestsrv", |command| {
            command
                .args(["-dns01", &resolver, "-management", &control])
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        })?;
        let daemon = stage.daemon("pebble", "pebble", |command| {
            command
                .arg("-config")
                .arg(&file)
                .args(["-dnsserver", &resolver, "-strict"])
                // Some of its answers are errors that a client must try again.
                .env("PEBBLE_WFE_NONCEREJECT", "15")
                .env("PEBBLE_VA_NOSLEEP", "1");
        })?;
        let mut pebble = Self {
            stage,
            daemon,
            names,
            trusted: authority.file().to_owned(),
            directory: format!("https://localhost:{port}/dir"),
            management: format!("https://localhost:{management}"),
        };
        wait_until(Duration::from_secs(20), || {
            pebble.daemon.is_running()?;
            pebble.names.is_running()?;
            pebble.get(&pebble.directory)
        })?;
        Ok(pebble)
    }

    /// The certificate that issued ones lead to: another one at every start.
    fn root(&self) -> Result<PathBuf> {
        self.stage.file("root.pem", self.get(&format!("{}/roots/0", self.management))?)
    }

    fn get(&self, url: &str) -> Result<String> {
        self.stage
            .client("curl")
            .args(["--silent", "--show-error", "--fail", "--cacert"])
            .arg(&self.trusted)
            .arg(url)
            .text()
    }

    fn stop(&mut self) -> Result<()> {
        for daemon in [&mut self.daemon, &mut self.names] {
            daemon.stop(Duration::from_secs(10))?;
        }
        Ok(())
    }
}
