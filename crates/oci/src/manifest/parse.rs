//! The rules by which bytes become a [`Manifest`].

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::json::{ObjectError, is_too_deep, read_list, read_object};
use super::{MAX_DESCRIPTORS, MAX_MANIFEST_SIZE, Manifest, ManifestError, ManifestKind};
use crate::media_type::{
    DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST,
    is_manifest_list_like, is_schema1, without_parameters,
};
use crate::text::excerpt;
use crate::{Descriptor, Digest, DigestError, Platform};

pub(super) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Manifest, ManifestError> {
    let header = content_type.map(name).filter(|header| !header.is_empty());
    if header.as_deref().is_some_and(is_schema1) {
        return Err(ManifestError::Schema1);
    }
    let document = Document::read(bytes)?;
    let declared = declared_type(header, &document)?;
    let schema_version = schema_version(&document, declared.as_deref())?;
    let kind = kind(&document, declared.as_deref())?;
    let media_type = declared.unwrap_or_else(|| {
        match kind {
            ManifestKind::Image => OCI_MANIFEST,
            ManifestKind::Index => OCI_INDEX,
        }
        .to_owned()
    });
    check_fields(&document, kind, &media_type)?;

    let (layers, layers_field) = match media_type.as_str() {
        OCI_ARTIFACT => (document.blobs, "blobs"),
        _ => (document.layers, "layers"),
    };
    Ok(Manifest {
        config: read_one(document.config, "config")?,
        layers: read_all(layers, layers_field)?,
        manifests: read_all(document.manifests, "manifests")?,
        subject: read_one(document.subject, "subject")?,
        artifact_type: top_level(document.artifact_type, "artifactType", "a string")?,
        annotations: top_level(document.annotations, "annotations", STRING_MAP)?
            .unwrap_or_default(),
        media_type,
        kind,
        schema_version,
    })
}

/// The top-level fields that mean something here. `null` is as good as absent.
struct Document<'a> {
    schema_version: Option<&'a RawValue>,
    media_type: Option<&'a RawValue>,
    config: Option<&'a RawValue>,
    layers: Option<&'a RawValue>,
    manifests: Option<&'a RawValue>,
    blobs: Option<&'a RawValue>,
    subject: Option<&'a RawValue>,
    artifact_type: Option<&'a RawValue>,
    annotations: Option<&'a RawValue>,
}

impl<'a> Document<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ManifestError> {
        const KEYS: [&str; 9] = [
            "schemaVersion",
            "mediaType",
            "config",
            "layers",
            "manifests",
            "blobs",
            "subject",
            "artifactType",
            "annotations",
        ];
        if bytes.len() > MAX_MANIFEST_SIZE {
            return Err(ManifestError::TooLarge { size: bytes.len() });
        }
        let text = str::from_utf8(bytes)
            .map_err(|error| ManifestError::Json { reason: error.to_string() })?;
        if is_too_deep(text) {
            return Err(ManifestError::Json { reason: "it is nested too deeply".to_owned() });
        }
        let [
            schema_version,
            media_type,
            config,
            layers,
            manifests,
            blobs,
            subject,
            artifact_type,
            annotations,
        ] = read_object(text, &KEYS).map_err(|error| match error {
            ObjectError::Json(error) => ManifestError::Json { reason: error.to_string() },
            ObjectError::NotAnObject => ManifestError::NotAnObject,
            ObjectError::Duplicate { key } => ManifestError::DuplicateKey { path: key.to_owned() },
            ObjectError::Misspelled { key, found } => {
                ManifestError::MisspelledKey { path: key.to_owned(), found: excerpt(&found) }
            }
        })?;
        Ok(Self {
            schema_version,
            media_type,
            config,
            layers,
            manifests,
            blobs,
            subject,
            artifact_type,
            annotations,
        })
    }
}

