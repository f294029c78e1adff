//! What a manifest is whose content type nobody wrote down.

use metadata::manifests::{NewManifest, ReferenceKind};
use oci::media_type::{DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, OCI_INDEX, OCI_MANIFEST};
use oci::{Digest, Manifest};
use serde_json::Value;

use crate::manifest::describe;

/// A manifest of another registry.
pub(crate) struct Recognised {
    pub(crate) manifest: NewManifest,
    /// Why a push of it would be refused today.
    pub(crate) objection: Option<String>,
}

/// Tells what the content called `digest` is. What another registry has accepted is served on,
/// though it be less strict than we are; only what is no manifest at all is an error.
pub(crate) fn recognise(content: &[u8], digest: Digest) -> Result<Recognised, String> {
    let objection = match Manifest::parse(content, None) {
        Ok(parsed) => {
            return Ok(Recognised { manifest: describe(&parsed, digest), objection: None });
        }
        Err(error) => error.to_string(),
    };
    let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(content) else {
        return Err(objection);
    };
    let get = |key: &str| document.get(key);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let media_type = if get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        let signed = get("signatures").is_some();
        if signed { DOCKER_SCHEMA1_SIGNED } else { DOCKER_SCHEMA1 }.to_owned()
    } else if let Some(declared) = text(get("mediaType")).filter(|declared| is_plain(declared)) {
        declared
    } else if get("manifests").is_some_and(Value::is_array) {
        OCI_INDEX.to_owned()
    } else if get("config").is_some() || get("layers").is_some() {
        OCI_MANIFEST.to_owned()
    } else {
        return Err(objection);
    };
    let named = |value: Option<&Value>| {
        text(value.and_then(|descriptor| descriptor.get("digest")))?.parse::<Digest>().ok()
    };
    let list = |key: &str| get(key).and_then(Value::as_array).into_iter().flatten();
    let mut references = Vec::new();
    references.extend(named(get("config")).map(|digest| (digest, ReferenceKind::Config)));
    for layer in list("layers").chain(list("blobs")) {
        let elsewhere = layer.get("urls").is_some();
        let kind = if elsewhere { ReferenceKind::ForeignLayer } else { ReferenceKind::Layer };
        references.extend(named(Some(layer)).map(|digest| (digest, kind)));
    }
    for layer in list("fsLayers") {
        let digest = text(layer.get("blobSum")).and_then(|digest| digest.parse().ok());
        references.extend(digest.map(|digest| (digest, ReferenceKind::Layer)));
    }
    for child in list("manifests") {
        references.extend(named(Some(child)).map(|digest| (digest, ReferenceKind::Child)));
    }
    let manifest = NewManifest {
        digest,
        media_type,
        artifact_type: text(get("artifactType")),
        subject: named(get("subject")),
        annotations: None,
        references,
    };
    Ok(Recognised { manifest, objection: Some(objection) })
}

/// Whether a text may go into a header.
fn is_plain(media_type: &str) -> bool {
    let visible = media_type.bytes().all(|byte| byte.is_ascii_graphic());
    visible && media_type.contains('/') && media_type.len() <= 255
}

#[cfg(test)]
mod tests {
    use oci::media_type::{DOCKER_MANIFEST, DOCKER_MANIFEST_LIST};

    use super::*;

    fn media_type(content: &str) -> (String, bool) {
        let recognised = recognise(content.as_bytes(), Digest::sha256(content.as_bytes())).unwrap();
        (recognised.manifest.media_type, recognised.objection.is_some())
    }

    #[test]
    fn the_type_is_what_the_manifest_says_or_looks_like() {
        let digest = Digest::sha256(b"");
        let config = format!(
            r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":0}}"#
        );
        let image = format!(r#""schemaVersion":2,"config":{config},"layers":[]"#);
        let index = r#""schemaVersion":2,"manifests":[]"#;
        let fine = |text: &str| (text.to_owned(), false);
        assert_eq!(media_type(&format!("{{{image}}}")), fine(OCI_MANIFEST));
        assert_eq!(media_type(&format!("{{{index}}}")), fine(OCI_INDEX));
        for (body, declared) in [(&*image, DOCKER_MANIFEST), (index, DOCKER_MANIFEST_LIST)] {
            let content = format!(r#"{{"mediaType":"{declared}",{body}}}"#);
            assert_eq!(media_type(&content), fine(declared));
        }
    }

    #[test]
    fn what_we_would_refuse_is_taken_with_an_objection() {
        let digest = Digest::sha256(b"");
        let odd = |text: &str| (text.to_owned(), true);
        let schema1 = format!(r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{digest}"}}]}}"#);
        assert_eq!(media_type(&schema1), odd(DOCKER_SCHEMA1));
        let layers = recognise(schema1.as_bytes(), digest).unwrap().manifest.references;
        assert_eq!(layers, [(digest, ReferenceKind::Layer)]);
        let signed = r#"{"schemaVersion":1,"fsLayers":[],"signatures":[{}]}"#;
        assert_eq!(media_type(signed), odd(DOCKER_SCHEMA1_SIGNED));
        let both = r#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#;
        assert_eq!(media_type(both), odd(OCI_INDEX));
    }

    #[test]
    fn what_is_no_manifest_is_an_error() {
        for content in ["", "[]", "\0\u{1}", "{}", r#"{"schemaVersion":2}"#, "{\"config\":"] {
            assert!(recognise(content.as_bytes(), Digest::sha256(b"")).is_err(), "{content:?}");
        }
    }
}
