//! Layers that a manifest names by URL, as Windows base images do: a registry
//! takes the manifest without them, and keeps them when a client does push.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::http::text;
use crate::image::{self, Layout, media_type};
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("foreign layer: a manifest by hand, in both formats", 60, by_hand),
    Scenario::new("foreign layer: crane push and copy without it", 60, crane_without),
    Scenario::new("foreign layer: crane push with it", 60, crane_with),
];

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const OCI_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const REPOSITORY: &str = "windows/base";

fn by_hand(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let http = &registry.http;
        let config = b"{\"architecture\":\"amd64\",\"os\":\"windows\"}";
        let config_digest = http.push_blob(REPOSITORY, config)?;
        for (tag, manifest_type, config_type, layer_type) in [
            ("docker", media_type::DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_FOREIGN),
            ("oci", media_type::OCI_MANIFEST, media_type::OCI_CONFIG, OCI_FOREIGN),
        ] {
            let layer = foreign(layer_type, tag.as_bytes());
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": manifest_type,
                "config": {
                    "mediaType": config_type,
                    "digest": config_digest,
                    "size": config.len(),
                },
                "layers": [layer],
            })
            .to_string();
            http.put_manifest(REPOSITORY, tag, manifest_type, manifest.as_bytes())?.expect(201)?;
            let found = http.get_manifest(REPOSITORY, tag)?;
            ensure!(found.body == manifest.as_bytes(), "{tag}: altered");
            let digest = text(&layer, "digest")?;
            http.head(&format!("/v2/{REPOSITORY}/blobs/{digest}"))?.expect(404)?;
        }
        Ok(())
    })
}

fn crane_without(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, foreign) = image_with_foreign_layer(stage)?;
        let name = registry.name(&format!("{REPOSITORY}:v1"));
        let copy = registry.name("windows/copy:v1");
        stage
            .client("crane")
            .args(["--insecure", "push"])
            .arg(&layout.folder)
            .arg(&name)
            .succeed()?;
        stage.client("crane").args(["--insecure", "copy", &name, &copy]).succeed()?;
        for repository in [REPOSITORY, "windows/copy"] {
            registry.http.read_whole(repository, "v1")?;
            let path = format!("/v2/{repository}/blobs/{foreign}");
            registry.http.head(&path)?.expect(404)?;
        }
        Ok(())
    })
}

fn crane_with(stage: &Stage) -> Result<()> {
    stage.with_registry(|registry| {
        let (layout, foreign) = image_with_foreign_layer(stage)?;
        stage
            .client("crane")
            .args(["--insecure", "--allow-nondistributable-artifacts", "push"])
            .arg(&layout.folder)
            .arg(registry.name(&format!("{REPOSITORY}:v1")))
            .succeed()?;
        let path = format!("/v2/{REPOSITORY}/blobs/{foreign}");
        let blob = registry.http.get(&path)?.expect(200)?;
        ensure!(crate::http::sha256(&blob.body) == foreign);
        Ok(())
    })
}

/// A layout whose only image, tagged `v1`, has one foreign layer, which is in
/// the layout. The layer's digest.
fn image_with_foreign_layer(stage: &Stage) -> Result<(Layout, String)> {
    let mut layout = Layout::new(stage, "foreign")?;
    let bytes = image::pseudo_random("foreign", 10_000);
    layout.blob(OCI_FOREIGN, &bytes)?;
    let layer = foreign(OCI_FOREIGN, &bytes);
    let digest = image::digest(&layer)?;
    let config = layout.document(
        media_type::OCI_CONFIG,
        &json!({
            "architecture": "amd64",
            "os": "windows",
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }),
    )?;
    let manifest = layout.document(
        media_type::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": [layer],
        }),
    )?;
    layout.tag(&manifest, "v1")?;
    Ok((layout, digest))
}

fn foreign(media_type: &str, bytes: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": crate::http::sha256(bytes),
        "size": bytes.len(),
        "urls": ["https://layers.example.com/base.tar.gz"],
    })
}
