#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{Manifest, ManifestKind, media_type};

fuzz_target!(|bytes: &[u8]| {
    for content_type in [None, Some(media_type::OCI_MANIFEST), Some(media_type::OCI_ARTIFACT)] {
        let Ok(manifest) = Manifest::parse(bytes, content_type) else {
            continue;
        };
        match manifest.kind {
            ManifestKind::Image => assert!(manifest.children().is_empty()),
            ManifestKind::Index => assert!(manifest.required_blobs().is_empty()),
        }
        let blobs = manifest.required_blobs().len() + manifest.optional_blobs().len();
        assert!(blobs <= 1 + manifest.layers.len());
        manifest.effective_artifact_type();
    }
});
