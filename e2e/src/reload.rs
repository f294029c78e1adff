//! A reload while clients are in the middle of something.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::access::password_file;
use crate::certificates::{Authority, Certificate};
use crate::http::{sha256, with_query};
use crate::image;
use crate::registry::Setup;
use crate::scenario::{Scenario, Stage, wait_until};

pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("reload: while a push and a pull run", 90, under_way)];

/// Within how long everything that has changed must count.
const LIMIT: Duration = Duration::from_secs(15);

/// At [`RATE`], for long enough.
const SIZE: usize = 12_000_000;
const RATE: &str = "1M";

fn configuration(server: &Certificate, passwords: &Path, changed: bool) -> String {
    let (level, read_only) = if changed { ("debug", "true") } else { ("info", "false") };
    format!(
        "version: 0.1\nlog: {{level: {level}}}\n\
         http: {{tls: {{certificate: {}, key: {}}}}}\n\
         auth: {{htpasswd: {{realm: registry, path: {}}}}}\n\
         storage: {{maintenance: {{readonly: {{enabled: {read_only}}}}}}}\n",
        server.certificate.display(),
        server.key.display(),
        passwords.display()
    )
}

/// Certificate, password, log level and read-only mode change; whoever is
/// connected notices nothing of the first and goes on.
fn under_way(stage: &Stage) -> Result<()> {
    let first = Authority::new(stage, "first")?;
    let second = Authority::new(stage, "second")?;
    let server = first.server("server")?;
    let passwords = password_file(stage, &[("jo", "before"), ("ann", "same")])?;
    let layer = image::pseudo_random("pulled", SIZE);
    let layer_file = stage.file("layer", &layer)?;
    let upload_file = stage.file("upload", image::pseudo_random("pushed", SIZE))?;
    let pulled = stage.path("pulled");

    let before = configuration(&server, &passwords, false);
    let setup = Setup { is_not_plain: true, ..Setup::configuration(&before) };
    stage.with_registry_set_up(&setup, |registry| {
        let origin = format!("https://{}", registry.host);
        let uploads = format!("{origin}/v2/team/app/blobs/uploads/");
        let curl = |authority: &Authority<'_>, user: &str, arguments: &[&str]| {
            stage.curl().arg("--cacert").arg(authority.file()).args(["-u", user]).args(arguments)
        };
        let layer_path = layer_file.to_string_lossy();
        let store = with_query(&uploads, "digest", &sha256(&layer));
        let data = format!("@{layer_path}");
        let kind = "Content-Type: application/octet-stream";
        let push = ["-X", "POST", "-H", kind, "--data-binary", &data, &store];
        curl(&first, "jo:before", &push).reply(201)?;
        let opened = curl(&first, "jo:before", &["-X", "POST", &uploads]).reply(202)?;
        let location = opened.header("location")?.to_owned();
        ensure!(!registry.log().contains("DEBUG"), "the log is at the level debug already");

        std::thread::scope(|scope| {
            // Two requests on one connection, the second with the new password.
            let pull = scope.spawn(|| {
                let blob = format!("{origin}/v2/team/app/blobs/{}", sha256(&layer));
                let told = ["--write-out", "%{http_code} %{num_connects}\n", "--cacert"];
                stage
                    .client("curl")
                    .args(["--silent", "--http2", "-u", "ann:same", "--limit-rate", RATE])
                    .args(told)
                    .arg(first.file())
                    .arg("--output")
                    .arg(&pulled)
                    .args([&blob, "--next", "--silent", "--http2", "-u", "jo:after"])
                    .args(told)
                    .arg(first.file())
                    .args(["--output", "/dev/null", &format!("{origin}/v2/")])
                    .text()
            });
            let push = scope.spawn(|| {
                let arguments =
                    ["--http1.1", "--limit-rate", RATE, "-X", "PATCH", "-H", kind, "-T"];
                curl(&first, "jo:before", &arguments).arg(&upload_file).arg(&location).reply(202)
            });
            wait_until(LIMIT, || under_way_now(&pulled, &stage.path("store/orlop/uploads")))?;

            second.server("server")?;
            password_file(stage, &[("jo", "after"), ("ann", "same")])?;
            stage.file("config.yml", configuration(&server, &passwords, true))?;
            registry.hang_up()?;
            wait_until(LIMIT, || curl(&second, "jo:after", &["-X", "POST", &uploads]).reply(405))?;
            curl(&first, "jo:after", &[&format!("{origin}/v2/")]).fail()?;
            curl(&second, "jo:before", &[&format!("{origin}/v2/")]).reply(401)?;
            wait_until(LIMIT, || {
                ensure!(registry.log().contains("DEBUG"), "the log is not at the level debug");
                Ok(())
            })?;
            ensure!(!pull.is_finished() && !push.is_finished(), "one was over before the reload");

            let told = pull.join().map_err(|_| anyhow!("the pull panicked"))??;
            ensure!(told == "200 1\n200 0", "pulled with {told:?}");
            ensure!(std::fs::read(&pulled)? == layer, "other bytes were pulled");
            let pushed = push.join().map_err(|_| anyhow!("the push panicked"))??;
            ensure!(pushed.header("range")? == format!("0-{}", SIZE - 1), "{pushed:?}");
            Ok(())
        })?;

        // What was pushed in the meantime can be finished when writing is
        // allowed again.
        let digest = sha256(&std::fs::read(&upload_file)?);
        let finish = with_query(&location, "digest", &digest);
        curl(&second, "jo:after", &["-X", "PUT", &finish]).reply(405)?;
        stage.file("config.yml", configuration(&server, &passwords, false))?;
        registry.hang_up()?;
        wait_until(LIMIT, || curl(&second, "jo:after", &["-X", "PUT", &finish]).reply(201))?;
        Ok(())
    })
}

/// Whether bytes have come both ways.
fn under_way_now(pulled: &Path, uploads: &Path) -> Result<()> {
    ensure!(std::fs::metadata(pulled)?.len() > 0, "nothing was pulled yet");
    let upload = std::fs::read_dir(uploads)?.next().context("no upload")??;
    ensure!(upload.metadata()?.len() > 0, "nothing was pushed yet");
    Ok(())
}