/// The type that header or body, or both in agreement, say the manifest is of.
fn declared_type(
    header: Option<String>,
    document: &Document<'_>,
) -> Result<Option<String>, ManifestError> {
    let body = top_level::<String>(document.media_type, "mediaType", "a string")?
        .map(|body| name(&body))
        .filter(|body| !body.is_empty());
    if body.as_deref().is_some_and(is_schema1) {
        return Err(ManifestError::Schema1);
    }
    if let (Some(header), Some(body)) = (&header, &body)
        && !header.eq_ignore_ascii_case(body)
    {
        return Err(ManifestError::MediaTypeMismatch {
            header: excerpt_of_type(header),
            body: excerpt_of_type(body),
        });
    }
    match body.or(header) {
        Some(other) if !other.to_ascii_lowercase().ends_with("json") => {
            Err(ManifestError::MediaTypeUnsupported { media_type: excerpt_of_type(&other) })
        }
        declared => Ok(declared),
    }
}

/// The name of a type, without parameters. Those that mean something here are in lower case; others
/// are kept as they are written.
fn name(media_type: &str) -> String {
    let known = [DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST];
    let written = without_parameters(media_type);
    let known = known.into_iter().find(|known| known.eq_ignore_ascii_case(written));
    known.unwrap_or(written).to_owned()
}

fn schema_version(
    document: &Document<'_>,
    declared: Option<&str>,
) -> Result<Option<u32>, ManifestError> {
    match document.schema_version.map(RawValue::get) {
        Some("2") => Ok(Some(2)),
        Some("1") => Err(ManifestError::Schema1),
        None if declared == Some(OCI_ARTIFACT) => Ok(None),
        found => Err(ManifestError::SchemaVersion {
            found: found.map_or_else(|| "none".to_owned(), excerpt),
        }),
    }
}

fn kind(document: &Document<'_>, declared: Option<&str>) -> Result<ManifestKind, ManifestError> {
    match declared {
        Some(OCI_MANIFEST | DOCKER_MANIFEST | OCI_ARTIFACT) => return Ok(ManifestKind::Image),
        Some(index) if is_manifest_list_like(index) => return Ok(ManifestKind::Index),
        _ => {}
    }
    if document.manifests.is_some() {
        Ok(ManifestKind::Index)
    } else if document.config.is_some() || document.layers.is_some() {
        Ok(ManifestKind::Image)
    } else {
        Err(ManifestError::UnknownKind)
    }
}

/// Refuses fields of the other kind, with which another reader might take the manifest for that,
/// and images without config, which no client can run.
fn check_fields(
    document: &Document<'_>,
    kind: ManifestKind,
    media_type: &str,
) -> Result<(), ManifestError> {
    let config = ("config", document.config);
    let layers = ("layers", document.layers);
    let manifests = ("manifests", document.manifests);
    let forbidden: &[_] = match (kind, media_type) {
        (_, OCI_ARTIFACT) => &[config, layers, manifests],
        (ManifestKind::Image, _) => &[manifests],
        (ManifestKind::Index, _) => &[config, layers],
    };
    for (field, value) in forbidden {
        if value.is_some() {
            let media_type = excerpt_of_type(media_type);
            return Err(ManifestError::UnexpectedField { media_type, field });
        }
    }
    if matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST) && document.config.is_none() {
        let media_type = excerpt_of_type(media_type);
        return Err(ManifestError::MissingField { media_type, field: "config" });
    }
    Ok(())
}

fn read_one(
    raw: Option<&RawValue>,
    field: &'static str,
) -> Result<Option<Descriptor>, ManifestError> {
    raw.map(|raw| read_descriptor(raw, Place { field, index: None })).transpose()
}

fn read_all(raw: Option<&RawValue>, field: &'static str) -> Result<Vec<Descriptor>, ManifestError> {
    let Some(raw) = raw else {
        return Ok(Vec::new());
    };
    let list = read_list(raw, MAX_DESCRIPTORS).map_err(|_| ManifestError::Field {
        path: field.to_owned(),
        reason: mismatch("a list of descriptors", raw),
    })?;
    list.ok_or(ManifestError::TooManyDescriptors { field })?
        .into_iter()
        .enumerate()
        .map(|(index, raw)| read_descriptor(raw, Place { field, index: Some(index) }))
        .collect()
}

