//! Descriptors: typed references to content (image spec, "OCI Content Descriptors").

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::Digest;

/// A reference to content: what it is, its digest and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Empty if it was absent where it was read.
    #[serde(default, deserialize_with = "null_as_default")]
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Where else the content can be fetched from.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The content itself in base64, as it was found: not decoded, not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// The platform that an image is for (image spec, "Image Index", `platform`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default, deserialize_with = "null_as_default")]
    pub architecture: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
}

impl Descriptor {
    /// A descriptor of the required fields only.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            artifact_type: None,
            platform: None,
            data: None,
        }
    }
}

/// Go programs write `null` for empty lists and maps.
fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::media_type::{OCI_LAYER, OCI_MANIFEST};

    #[test]
    fn empty_fields_are_not_written() {
        let digest = Digest::sha256(b"");
        assert_eq!(
            serde_json::to_value(Descriptor::new(OCI_LAYER, digest, 0)).unwrap(),
            json!({ "mediaType": OCI_LAYER, "digest": digest.to_string(), "size": 0 })
        );
    }

    #[test]
    fn all_fields_have_their_names_of_the_spec() {
        let json = json!({
            "mediaType": OCI_MANIFEST,
            "digest": Digest::sha512(b"").to_string(),
            "size": 7,
            "urls": ["https://example.com/"],
            "annotations": { "a": "b" },
            "artifactType": "application/x",
            "platform": {
                "architecture": "arm64",
                "os": "windows",
                "variant": "v8",
                "os.version": "10.0",
                "os.features": ["win32k"],
            },
            "data": "e30=",
        });
        let descriptor: Descriptor = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(descriptor.platform.as_ref().unwrap().os_version.as_deref(), Some("10.0"));
        assert_eq!(serde_json::to_value(descriptor).unwrap(), json);
    }

    #[test]
    fn null_means_absent() {
        let json = json!({
            "mediaType": null, "digest": Digest::sha256(b"").to_string(), "size": 7, "urls": null,
            "annotations": null, "artifactType": null, "platform": null, "data": null,
        });
        let descriptor: Descriptor = serde_json::from_value(json).unwrap();
        assert_eq!(descriptor, Descriptor::new("", Digest::sha256(b""), 7));
    }
}
