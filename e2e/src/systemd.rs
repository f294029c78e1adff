//! The units of `deploy/systemd`, installed with the commands of
//! `deploy/README.md` in a machine of their own, where systemd runs them with
//! all that confines them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::certificates::Authority;
use crate::guide::DEPLOY;
use crate::image;
use crate::process::{Client, Daemon};
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("systemd: a socket that starts the service", 120, |stage| {
        on_machine(stage, socket)
    }),
    Scenario::new("systemd: TLS with a key that only root may read", 120, |stage| {
        on_machine(stage, tls)
    }),
];

const URL: &str = "http://127.0.0.1:5000/v2/";
const NAME: &str = "127.0.0.1:5000/team/app:v1";

/// The one capability that the service has, as a mask.
const NET_BIND_SERVICE: &str = "0000000000000400";

fn socket(machine: &Machine<'_>) -> Result<()> {
    machine.follow("systemctl enable --now orlop.socket")?;
    machine.check_units()?;
    machine.expect("ActiveState", "inactive")?;
    machine.curl().arg(URL).reply(200)?;
    machine.expect("ActiveState", "active")?;
    let process = machine.show("MainPID")?;
    machine.check_confinement(&process)?;
    let (layout, digest) = image::runnable(machine.stage, "systemd")?;
    machine.crane("push").arg(&layout.folder).arg(NAME).succeed()?;
    let has_image = || ensure_same(&machine.crane("digest").arg(NAME).text()?, &digest);
    has_image()?;

    machine.run("sed -i 's/^log:/log:\\n  level: debug/' /etc/orlop/config.yml")?;
    machine.follow("systemctl reload orlop.service")?;
    wait_until(Duration::from_secs(10), || {
        let log = machine.run("journalctl --no-pager --unit orlop.service")?;
        ensure!(log.contains("configuration reloaded"), "{log}");
        Ok(())
    })?;
    machine.expect("MainPID", &process)?;

    machine.answers_while(|| machine.run("systemctl restart orlop.service"))?;
    has_image()?;
    machine.run("systemctl kill --signal=KILL orlop.service")?;
    wait_until(Duration::from_secs(20), || machine.expect("NRestarts", "1"))?;
    has_image()?;

    machine.run("systemctl stop orlop.socket orlop.service")?;
    machine.expect("Result", "success")?;
    machine.expect("ExecMainStatus", "0")?;
    machine.curl().arg(URL).fail()?;
    machine.run("test -d /var/lib/orlop/docker/registry/v2/blobs")?;
    ensure_same(&machine.run("stat --dereference --format %a /var/lib/orlop")?, "700")
}

fn tls(machine: &Machine<'_>) -> Result<()> {
    let authority = Authority::new(machine.stage, "authority")?;
    let issued = authority.server("domain")?;
    for (file, name) in [(&issued.certificate, "domain.crt"), (&issued.key, "domain.key")] {
        let content = std::fs::read(file)?;
        let install = format!("install -D -m 600 /dev/stdin /etc/orlop/{name}");
        machine.inside(&install).input(content).succeed()?;
    }
    machine.follow("systemctl enable --now orlop.socket")?;
    machine.follow("systemctl enable --now orlop.service")?;
    wait_until(Duration::from_secs(10), || machine.curl().arg(URL).reply(200))?;

    machine.follow("LoadCredential")?;
    machine.check_units()?;
    let url = URL.replace("http://", "https://");
    let trusting = || machine.curl().arg("--cacert").arg(authority.file());
    wait_until(Duration::from_secs(10), || trusting().arg(&url).reply(200))?;
    machine.check_confinement(&machine.show("MainPID")?)?;
    let (layout, digest) = image::runnable(machine.stage, "systemd")?;
    let crane = |verb: &str| {
        let certificates = format!("SSL_CERT_FILE={}", authority.file().display());
        machine.network().args(["env", &certificates, "crane", verb])
    };
    crane("push").arg(&layout.folder).arg(NAME).succeed()?;
    ensure_same(&crane("digest").arg(NAME).text()?, &digest)
}

/// Boots a machine with the program and the files of `deploy` in `/srv`.
fn on_machine(stage: &Stage, play: fn(&Machine<'_>) -> Result<()>) -> Result<()> {
    let machine = Machine::boot(stage)?;
    play(&machine).map_err(|error| match machine.run("journalctl --no-pager --lines=20") {
        Ok(journal) => error.context(format!("the machine's journal ends with:\n{journal}\n")),
        Err(_) => error,
    })
}

fn ensure_same(found: &str, expected: &str) -> Result<()> {
    ensure!(found == expected, "expected {expected}, found {found}");
    Ok(())
}

/// Namespaces with a systemd of their own, as `machine.sh` makes them.
struct Machine<'a> {
    stage: &'a Stage,
    /// The number of its first process.
    init: String,
    /// The machine ends with it.
    _daemon: Daemon,
}

