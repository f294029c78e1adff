//! Manifests: what an image or artifact is made of, read from bytes that stay as they are.

mod json;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use thiserror::Error;

use crate::media_type::is_nondistributable;
use crate::{Descriptor, Digest};

/// The largest manifest in bytes. The distribution spec demands at least this much.
pub const MAX_MANIFEST_SIZE: usize = 4 * 1024 * 1024;

/// The most descriptors in one list of a manifest.
pub const MAX_DESCRIPTORS: usize = 100_000;

/// What the registry reads in a manifest.
///
/// A manifest is identified by the digest of its bytes, so this is never written back: the caller
/// keeps the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Without parameters, in lower case. Guessed if neither header nor body named it.
    pub media_type: String,
    pub kind: ManifestKind,
    /// Of images. Absent in OCI artifact manifests.
    pub config: Option<Descriptor>,
    /// Of images; the `blobs` of an OCI artifact manifest.
    pub layers: Vec<Descriptor>,
    /// Of indexes.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to (image spec, `subject`).
    pub subject: Option<Descriptor>,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
    /// 2, or absent in OCI artifact manifests.
    pub schema_version: Option<u32>,
}

/// What a manifest consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestKind {
    /// Blobs: images, and artifacts of other kinds.
    Image,
    /// Other manifests.
    Index,
}

/// Why bytes are not a manifest that can be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    #[error("the manifest has {size} bytes, but at most {} are allowed", MAX_MANIFEST_SIZE)]
    TooLarge { size: usize },
    #[error("the manifest is not valid JSON: {reason}")]
    Json { reason: String },
    #[error("the manifest is not a JSON object")]
    NotAnObject,
    #[error("the manifest has the key {path} twice, which clients read differently: keep one")]
    DuplicateKey { path: String },
    #[error(
        "the manifest has the key {found:?}, which some clients read as {path}: spell it as in the specification"
    )]
    MisspelledKey { path: String, found: String },
    #[error(
        "Docker image manifests of schema 1 are not supported: push the image again with a current client"
    )]
    Schema1,
    #[error("expected schemaVersion 2, found {found}")]
    SchemaVersion { found: String },
    #[error(
        "the Content-Type is {header:?}, but the manifest's mediaType is {body:?}: make them equal"
    )]
    MediaTypeMismatch { header: String, body: String },
    #[error(
        "the media type {media_type:?} is not supported: a manifest is JSON, of a type that ends in json"
    )]
    MediaTypeUnsupported { media_type: String },
    #[error(
        "can not tell an image from an index: expected a Content-Type, a mediaType, or one of the fields manifests, config and layers"
    )]
    UnknownKind,
    #[error("a manifest of type {media_type:?} must not have the field {field}")]
    UnexpectedField { media_type: String, field: &'static str },
    #[error("a manifest of type {media_type:?} must have the field {field}")]
    MissingField { media_type: String, field: &'static str },
    #[error("the manifest has more than {} descriptors in {field}", MAX_DESCRIPTORS)]
    TooManyDescriptors { field: &'static str },
    /// A field outside the descriptors; `path` is its JSON path.
    #[error("{path}: {reason}")]
    Field { path: String, reason: String },
    /// Something in a descriptor; `path` is its JSON path, such as `layers[3].digest`.
    #[error("{path}: {reason}")]
    Descriptor { path: String, reason: String },
    #[error("{path}: the digest algorithm {algorithm:?} is not supported: use sha256 or sha512")]
    UnknownAlgorithm { path: String, algorithm: String },
}

impl Manifest {
    /// Reads a manifest. `content_type` is the value of the header, if there is one.
    ///
    /// Unknown fields are ignored, as are unknown media types of layers. Refused is what clients
    /// might understand in different ways: a header that contradicts the body, keys that occur
    /// twice or differ from a known one only in case, fields of both an image and an index.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        parse::parse(bytes, content_type)
    }

    /// The type of artifact that this is: `artifactType`, or else, for images, the media type of
    /// the config (distribution spec, "Listing Referrers"). Never the empty string.
    pub fn effective_artifact_type(&self) -> Option<&str> {
        let config_type = || self.config.as_ref().map(|config| config.media_type.as_str());
        self.artifact_type
            .as_deref()
            .filter(|artifact_type| !artifact_type.is_empty())
            .or_else(config_type)
            .filter(|artifact_type| !artifact_type.is_empty())
    }

    /// The blobs that must be in the repository before this manifest: the config and the layers,
    /// except [optional](Self::optional_blobs) ones. In order, each digest once.
    pub fn required_blobs(&self) -> Vec<&Descriptor> {
        let layers = self.layers.iter().filter(|layer| !is_optional(layer));
        let mut seen = HashSet::new();
        self.config.iter().chain(layers).filter(|blob| seen.insert(blob.digest)).collect()
    }

    /// The layers that clients may fetch from elsewhere: of a non-distributable type, or with
    /// `urls`. In order, each digest once, without those that are required anyway.
    pub fn optional_blobs(&self) -> Vec<&Descriptor> {
        if !self.layers.iter().any(is_optional) {
            return Vec::new();
        }
        let mut seen: HashSet<Digest> =
            self.required_blobs().into_iter().map(|blob| blob.digest).collect();
        let layers = self.layers.iter().filter(|layer| is_optional(layer));
        layers.filter(|layer| seen.insert(layer.digest)).collect()
    }

    /// The manifests of an index; none for an image.
    pub fn children(&self) -> &[Descriptor] {
        &self.manifests
    }
}

fn is_optional(layer: &Descriptor) -> bool {
    !layer.urls.is_empty() || is_nondistributable(&layer.media_type)
}
