//! A bucket that registry:2 has filled.

use anyhow::{Result, ensure};

use crate::http::{Http, sha256};
use crate::image::{media_type, pseudo_random};
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
    registry.stop()?;
    registry.check(stage)
}

/// An image of one layer. Its digest.
fn push(http: &Http, repository: &str, tag: &str, length: usize) -> Result<String> {
    let layer = pseudo_random(&format!("{repository}:{tag}"), length);
    let blob = |kind: &str, bytes: &[u8]| -> Result<serde_json::Value> {
        let digest = http.push_blob(repository, bytes)?;
        Ok(serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": blob(media_type::OCI_CONFIG, b"{}")?,
        "layers": [blob(media_type::OCI_LAYER_GZIP, &layer)?],
    });
    let bytes = manifest.to_string().into_bytes();
    http.put_manifest(repository, tag, media_type::OCI_MANIFEST, &bytes)?.expect(201)?;
    Ok(sha256(&bytes))
}
