//! The disaster drill of `docs/operate.md`: backups are made while clients
//! push, then bytes, the database, and everything are lost and put back, all
//! with the commands of the guide.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::guide::OPERATE;
use crate::http::Http;
use crate::image::{self, pseudo_random};
use crate::postgres::Database;
use crate::pusher::path_of;
use crate::registry::{Registry, Setup};
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("drill: a folder and SQLite, lost in part and as a whole", 120, folder)];

/// Only with an object store.
pub(crate) const ON_BUCKET: &[Scenario] =
    &[Scenario::new("drill: a bucket and PostgreSQL, lost in part and as a whole", 240, bucket)];

const REPOSITORY: &str = "team/app";

fn folder(stage: &Stage) -> Result<()> {
    let mut registry = stage.start_registry("store", &Setup::default())?;
    let drill = Drill::new(stage, Vec::new());
    let upload = path_of(&registry.http.open_upload(REPOSITORY)?).to_owned();
    let patch = |http: &Http| http.send("PATCH", &upload, &[], b"begun".as_slice());
    patch(&registry.http)?.expect(202)?;
    let tags = drill.back_up(&registry, "sqlite3 ")?;

    let layers = drill.run("find \"$DATA\" -name data -size +500k")?;
    std::fs::remove_file(layers.lines().next().context("no layer")?)?;
    drill.finds_missing_bytes(&registry)?;
    drill.follow("rsync -a --ignore-existing")?;
    drill.is_whole(&registry, &tags)?;

    registry.stop()?;
    drill.run("rm \"$DATA\"/orlop/metadata.sqlite")?;
    drill.follow("cp \"$BACKUP/metadata.sqlite\"")?;
    registry.restart(stage)?;
    drill.is_whole(&registry, &tags)?;

    registry.kill()?;
    drill.run("rm -r \"$DATA\"")?;
    drill.follow("rsync -a --ignore-existing")?;
    drill.follow("cp \"$BACKUP/metadata.sqlite\"")?;
    registry.restart(stage)?;
    drill.is_whole(&registry, &tags)?;
    patch(&registry.http)?.expect(404)?;
    push(&registry.http, "later", 1_000_000)?;
    registry.stop()?;
    registry.check(stage)
}

fn bucket(stage: &Stage) -> Result<()> {
    let database = Database::start(stage)?;
    let setup = database.setup();
    let mut servers =
        [stage.start_registry("store", &setup)?, stage.start_registry("store", &setup)?];
    let [first, second] = &mut servers;
    let mut environment = setup.environment;
    environment.extend(rclone(stage)?);
    let drill = Drill::new(stage, environment);
    let tags = drill.back_up(second, "pg_dump")?;

    let layers = drill.run("rclone lsf -R --files-only --min-size 500k \"$BUCKET\"")?;
    let layer = layers.lines().next().context("no layer")?;
    drill.run(&format!("rclone deletefile \"$BUCKET\"/{layer}"))?;
    drill.finds_missing_bytes(first)?;
    drill.follow("rclone copy --ignore-existing")?;
    drill.is_whole(first, &tags)?;

    for bytes_too in [false, true] {
        first.kill()?;
        second.kill()?;
        let drop = "psql \"$REGISTRY_DATABASE_URL\" -c 'DROP SCHEMA public CASCADE' \
                    -c 'CREATE SCHEMA public'";
        drill.run(drop)?;
        if bytes_too {
            drill.run("rclone purge \"$BUCKET\"")?;
            drill.follow("rclone copy --ignore-existing")?;
        }
        drill.follow("pg_restore")?;
        first.restart(stage)?;
        second.restart(stage)?;
        drill.is_whole(second, &tags)?;
    }
    push(&first.http, "later", 1_000_000)?;
    second.http.read_whole(REPOSITORY, "later")?;
    first.stop()?;
    second.stop()?;
    first.check(stage)
}

/// An image with a layer of so many bytes. Its digest.
fn push(http: &Http, tag: &str, length: usize) -> Result<String> {
    http.push_image(REPOSITORY, tag, &pseudo_random(tag, length))
}

