//! Which programs take part, and where they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;
use clap::Args;

use crate::server::Kind;

/// Where `install.sh` puts what it builds.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/bin");

#[derive(Args)]
pub(crate) struct Programs {
    /// The `orlop` program; without it only the peers run
    #[arg(long, value_name = "PATH")]
    orlop: Option<PathBuf>,
    /// The docker-registry program, version 2 [default: the one in PATH]
    #[arg(long, value_name = "PATH")]
    docker_registry: Option<PathBuf>,
    /// The registry program of distribution, version 3 [default: the one of install.sh]
    #[arg(long, value_name = "PATH")]
    distribution: Option<PathBuf>,
    /// The zot program [default: the one of install.sh]
    #[arg(long, value_name = "PATH")]
    zot: Option<PathBuf>,
    /// The nginx program [default: the one in PATH]
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,
    /// Leave this one out; may be repeated
    #[arg(long, value_enum, value_name = "PROGRAM")]
    without: Vec<Kind>,
}

/// A program that takes part.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

impl Programs {
    /// All that take part and are `wanted`. One that is missing and was not left out is an error.
    pub(crate) fn find(&self, wanted: impl Fn(Kind) -> bool) -> anyhow::Result<Vec<Peer>> {
        let installed = |name: &str| Path::new(INSTALLED).join(name);
        let of = |given: &Option<PathBuf>, default: PathBuf| Some(given.clone().unwrap_or(default));
        let programs = [
            (Kind::Orlop, self.orlop.clone()),
            (Kind::DockerRegistry, of(&self.docker_registry, "docker-registry".into())),
            (Kind::Distribution, of(&self.distribution, installed("distribution"))),
            (Kind::Zot, of(&self.zot, installed("zot"))),
            (Kind::Nginx, of(&self.nginx, nginx())),
            (Kind::Bare, Some(std::env::current_exe()?)),
        ];
        programs
            .into_iter()
            .filter(|(kind, _)| wanted(*kind) && !self.without.contains(kind))
            .filter_map(|(kind, program)| program.map(|program| peer(kind, program)))
            .collect()
    }
}

fn peer(kind: Kind, program: PathBuf) -> anyhow::Result<Peer> {
    let argument = if kind == Kind::Nginx { "-v" } else { "--version" };
    let Ok(output) = Command::new(&program).arg(argument).output() else {
        let name = kind.name();
        bail!(
            "expected {name} at {}, found nothing that runs: bench/install.sh installs it, \
             --without {name} leaves it out",
            program.display()
        );
    };
    // nginx says it on standard error.
    let said = [output.stdout, output.stderr].concat();
    let version = version(&String::from_utf8_lossy(&said));
    Ok(Peer { kind, program, version })
}

/// zot says it as JSON; others may begin with the path of the program.
fn version(said: &str) -> String {
    let line = said.lines().next().unwrap_or("unknown").trim();
    let json = serde_json::from_str::<serde_json::Value>(line).ok();
    if let Some(commit) = json.as_ref().and_then(|json| json.get("commit")?.as_str()) {
        return commit.to_owned();
    }
    let words = line.split_once(' ').filter(|(first, _)| first.contains('/'));
    words.map_or(line, |(_, rest)| rest).to_owned()
}

/// Debian has it where only the administrator's `PATH` leads.
fn nginx() -> PathBuf {
    let debian = Path::new("/usr/sbin/nginx");
    if fs::exists(debian).unwrap_or(false) { debian.to_owned() } else { "nginx".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_said_in_several_ways() {
        assert_eq!(version(r#"{"level":"info","commit":"v1.4.3"}"#), "v1.4.3");
        assert_eq!(version("/opt/distribution v3 v3.1.2+unknown\n"), "v3 v3.1.2+unknown");
        assert_eq!(version("nginx version: nginx/1.22.1"), "nginx version: nginx/1.22.1");
    }
}
