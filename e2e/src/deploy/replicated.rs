//! The compose file of three replicas. The images beside Orlop's own are made
//! here of programs of this machine, as nothing can be had from elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};

use super::{Machine, certificates};
use crate::process::Client;
use crate::scenario::Stage;

const REPLICAS: [&str; 3] = ["orlop-1", "orlop-2", "orlop-3"];
const NAME: &str = "127.0.0.1:443/team/app";

/// A folder tree in which the programs of this machine's `/usr` run.
const TREE: &str = "
mkdir -p root/usr root/tmp root/etc root/run root/var/lib/nginx root/var/log/nginx
chmod 1777 root/tmp
for name in bin sbin lib lib64; do ln -s usr/$name root/$name; done
cp /etc/passwd /etc/group root/etc/
cp start-database root/
";

/// Does what the entry point of the image `postgres` does.
const START_DATABASE: &str = r#"#!/bin/sh
set -eu
cd /tmp
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
as_nobody() { setpriv --reuid nobody --regid nogroup --clear-groups "$@"; }
data=/var/lib/postgresql/data
if [ ! -s $data/PG_VERSION ]; then
  chown nobody $data && chmod 700 $data
  echo "$POSTGRES_PASSWORD" > password
  as_nobody initdb --no-sync --auth scram-sha-256 --pwfile password -U "$POSTGRES_USER" -D $data
  echo "CREATE DATABASE $POSTGRES_DB" | as_nobody postgres --single -D $data postgres
  echo 'host all all all scram-sha-256' >> $data/pg_hba.conf
fi
exec setpriv --reuid nobody --regid nogroup --clear-groups \
  postgres -D $data -c listen_addresses='*' -c unix_socket_directories=/tmp
"#;

/// The images that `compose.yml` names, and how each starts.
const NEIGHBOURS: [(&str, &str); 3] = [
    ("postgres:17", r#"CMD ["/start-database"]"#),
    ("nginx:1.28", r#"CMD ["nginx", "-g", "daemon off;"]"#),
    ("chrislusf/seaweedfs:4.48", r#"ENTRYPOINT ["/weed"]"#),
];

pub(super) fn play(stage: &Stage) -> Result<()> {
    let machine = Machine::start(stage)?;
    certificates(stage)?;
    machine.follow("htpasswd -Bbn")?;
    neighbours(&machine)?;
    machine.follow("POSTGRES_PASSWORD=$(openssl")?;
    serve(&machine).map_err(|error| match compose(&machine, &["logs", "--tail=10"]).text() {
        Ok(logs) => error.context(format!("the logs end with:\n{logs}\n")),
        Err(_) => error,
    })
}

fn serve(machine: &Machine<'_>) -> Result<()> {
    machine.answers("https://127.0.0.1/v2/", 401)?;
    machine.log_in("127.0.0.1:443")?;
    machine.push_and_pull(NAME)?;
    tables_are_made(machine)?;

    // Whichever dies, another answers, and docker brings it back.
    for replica in REPLICAS {
        let container = compose(machine, &["ps", "--quiet", replica]).text()?;
        pulls_while(machine, || machine.comes_back(container.trim()))?;
    }
    pulls_while(machine, || machine.follow("--force-recreate $replica").map(drop))?;
    machine.docker.build(&format!("{NAME}:v2"), 2)?;
    machine.docker.push(&format!("{NAME}:v2"))?;
    for verb in [&["config", "check", "--strict"][..], &["check"]] {
        let orlop = ["exec", "-T", "orlop-2", "orlop"];
        compose(machine, &orlop).args(verb).arg("/etc/distribution/config.yml").succeed()?;
    }

    compose(machine, &["down"]).succeed()?;
    compose(machine, &["up", "-d"]).succeed()?;
    machine.answers("https://127.0.0.1/v2/", 401)?;
    machine.docker.pull(&format!("{NAME}:v1"))?;
    compose(machine, &["down", "--volumes"]).succeed()?;
    Ok(())
}

/// Images of nothing but folders and a start; the programs are lent to their
/// containers by a second compose file.
fn neighbours(machine: &Machine<'_>) -> Result<()> {
    let folder = machine.stage.folder("neighbours")?;
    let start = folder.join("start-database");
    std::fs::write(&start, START_DATABASE)?;
    let tree = format!("cd {}; chmod +x start-database; {TREE}", folder.display());
    machine.run(&tree)?;
    for (name, start) in NEIGHBOURS {
        let path = "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        std::fs::write(
            folder.join("Dockerfile"),
            format!("FROM scratch\nCOPY root /\n{path}\n{start}\n"),
        )?;
        machine.docker(&["build", "--quiet", "--tag", name]).arg(&folder).succeed()?;
    }
    let weed = std::fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/bin/weed"))
        .context("SeaweedFS is missing: run e2e/install.sh")?;
    let lent = serde_json::json!({"services": {
        "database": {"volumes": ["/usr:/usr:ro"]},
        "nginx": {"volumes": ["/usr:/usr:ro"]},
        "store": {"volumes": [format!("{}:/weed:ro", weed.display())]},
    }});
    machine.stage.file("compose.override.yml", lent.to_string())?;
    Ok(())
}

fn compose<'a>(machine: &Machine<'a>, arguments: &[&str]) -> Client<'a> {
    machine.docker.program("docker-compose").args(arguments)
}

/// All three were started at once on an empty database: one of them makes the
/// tables, and none has trouble with it.
fn tables_are_made(machine: &Machine<'_>) -> Result<()> {
    let log = compose(machine, &["logs", "--no-color"]).args(REPLICAS).text()?;
    ensure!(!log.contains("schema"), "{log}");
    let status = ["exec", "-T", "orlop-1", "orlop", "db", "status", "/etc/distribution/config.yml"];
    let status = compose(machine, &status).text()?;
    ensure!(status.contains("up to date"), "{status}");
    Ok(())
}

/// Asks for a tag again and again while something is done: the answer must
/// come each time.
fn pulls_while(machine: &Machine<'_>, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut pulled = 0_u32;
            while !done.load(Ordering::SeqCst) {
                let url = "https://testuser:testpassword@127.0.0.1/v2/team/app/manifests/v1";
                let status = machine.status(url)?;
                ensure!(status == "200", "after {pulled} pulls the answer was {status}");
                pulled += 1;
            }
            Ok(())
        });
        let acted = act();
        done.store(true, Ordering::SeqCst);
        client.join().unwrap_or_else(|_| anyhow::bail!("the client panicked"))?;
        acted
    })
}