/// The bucket's folder of this stage as `$BUCKET`, and another place as
/// `$COPY`.
fn rclone(stage: &Stage) -> Result<Vec<(&'static str, String)>> {
    let store = stage.store_environment("store")?;
    let value = |end: &str| {
        let found = store.iter().find(|(name, _)| name.ends_with(end));
        found.map(|(_, value)| value.clone()).with_context(|| format!("no {end}"))
    };
    let bucket = format!("store:{}{}", value("_BUCKET")?, value("_ROOTDIRECTORY")?);
    Ok(vec![
        ("RCLONE_CONFIG_STORE_TYPE", "s3".to_owned()),
        ("RCLONE_CONFIG_STORE_PROVIDER", "Other".to_owned()),
        ("RCLONE_CONFIG_STORE_ENDPOINT", value("_REGIONENDPOINT")?),
        ("RCLONE_CONFIG_STORE_ACCESS_KEY_ID", value("_ACCESSKEY")?),
        ("RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY", value("_SECRETKEY")?),
        ("BUCKET", bucket),
        ("COPY", stage.path("copy").display().to_string()),
    ])
}

/// Who does it: a shell with the guide's variables.
struct Drill<'a> {
    stage: &'a Stage,
    environment: Vec<(&'static str, String)>,
}

impl<'a> Drill<'a> {
    fn new(stage: &'a Stage, mut environment: Vec<(&'static str, String)>) -> Self {
        for (name, folder) in [("DATA", "store"), ("BACKUP", "backup")] {
            environment.push((name, stage.path(folder).display().to_string()));
        }
        Self { stage, environment }
    }

    /// Images, and a backup with the commands that have this text among them,
    /// while others are pushed.
    fn back_up(&self, registry: &Registry, text: &str) -> Result<Vec<(String, String)>> {
        let http = &registry.http;
        let tags = (0..5).map(|number| {
            let tag = format!("v{number}");
            let digest = push(http, &tag, 700_000 + number)?;
            Ok((tag, digest))
        });
        let mut tags = tags.collect::<Result<Vec<_>>>()?;
        // One whose layers are stored as they come, and so lie elsewhere in a bucket.
        let (layout, digest) = image::runnable(self.stage, "streamed")?;
        let crane = self.stage.client("crane").args(["push", "--insecure"]).arg(&layout.folder);
        crane.arg(registry.name(&format!("{REPOSITORY}:streamed"))).succeed()?;
        tags.push(("streamed".to_owned(), digest));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                for number in 0.. {
                    push(http, &format!("meanwhile-{number}"), 10_000)?;
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                }
                Ok(())
            });
            let backed_up = self.follow(text);
            done.store(true, Ordering::SeqCst);
            client.join().unwrap_or_else(|_| anyhow::bail!("the client panicked"))?;
            backed_up
        })?;
        Ok(tags)
    }

    /// Runs the commands of the guide that have this text among them.
    fn follow(&self, text: &str) -> Result<()> {
        self.run(&OPERATE.block("sh", text)?).map(drop)
    }

    fn run(&self, commands: &str) -> Result<String> {
        let shell = self.stage.client("sh").args(["-euc", commands]);
        self.environment.iter().fold(shell, |shell, (name, value)| shell.env(name, value)).text()
    }

    /// `orlop check` names what is gone.
    fn finds_missing_bytes(&self, registry: &Registry) -> Result<()> {
        let said = registry.command(self.stage, "check").fail()?;
        ensure!(said.contains("its bytes are not in the store"), "{said}");
        ensure!(said.contains("1 problem"), "{said}");
        Ok(())
    }

    /// What was there before the backup can be pulled, and `orlop check` finds
    /// nothing wrong.
    fn is_whole(&self, registry: &Registry, tags: &[(String, String)]) -> Result<()> {
        for (tag, digest) in tags {
            let found = registry.http.digest_of(REPOSITORY, tag)?;
            ensure!(found == *digest, "{tag}: pushed {digest}, found {found}");
            registry.http.read_whole(REPOSITORY, tag)?;
        }
        registry.check(self.stage)
    }
}
