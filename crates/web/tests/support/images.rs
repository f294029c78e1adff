//! Manifests as text.

use oci::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use serde_json::{Value, json};

use super::sha256;

/// A descriptor of some content.
pub fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(content), "size": content.len() })
}

/// An OCI image.
pub fn image(config: &[u8], layers: &[&[u8]]) -> String {
    image_value(config, layers).to_string()
}

/// The same, to be changed further.
pub fn image_value(config: &[u8], layers: &[&[u8]]) -> Value {
    let layers = layers.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect::<Vec<_>>();
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config),
        "layers": layers,
    })
}

/// An OCI index of these manifests.
pub fn index(manifests: &[&str]) -> String {
    let manifests = manifests
        .iter()
        .map(|manifest| descriptor(OCI_MANIFEST, manifest.as_bytes()))
        .collect::<Vec<_>>();
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests }).to_string()
}

/// An artifact that says something about `subject`; its config is the empty object, which must be
/// in the repository.
pub fn artifact(subject: &str, artifact_type: &str, note: &str) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor(oci::media_type::OCI_EMPTY, b"{}"),
        "layers": [],
        "subject": { "mediaType": OCI_MANIFEST, "digest": subject, "size": 1 },
        "annotations": { "note": note },
    })
    .to_string()
}