/// Where a descriptor stands, for messages.
#[derive(Clone, Copy)]
struct Place {
    field: &'static str,
    index: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}[{index}]", self.field),
            None => f.write_str(self.field),
        }
    }
}

fn read_descriptor(raw: &RawValue, place: Place) -> Result<Descriptor, ManifestError> {
    const KEYS: [&str; 8] =
        ["mediaType", "digest", "size", "urls", "annotations", "artifactType", "platform", "data"];
    let [media_type, digest, size, urls, annotations, artifact_type, platform, data] =
        read_object(raw.get(), &KEYS).map_err(|error| match error {
            ObjectError::Json(_) | ObjectError::NotAnObject => {
                invalid(place.to_string(), mismatch("a descriptor", raw))
            }
            ObjectError::Duplicate { key } => {
                ManifestError::DuplicateKey { path: format!("{place}.{key}") }
            }
            ObjectError::Misspelled { key, found } => ManifestError::MisspelledKey {
                path: format!("{place}.{key}"),
                found: excerpt(&found),
            },
        })?;
    Ok(Descriptor {
        media_type: field(media_type, place, "mediaType", "a string")?.unwrap_or_default(),
        digest: read_digest(digest, place)?,
        size: read_size(size, place)?,
        urls: field(urls, place, "urls", "a list of strings")?.unwrap_or_default(),
        annotations: field::<BTreeMap<_, _>>(annotations, place, "annotations", STRING_MAP)?
            .unwrap_or_default(),
        artifact_type: field(artifact_type, place, "artifactType", "a string")?,
        platform: field::<Platform>(platform, place, "platform", "an object as of the image spec")?,
        data: field(data, place, "data", "a string")?,
    })
}

fn read_digest(raw: Option<&RawValue>, place: Place) -> Result<Digest, ManifestError> {
    let path = || format!("{place}.digest");
    let text: String = field(raw, place, "digest", "a string")?
        .ok_or_else(|| invalid(path(), "expected a digest, found none".to_owned()))?;
    text.parse().map_err(|error| match error {
        DigestError::UnknownAlgorithm { algorithm } => {
            ManifestError::UnknownAlgorithm { path: path(), algorithm }
        }
        error => invalid(path(), error.to_string()),
    })
}

/// A size that also fits in the signed numbers of databases and of other languages.
fn read_size(raw: Option<&RawValue>, place: Place) -> Result<u64, ManifestError> {
    const EXPECTED: &str = "a whole number from 0 to 9223372036854775807";
    let path = || format!("{place}.size");
    let size: u64 = field(raw, place, "size", EXPECTED)?
        .ok_or_else(|| invalid(path(), format!("expected {EXPECTED}, found none")))?;
    match i64::try_from(size) {
        Ok(_) => Ok(size),
        Err(_) => Err(invalid(path(), format!("expected {EXPECTED}, found {size}"))),
    }
}

const STRING_MAP: &str = "an object of strings";

/// A field of a descriptor.
fn field<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    place: Place,
    name: &str,
    expected: &str,
) -> Result<Option<T>, ManifestError> {
    read_value(raw, expected).map_err(|reason| invalid(format!("{place}.{name}"), reason))
}

/// A field of the manifest itself.
fn top_level<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, ManifestError> {
    read_value(raw, expected)
        .map_err(|reason| ManifestError::Field { path: name.to_owned(), reason })
}

fn read_value<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    expected: &str,
) -> Result<Option<T>, String> {
    raw.map(|raw| serde_json::from_str(raw.get()).map_err(|_| mismatch(expected, raw))).transpose()
}

fn invalid(path: String, reason: String) -> ManifestError {
    ManifestError::Descriptor { path, reason }
}

fn mismatch(expected: &str, found: &RawValue) -> String {
    format!("expected {expected}, found {}", excerpt(found.get()))
}

/// Media types are longer than most words, but still bounded in messages.
fn excerpt_of_type(media_type: &str) -> String {
    match media_type.char_indices().nth(128) {
        Some((end, _)) => format!("{}…", media_type.get(..end).unwrap_or_default()),
        None => media_type.to_owned(),
    }
}
