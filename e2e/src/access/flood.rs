//! Somebody guesses passwords.

use anyhow::{Result, anyhow, ensure};

use super::{docker_login, password_file};
use crate::docker::Docker;
use crate::registry::Setup;
use crate::scenario::Stage;

/// So many wrong passwords are answered before one has to wait.
const GUESSES: usize = 10;

/// He is held up, others are not, and then he may try again.
pub(super) fn docker(stage: &Stage) -> Result<()> {
    let docker = Docker::start(stage)?;
    let file = password_file(stage, &[("jo", "open sesame"), ("ann", "another")])?;
    let configuration =
        format!("version: 0.1\nauth:\n  htpasswd: {{realm: registry, path: {}}}\n", file.display());
    stage.with_registry_set_up(&Setup::configuration(&configuration), |registry| {
        let name = registry.name("team/app:v1");
        docker.build(&name, 2)?;
        docker_login(&docker, &registry.host, "ann", "another").succeed()?;

        let url = format!("http://{}/v2/", registry.host);
        let guess = |word: &str| stage.curl().args(["--user", &format!("jo:{word}"), &url]);
        for number in 0..GUESSES {
            guess(&format!("guess-{number}")).reply(401)?;
        }
        let refused = guess("another-guess").reply(429)?;
        let wait: u64 = refused.header("retry-after")?.parse()?;
        ensure!((1..=6).contains(&wait), "to wait {wait} s");
        ensure!(refused.body.contains("TOOMANYREQUESTS"), "{refused:?}");
        let login = || {
            let config = stage.path("home-of-jo").to_string_lossy().into_owned();
            docker_login(&docker, &registry.host, "jo", "open sesame").env("DOCKER_CONFIG", config)
        };
        let said = login().fail()?;
        ensure!(said.contains("429 Too Many Requests"), "{said}");

        std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                stage
                    .client("curl")
                    .args(["--silent", "--parallel", "--parallel-max", "50"])
                    .args(["--output", "/dev/null", "--write-out", "%{http_code}\n"])
                    .args(["--user", "jo:another-guess", &format!("{url}?[1-2000]")])
                    .text()
            });
            let pushed = docker.push(&name)?;
            docker.remove(&name)?;
            let pulled = docker.pull(&name)?;
            ensure!(pulled == pushed, "pushed {pushed}, pulled {pulled}");
            let statuses = flood.join().map_err(|_| anyhow!("the flood panicked"))??;
            let refused = statuses.lines().filter(|status| *status == "429").count();
            ensure!((1950..=2000).contains(&refused), "{refused} of 2000 guesses were refused");
            Ok(())
        })?;

        // curl waits as long as it is told to.
        let status = stage
            .client("curl")
            .args(["--silent", "--retry", "5", "--output", "answer"])
            .args(["--write-out", "%{http_code}", "--user", "jo:open sesame", &url])
            .text()?;
        ensure!(status == "200", "found {status} after the wait");
        login().succeed()?;

        let log = registry.log();
        ensure!(log.contains("wrong password user=jo address=127.0.0.1"), "{log}");
        ensure!(
            !log.contains("guess-1") && !log.contains("sesame"),
            "a password is logged:\n{log}"
        );
        Ok(())
    })
}
