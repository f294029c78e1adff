//! Media types of manifests, configurations and layers.

/// Docker image manifest, version 2 schema 1, without signatures. Not supported.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// Docker image manifest, version 2 schema 1, signed. Not supported.
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// Docker image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list, for images of several platforms.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Configuration of a Docker image.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Configuration of a Docker plugin.
pub const DOCKER_PLUGIN_CONFIG: &str = "application/vnd.docker.plugin.v1+json";
/// Layer of a Docker image, compressed by gzip.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Layer of a Docker image, not compressed.
pub const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Layer of a Docker image that is fetched from elsewhere, compressed by gzip.
pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// Layer of a Docker image that is fetched from elsewhere, not compressed.
pub const DOCKER_FOREIGN_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";

/// OCI image manifest, also of artifacts.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI artifact manifest: in release candidates of the image spec 1.1 only, but pushed by tools of
/// that time.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// Configuration of an OCI image.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The content `{}`, where a descriptor is required but nothing is to be said.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Layer of an OCI image, not compressed.
pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Layer of an OCI image, compressed by gzip.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Layer of an OCI image, compressed by zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Layer that may not be distributed freely, not compressed.
pub const OCI_NONDISTRIBUTABLE_LAYER_TAR: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// Layer that may not be distributed freely, compressed by gzip.
pub const OCI_NONDISTRIBUTABLE_LAYER: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// Layer that may not be distributed freely, compressed by zstd.
pub const OCI_NONDISTRIBUTABLE_LAYER_ZSTD: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";

/// Whether this is a list of manifests: an OCI index or a Docker manifest list.
pub fn is_manifest_list_like(media_type: &str) -> bool {
    is_one_of(media_type, &[OCI_INDEX, DOCKER_MANIFEST_LIST])
}

/// Whether this is the type of a Docker schema 1 manifest, signed or not.
pub fn is_schema1(media_type: &str) -> bool {
    is_one_of(media_type, &[DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED])
}

/// Whether a layer of this type need not be in the registry: clients fetch it from elsewhere.
pub fn is_nondistributable(media_type: &str) -> bool {
    is_one_of(
        media_type,
        &[
            OCI_NONDISTRIBUTABLE_LAYER_TAR,
            OCI_NONDISTRIBUTABLE_LAYER,
            OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
            DOCKER_FOREIGN_LAYER,
            DOCKER_FOREIGN_LAYER_TAR,
        ],
    )
}

/// The type itself, by which types are compared: without parameters, in lower case.
pub fn essence(content_type: &str) -> String {
    without_parameters(content_type).to_ascii_lowercase()
}

pub(crate) fn without_parameters(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_one_of(media_type: &str, candidates: &[&str]) -> bool {
    let media_type = without_parameters(media_type);
    candidates.iter().any(|candidate| media_type.eq_ignore_ascii_case(candidate))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn essence_drops_parameters_and_case() {
        assert_eq!(essence(" Application/JSON ; charset=utf-8"), "application/json");
        assert_eq!(essence(OCI_INDEX), OCI_INDEX);
        assert_eq!(essence(""), "");
        assert_eq!(essence(";a=b"), "");
    }

    #[test]
    fn types_are_classified() {
        assert!(is_manifest_list_like(OCI_INDEX) && is_manifest_list_like(DOCKER_MANIFEST_LIST));
        assert!(!is_manifest_list_like(OCI_MANIFEST) && !is_manifest_list_like(""));
        assert!(is_schema1(DOCKER_SCHEMA1) && is_schema1(DOCKER_SCHEMA1_SIGNED));
        assert!(!is_schema1(DOCKER_MANIFEST));
        for layer in [
            OCI_NONDISTRIBUTABLE_LAYER_TAR,
            OCI_NONDISTRIBUTABLE_LAYER,
            OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
            DOCKER_FOREIGN_LAYER,
            DOCKER_FOREIGN_LAYER_TAR,
            &DOCKER_FOREIGN_LAYER.to_uppercase(),
        ] {
            assert!(is_nondistributable(layer), "{layer}");
        }
        for layer in [DOCKER_LAYER, DOCKER_LAYER_TAR, OCI_LAYER, OCI_LAYER_TAR, OCI_LAYER_ZSTD] {
            assert!(!is_nondistributable(layer), "{layer}");
        }
    }

    proptest! {
        #[test]
        fn essence_is_idempotent(text in ".*") {
            let once = essence(&text);
            prop_assert_eq!(essence(&once), once);
        }
    }
}