impl<'a> Machine<'a> {
    fn boot(stage: &'a Stage) -> Result<Self> {
        let files = stage.folder("machine")?;
        let folder = stage.folder("machine/srv")?;
        std::fs::copy(stage.binary(), folder.join("orlop"))?;
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
        stage.client("cp").args(["-r", sources]).arg(folder.join("deploy")).succeed()?;
        let script = stage.file("machine.sh", include_str!("systemd/machine.sh"))?;
        let mut daemon = stage.daemon("machine", "unshare", |command| {
            command.args(["--mount", "sh"]).arg(&script).arg(&files);
        })?;
        let init = wait_until(Duration::from_mins(1), || {
            daemon.is_running()?;
            let init = std::fs::read_to_string(stage.path("machine.pid"))?;
            let init = init.trim().to_owned();
            enter(stage, &init, "systemctl is-active basic.target").succeed()?;
            Ok(init)
        })
        .with_context(|| format!("systemd does not start{}", daemon.log_tail()))?;
        Ok(Self { stage, init, _daemon: daemon })
    }

    /// Runs the commands of the guide that have this text among them.
    fn follow(&self, text: &str) -> Result<String> {
        self.run(&DEPLOY.block("sh", text)?)
    }

    /// Runs commands as root; what they printed.
    fn run(&self, commands: &str) -> Result<String> {
        self.inside(commands).text()
    }

    fn inside(&self, commands: &str) -> Client<'a> {
        enter(self.stage, &self.init, commands)
    }

    /// For a program of this machine in the network of that one.
    fn network(&self) -> Client<'a> {
        self.stage.client("nsenter").args(["--net", "--target", &self.init])
    }

    fn curl(&self) -> Client<'a> {
        self.network().args(["curl", "--silent", "--show-error", "--include", "--max-time", "30"])
    }

    fn crane(&self, verb: &str) -> Client<'a> {
        self.network().args(["crane", "--insecure", verb])
    }

    fn show(&self, property: &str) -> Result<String> {
        self.run(&format!("systemctl show --property {property} --value orlop.service"))
    }

    fn expect(&self, property: &str, value: &str) -> Result<()> {
        let found = self.show(property)?;
        ensure!(found == value, "{property}: expected {value}, found {found}");
        Ok(())
    }

    /// systemd finds nothing wrong in the units, and little that the service
    /// may do.
    fn check_units(&self) -> Result<()> {
        let outcome = self
            .inside(
                "systemd-analyze verify /etc/systemd/system/orlop.service \
                     /etc/systemd/system/orlop.socket",
            )
            .succeed()?;
        ensure!(outcome.stdout.is_empty() && outcome.stderr.is_empty(), "{}", outcome.said());
        // In tenths; 100 is a service that may do everything.
        self.run("systemd-analyze security --no-pager --threshold=15 orlop.service")?;
        Ok(())
    }

    /// What the unit says holds for the process: nobody's user, one capability,
    /// filters of system calls.
    fn check_confinement(&self, process: &str) -> Result<()> {
        let status = self.run(&format!("cat /proc/{process}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).with_context(|| format!("no {name} in {status}"))
        };
        ensure!(field("Uid")?.split('\t').all(|id| id != "0"), "it runs as root: {status}");
        ensure_same(field("CapEff")?, NET_BIND_SERVICE)?;
        ensure_same(field("CapBnd")?, NET_BIND_SERVICE)?;
        ensure_same(field("NoNewPrivs")?, "1")?;
        ensure_same(field("Seccomp")?, "2")
    }

    /// Sends one request after another while something is done: each must be
    /// answered.
    fn answers_while(&self, act: impl FnOnce() -> Result<String>) -> Result<()> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    self.curl().arg(URL).reply(200)?;
                }
                Ok(())
            });
            let acted = act();
            done.store(true, Ordering::SeqCst);
            client.join().unwrap_or_else(|_| anyhow::bail!("the client panicked"))?;
            acted.map(drop)
        })
    }
}

/// Commands for a machine, run in `/srv`.
fn enter<'a>(stage: &'a Stage, init: &str, commands: &str) -> Client<'a> {
    let commands = format!("cd /srv\n{commands}");
    stage
        .client("nsenter")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .args(["--all", "--target", init, "sh", "-euc", &commands])
}
