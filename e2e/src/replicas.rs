//! Several servers on one PostgreSQL and one object store: whichever a request comes to, and
//! whichever dies.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::access::{basic, password_file};
use crate::http::{Http, sha256, with_query};
use crate::image::{media_type, pseudo_random};
use crate::postgres::Database;
use crate::pusher::path_of;
use crate::random::Random;
use crate::registry::Registry;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("replicas: an upload goes on where another server died", 180, uploads),
    Scenario::new("replicas: what one was told another knows", 120, reads),
    Scenario::new("replicas: wrong passwords are counted together", 60, guesses),
];

const REPOSITORY: &str = "team/shared";

/// Uploads of a chunk or of many, small and large.
const ROUNDS: usize = 12;

fn uploads(stage: &Stage) -> Result<()> {
    let database = Database::start(stage)?;
    let mut servers = start(stage, &database)?;
    let mut random = Random::printed("replicas");
    for round in 0..ROUNDS {
        let length = random.between(1, 30_000_000);
        let bytes = pseudo_random(&format!("round {round}"), length);
        let mut location =
            path_of(&any(&servers, &mut random)?.open_upload(REPOSITORY)?).to_owned();
        let mut sent = 0;
        while sent < length {
            let next = (sent + random.between(1, 12_000_000)).min(length);
            let chunk = bytes.get(sent..next).context("a chunk")?;
            let kind = [("content-type", "application/octet-stream")];
            let at = any(&servers, &mut random)?;
            let answer = at.send("PATCH", &location, &kind, chunk)?.expect(202)?;
            path_of(&answer.required_header("location")?).clone_into(&mut location);
            sent = next;
            if random.between(0, 3) == 0 {
                let dead = random.between(0, servers.len() - 1);
                let server = servers.get_mut(dead).context("a server")?;
                server.kill()?;
                server.restart(stage)?;
            }
        }
        let digest = sha256(&bytes);
        let put = with_query(&location, "digest", &digest);
        any(&servers, &mut random)?.send("PUT", &put, &[], &[] as &[u8])?.expect(201)?;
        for server in &servers {
            let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
            let found = server.http.digest_of_body(&path)?;
            ensure!(found == (length as u64, digest.clone()), "sent {digest}, found {found:?}");
        }
    }
    stop(stage, servers)
}

fn reads(stage: &Stage) -> Result<()> {
    let database = Database::start(stage)?;
    let servers = start(stage, &database)?;
    let mut random = Random::printed("replicas");
    let config = any(&servers, &mut random)?.push_blob(REPOSITORY, b"{}")?;
    for round in 0..60 {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": {"mediaType": media_type::OCI_CONFIG, "digest": config, "size": 2},
            "layers": [],
            "annotations": {"round": round.to_string()},
        });
        let bytes = manifest.to_string().into_bytes();
        let at = any(&servers, &mut random)?;
        at.put_manifest(REPOSITORY, "moving", media_type::OCI_MANIFEST, &bytes)?.expect(201)?;
        for server in &servers {
            let found = server.http.digest_of(REPOSITORY, "moving")?;
            ensure!(found == sha256(&bytes), "round {round}: an older tag at {}", server.host);
        }
    }
    let path = format!("/v2/{REPOSITORY}/manifests/moving");
    any(&servers, &mut random)?.send("DELETE", &path, &[], ())?.expect(202)?;
    for server in &servers {
        server.http.get(&path)?.expect(404)?;
    }
    stop(stage, servers)
}

/// Somebody guesses at one after the other. Each may let one more pass than all know of.
fn guesses(stage: &Stage) -> Result<()> {
    let database = Database::start(stage)?;
    let file = password_file(stage, &[("jo", "open sesame"), ("ann", "another")])?;
    let mut setup = database.setup();
    setup.environment.extend([
        ("REGISTRY_AUTH", "htpasswd".to_owned()),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "registry".to_owned()),
        ("REGISTRY_AUTH_HTPASSWD_PATH", file.to_string_lossy().into_owned()),
    ]);
    let start = |_| stage.start_registry("store", &setup);
    let servers = (0..3).map(start).collect::<Result<Vec<_>>>()?;
    let login = |server: &Registry, user: &str, password: &str| -> Result<u16> {
        let authorization = basic(user, password);
        Ok(server
            .http
            .send("GET", "/v2/", &[("authorization", &*authorization)], &[] as &[u8])?
            .status())
    };
    let begun = Instant::now();
    let mut answered = 0;
    for (number, server) in servers.iter().cycle().take(30).enumerate() {
        answered += u64::from(login(server, "jo", &format!("guess-{number}"))? == 401);
    }
    let later = begun.elapsed().as_secs() / 6 + 1;
    ensure!((10..=12 + later).contains(&answered), "{answered} guesses were answered");
    for server in &servers {
        ensure!(login(server, "ann", "another")? == 200, "others go on");
        ensure!(login(server, "jo", "open sesame")? == 429, "jo has to wait at {}", server.host);
    }
    stop(stage, servers)
}

fn start(stage: &Stage, database: &Database) -> Result<Vec<Registry>> {
    (0..3).map(|_| stage.start_registry("store", &database.setup())).collect()
}

fn stop(stage: &Stage, mut servers: Vec<Registry>) -> Result<()> {
    for server in &mut servers {
        server.stop()?;
    }
    servers.first().context("a server")?.check(stage)
}

/// One of the servers, as a load balancer would choose it.
fn any<'a>(servers: &'a [Registry], random: &mut Random) -> Result<&'a Http> {
    let server = servers.get(random.between(0, servers.len() - 1)).context("a server")?;
    Ok(&server.http)
}
