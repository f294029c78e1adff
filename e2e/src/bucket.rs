//! A bucket that registry:2 has filled.

use anyhow::{Result, ensure};

use crate::http::{Http, sha256, with_query};
use crate::image::pseudo_random;
use crate::registry::Setup;
use crate::scenario::{Scenario, Stage};

/// Only with an object store: folders are the subject of `migrate`.
pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario::new("bucket: taken over from registry:2", 120, taken_over)];

const TAGS: [(&str, &str); 3] = [("team/app", "v1"), ("team/app", "v2"), ("other", "v1")];

fn taken_over(stage: &Stage) -> Result<()> {
    let mut peer = stage.start_peer("store")?;
    let mut pushed = Vec::new();
    for (number, (repository, tag)) in TAGS.into_iter().enumerate() {
        pushed.push(push(&peer.http, repository, tag, 3_000_000 * number + 1000)?);
    }
    peer.stop()?;

    let setup = Setup {
        environment: vec![("REGISTRY_STORAGE_REDIRECT_DISABLE", "true".to_owned())],
        ..Setup::default()
    };
    let mut registry = stage.start_registry("store", &setup)?;
    for ((repository, tag), digest) in TAGS.into_iter().zip(&pushed) {
        let found = registry.http.digest_of(repository, tag)?;
        ensure!(found == *digest, "{repository}:{tag}: registry:2 had {digest}, found {found}");
        registry.http.read_whole(repository, tag)?;
    }
    let again = push(&registry.http, "team/app", "v3", 1000)?;
    ensure!(registry.http.digest_of("team/app", "v3")? == again, "a push after that");
    let mut tags = registry.http.tags("team/app")?;
    tags.sort();
    ensure!(tags == ["v1", "v2", "v3"], "tags are {tags:?}");
    let large = push_in_parts(&registry.http, "team/app", 30_000_000)?;
    registry.stop()?;
    registry.check(stage)?;

    // And the way back, with what was pushed meanwhile.
    let said = registry.command(stage, "export").text()?;
    let mut peer = stage.start_peer("store")?;
    ensure!(peer.http.digest_of("team/app", "v3")? == again, "{said}");
    peer.http.read_whole("team/app", "v3")?;
    let (size, found) = peer.http.digest_of_body(&format!("/v2/team/app/blobs/{large}"))?;
    ensure!((size, &found) == (30_000_000, &large), "{said}");
    peer.stop()?;
    registry.check(stage)
}

/// A blob that comes in three requests.
fn push_in_parts(http: &Http, repository: &str, length: usize) -> Result<String> {
    let bytes = pseudo_random("in parts", length);
    let mut location = http.open_upload(repository)?;
    for chunk in bytes.chunks(length.div_ceil(3)) {
        let kind = [("content-type", "application/octet-stream")];
        location = http
            .send("PATCH", &location, &kind, chunk)?
            .expect(202)?
            .required_header("location")?;
    }
    let digest = sha256(&bytes);
    http.send("PUT", &with_query(&location, "digest", &digest), &[], &[] as &[u8])?.expect(201)?;
    Ok(digest)
}

fn push(http: &Http, repository: &str, tag: &str, length: usize) -> Result<String> {
    http.push_image(repository, tag, &pseudo_random(&format!("{repository}:{tag}"), length))
}
