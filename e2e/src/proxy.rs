//! nginx and HAProxy in front, with the configurations of
//! `docs/reverse-proxy.md`: what users copy is what is tried here, with other
//! ports and paths.

mod failover;
mod front;

use anyhow::{Context as _, Result, ensure};

use self::failover::take_over;
use self::front::{CLAIMED, start_haproxy, start_nginx};
pub(crate) use self::front::{Front, nginx_command};
use crate::docker::Docker;
use crate::guide::{REVERSE_PROXY, replace};
use crate::ports::free_port;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("proxy: TLS at nginx", 120, tls),
    Scenario::new("proxy: below a path that the registry knows", 60, prefix),
    Scenario::new("proxy: below a path that nginx cuts off", 60, cut),
    Scenario::new("proxy: nginx as a load balancer", 120, nginx),
    Scenario::new("proxy: HAProxy as a load balancer", 120, haproxy),
    Scenario::new("proxy: a standby takes over behind nginx", 180, |stage| {
        take_over(stage, |stage, host, [first, second]| {
            let guide = block("nginx", "upstream registry")?;
            let addresses = [("10.0.0.11:5000", first), ("10.0.0.12:5000", second)];
            start_nginx(stage, host, &without_tls(&replace(&guide, &addresses)?, host)?)
        })
    }),
    Scenario::new("proxy: a standby takes over behind HAProxy", 180, |stage| {
        take_over(stage, |stage, host, [first, second]| {
            let text = block("haproxy", "frontend")?;
            let addresses = [("10.0.0.11:5000", first), ("10.0.0.12:5000", second)];
            let bind = format!("bind {host}");
            let tls = "bind :443 ssl crt /etc/haproxy/registry.pem alpn h2,http/1.1";
            let text = replace(&replace(&text, &addresses)?, &[(tls, &bind)])?;
            start_haproxy(stage, host, &text)
        })
    }),
];

fn tls(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    stage.with_registry(|registry| {
        let server = replace(&block("nginx", "server_name")?, &[(UPSTREAM, &registry.host)])?;
        let nginx = Front::nginx(stage, &server)?;
        let name = format!("{}/team/app:v1", nginx.host);
        docker.build(&name, 2)?;
        let pushed = docker.push(&name)?;
        docker.remove(&name)?;
        let pulled = docker.pull(&name)?;
        ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");
        nginx.copy_with_skopeo()?;
        nginx.look_at_urls("")?;

        nginx.claim_an_address()?;
        let log = registry.log();
        ensure!(!log.contains(CLAIMED), "a client's word counts in the log:\n{log}");
        Ok(())
    })
}

fn prefix(stage: &Stage) -> Result<()> {
    let configuration = format!("version: 0.1\n{}", block("yaml", "prefix:")?);
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let location = block("nginx", "it is handed on as it came")?;
        let nginx = Front::nginx(stage, &with_location(&location, registry)?)?;
        nginx.look_at_urls("/registry")
    })
}

fn cut(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let configuration = block("yaml", "  host:")?;
    let configuration = replace(&configuration, &[("www.example.com", &address)])?;
    let configuration = format!("version: 0.1\n{configuration}");
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let location = block("nginx", "it takes the place of")?;
        let nginx = Front::nginx_on(stage, port, &with_location(&location, registry)?)?;
        nginx.look_at_urls("/registry")
    })
}

fn nginx(stage: &Stage) -> Result<()> {
    behind_balancer(stage, |stage, [down, up]| {
        let (_, rest) = server_start()?;
        Front::nginx(stage, &balancing(&rest, down, up)?)
    })
}

fn haproxy(stage: &Stage) -> Result<()> {
    behind_balancer(stage, |stage, [down, up]| {
        let text = block("haproxy", "frontend")?;
        let addresses = [("10.0.0.11:5000", down), ("10.0.0.12:5000", up)];
        Front::haproxy(stage, &replace(&text, &addresses)?)
    })
}

/// One of the two servers is down.
fn behind_balancer(
    stage: &Stage,
    start: impl for<'a> FnOnce(&'a Stage, [&str; 2]) -> Result<Front<'a>>,
) -> Result<()> {
    let trusted = block("yaml", "trustedproxies")?;
    let configuration = replace(&trusted, &[("10.0.0.0/8", "127.0.0.0/8")])?;
    let configuration = format!("version: 0.1\n{configuration}");
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let down = format!("127.0.0.1:{}", free_port()?);
        let front = start(stage, [&down, &registry.host])?;
        front.copy_with_skopeo()?;
        front.look_at_urls("")?;

        front.claim_an_address()?;
        let log = registry.log();
        ensure!(log.contains(CLAIMED), "the client's address is not in the log:\n{log}");
        Ok(())
    })
}

/// The guide's load balancer, with what it takes from the server for TLS.
fn balancing(rest: &str, first: &str, second: &str) -> Result<String> {
    replace(
        &block("nginx", "upstream registry")?,
        &[(THE_REST, rest), ("10.0.0.11:5000", first), ("10.0.0.12:5000", second)],
    )
}

/// A load balancer of the guide that listens without TLS.
pub(crate) fn without_tls(server: &str, host: &str) -> Result<String> {
    let (_, rest) = server_start()?;
    let plain = rest.lines().filter(|line| !line.contains("ssl_certificate"));
    let rest = plain.collect::<Vec<_>>().join("\n");
    let listen = format!("listen {host};");
    replace(server, &[(THE_REST, &rest), ("listen 443 ssl http2;", &listen)])
}

/// What stands in the guide's load balancers for the rest of a server.
const THE_REST: &str = "    # ssl_certificate and the rest as above";

/// Where the registry is in the guide's configurations.
const UPSTREAM: &str = "127.0.0.1:5000";

/// The guide's server for TLS in front of the registry, with another location
/// beside it.
pub(crate) fn server_with(registry: &Registry, location: &str) -> Result<String> {
    const ROOT: &str = "    location / {";
    let root = format!("{location}\n{ROOT}");
    replace(&block("nginx", "server_name")?, &[(UPSTREAM, &registry.host), (ROOT, &root)])
}

/// The guide's server for TLS with another `location`.
fn with_location(location: &str, registry: &Registry) -> Result<String> {
    let (start, rest) = server_start()?;
    let location = replace(location, &[(UPSTREAM, &registry.host)])?;
    Ok(format!("{start}{rest}{location}\n}}\n"))
}

/// The guide's server for TLS before its `location`: up to its name, and then.
fn server_start() -> Result<(String, String)> {
    const NAME: &str = "registry.example.com;";
    let server = block("nginx", NAME)?;
    let (server, _) = server.split_once("    location / {").context("no location")?;
    let (start, rest) = server.split_once(NAME).context("no name")?;
    Ok((format!("{start}{NAME}"), rest.to_owned()))
}

fn block(language: &str, text: &str) -> Result<String> {
    REVERSE_PROXY.block(language, text)
}
