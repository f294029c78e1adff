//! The archives of `docker save`, as image manifests.
//!
//! Such an archive has no manifests of a registry, so they are made here. Configurations stay as
//! they are. So do layers: a layer of an archive is a tar whose digest the configuration names
//! (`diff_id`), and it becomes a blob of just that digest. It could be compressed, but then its
//! digest would depend on the version of a compressor; so the same archive gives the same digests
//! everywhere and always, and nothing is written that cannot be compared with what was meant.
//! Docker itself does the same since version 25, whose archives are OCI image layouts, too.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use oci::media_type::{OCI_CONFIG, OCI_LAYER, OCI_LAYER_TAR, OCI_MANIFEST};
use oci::{Descriptor, Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::files::{Files, Section};
use crate::images::{Entry, is_short};
use crate::name::Label;
use crate::spool::is_gzip;
use crate::{DOCKER_FILE, Error};

/// Bytes of `manifest.json`, at most.
const MAX_LIST: u64 = 64 << 20;

/// An archive, and the manifests made for it.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    pub(crate) entries: Vec<Entry>,
    /// Manifests and configurations.
    documents: HashMap<Digest, Vec<u8>>,
    layers: HashMap<Digest, Section>,
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Archive {
    /// Makes a manifest for every image. One that can not be made is an entry with the reason.
    /// Layers that are compressed (not by Docker, but by other tools) are read for it.
    pub(crate) fn read(files: &Files) -> Result<Self, Error> {
        let list = files.read(DOCKER_FILE, MAX_LIST)?.unwrap_or_default();
        let images: Vec<Image> = serde_json::from_slice(&list).map_err(|error| {
            Error::member(DOCKER_FILE, format!("not the list of `docker save`: {error}"))
        })?;
        let mut archive = Self::default();
        for image in images {
            let descriptor = archive.add(files, &image);
            let name = &image.config;
            match (descriptor, image.repo_tags.unwrap_or_default().as_slice()) {
                (Err(error), tags) => {
                    let place = tags.first().unwrap_or(name);
                    archive.entries.push(Entry::bad(place, error.to_string()));
                }
                (Ok(descriptor), []) => {
                    archive.entries.push(Entry::new(name, descriptor, Ok(None)));
                }
                (Ok(descriptor), tags) => {
                    let named = tags.iter().map(|tag| {
                        Entry::new(tag, descriptor.clone(), Label::parse(tag).map(Some))
                    });
                    archive.entries.extend(named);
                }
            }
        }
        Ok(archive)
    }

    /// The document of this digest, if it is one of the archive.
    pub(crate) fn document(&self, digest: &Digest) -> Option<&[u8]> {
        self.documents.get(digest).map(Vec::as_slice)
    }

    /// The layer of this digest, if it is one of the archive.
    pub(crate) fn layer(&self, digest: &Digest) -> Option<Section> {
        self.layers.get(digest).cloned()
    }

    fn add(&mut self, files: &Files, image: &Image) -> Result<Descriptor, Error> {
        let missing = |path: &str| Error::member(path, "it is not in the archive");
        let config = files.read(&image.config, oci::MAX_MANIFEST_SIZE as u64)?;
        let config = config.ok_or_else(|| missing(&image.config))?;
        let digest = check_name(&image.config, &config)?;
        let parsed: Config = serde_json::from_slice(&config).map_err(|error| {
            Error::member(&image.config, format!("not the configuration of an image: {error}"))
        })?;
        let diff_ids = parsed.rootfs.diff_ids.unwrap_or_default();
        let paths = image.layers.as_deref().unwrap_or_default();
        if diff_ids.len() != paths.len() {
            let (expected, found) = (diff_ids.len(), paths.len());
            let problem = format!("the image has {expected} layers, but {found} are listed");
            return Err(Error::member(&image.config, problem));
        }
        let mut layers = Vec::with_capacity(paths.len());
        for (path, diff_id) in paths.iter().zip(diff_ids) {
            let section = files.find(path)?.ok_or_else(|| missing(path))?;
            let layer = describe_layer(path, &section, diff_id)?;
            self.layers.insert(layer.digest, section);
            layers.push(layer);
        }
        let size = config.len() as u64;
        self.documents.insert(digest, config);
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST,
            config: Descriptor::new(OCI_CONFIG, digest, size),
            layers,
        };
        let manifest = serde_json::to_vec(&manifest)
            .map_err(|error| Error::member(&image.config, error.to_string()))?;
        let digest = Digest::sha256(&manifest);
        let size = manifest.len() as u64;
        is_short(&digest, size)?;
        self.documents.insert(digest, manifest);
        Ok(Descriptor::new(OCI_MANIFEST, digest, size))
    }
}

/// The digest of a configuration, which its name may tell, too.
fn check_name(path: &str, content: &[u8]) -> Result<Digest, Error> {
    let found = Digest::sha256(content);
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let hex = name.strip_suffix(".json").unwrap_or(name);
    match format!("sha256:{hex}").parse::<Digest>() {
        Ok(expected) if expected != found => Err(Error::Digest { expected, found }),
        _ => Ok(found),
    }
}

fn describe_layer(path: &str, section: &Section, diff_id: Digest) -> Result<Descriptor, Error> {
    let failed = |error: std::io::Error| Error::member(path, error.to_string());
    let mut start = [0; 2];
    let read = section.read_at(0, &mut start).map_err(failed)?;
    if !is_gzip(start.get(..read).unwrap_or_default()) {
        // It is compared with its digest when it is stored.
        return Ok(Descriptor::new(OCI_LAYER_TAR, diff_id, section.size()));
    }
    let digest = hash(section.reader()).map_err(failed)?;
    let found = hash(MultiGzDecoder::new(section.reader())).map_err(failed)?;
    if found != diff_id {
        let problem = format!("expected the layer {diff_id}, unpacked it is {found}");
        return Err(Error::member(path, problem));
    }
    Ok(Descriptor::new(OCI_LAYER, digest, section.size()))
}

fn hash(mut content: impl Read) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new(None);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = content.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finish().sha256);
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}
