//! Other ways in than a TCP port of one's own: unix sockets, sockets from
//! systemd, HTTP/2 without TLS.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::image;
use crate::ports::free_port;
use crate::registry::Setup;
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("socket: a unix socket", 60, unix),
    Scenario::new("socket: activated by systemd", 60, activated),
    Scenario::new("socket: HTTP/2 without TLS", 60, h2c),
];

fn unix(stage: &Stage) -> Result<()> {
    let socket = stage.path("orlop.sock");
    let setup = Setup {
        environment: vec![
            ("REGISTRY_HTTP_NET", "unix".to_owned()),
            ("REGISTRY_HTTP_ADDR", socket.to_string_lossy().into_owned()),
        ],
        is_not_plain: true,
        ..Setup::default()
    };
    let curl = |path: &str| {
        let url = format!("http://registry.test{path}");
        stage.curl().arg("--unix-socket").arg(&socket).arg(url)
    };
    stage.with_registry_set_up(&setup, |registry| {
        curl("/v2/").reply(200)?;
        let opened = curl("/v2/team/app/blobs/uploads/").args(["-X", "POST"]).reply(202)?;
        let location = opened.header("location")?;
        ensure!(location.starts_with("http://registry.test/v2/team/app/"), "{opened:?}");
        let mode = std::fs::metadata(&socket)?.permissions().mode();
        ensure!(mode & 0o777 == 0o666, "the socket has mode {mode:o}");
        // What a killed registry leaves is in nobody's way.
        registry.kill()?;
        ensure!(socket.exists(), "the socket is gone with the process");
        registry.restart(stage)?;
        curl("/v2/").reply(200)?;
        Ok(())
    })
}

/// systemd holds the port and starts the registry at the first connection.
fn activated(stage: &Stage) -> Result<()> {
    let host = format!("127.0.0.1:{}", free_port()?);
    let store = stage.folder("store")?;
    let (layout, digest) = image::runnable(stage, "activated")?;
    let mut daemon =
        stage.daemon("systemd-socket-activate", "systemd-socket-activate", |command| {
            command
                .arg(format!("--listen={host}"))
                .arg(format!(
                    "--setenv=REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY={}",
                    store.display()
                ))
                // Not this address, which nobody could bind.
                .arg("--setenv=REGISTRY_HTTP_ADDR=192.0.2.1:5000")
                .arg(stage.binary())
                .arg("serve");
        })?;
    wait_until(Duration::from_secs(20), || {
        daemon.is_running()?;
        stage.curl().arg(format!("http://{host}/v2/")).reply(200)
    })?;
    let name = format!("{host}/team/app:v1");
    let crane = |arguments: &[&str]| stage.client("crane").arg("--insecure").args(arguments);
    crane(&["push"]).arg(&layout.folder).arg(&name).succeed()?;
    ensure!(crane(&["digest", &name]).text()? == digest);
    let status = daemon.stop(Duration::from_secs(20))?;
    ensure!(status.success(), "it ended with {status}{}", daemon.log_tail());
    Ok(())
}

fn h2c(stage: &Stage) -> Result<()> {
    let configuration = "version: 0.1\nhttp: {h2c: {enabled: true}}\n";
    stage.with_registry_set_up(&Setup::configuration(configuration), |registry| {
        let url = format!("http://{}/v2/team/app/blobs/uploads/", registry.host);
        for (version, expected) in [("--http2-prior-knowledge", "2"), ("--http1.1", "1.1")] {
            let opened = stage.curl().args([version, "-X", "POST", &url]).reply(202)?;
            ensure!(opened.version == expected, "{version}: {opened:?}");
            ensure!(opened.header("location")?.starts_with(&url), "{opened:?}");
        }
        let (layout, digest) = image::runnable(stage, "h2c")?;
        let name = registry.name("team/app:v1");
        let crane = |arguments: &[&str]| stage.client("crane").arg("--insecure").args(arguments);
        crane(&["push"]).arg(&layout.folder).arg(&name).succeed()?;
        ensure!(crane(&["digest", &name]).text()? == digest);
        Ok(())
    })?;
    stage.with_registry(|registry| {
        let url = format!("http://{}/v2/", registry.host);
        stage.curl().args(["--http2-prior-knowledge", &url]).fail()?;
        Ok(())
    })
}
