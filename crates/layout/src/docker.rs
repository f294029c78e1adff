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
use std::rc::Rc;

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

/// Bytes of all manifests that are made, at most.
const MAX_MANIFESTS: usize = 256 << 20;

/// Layers that all configurations list, at most.
const MAX_LAYERS: usize = 1 << 20;

/// An archive, and the manifests made for it.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    pub(crate) entries: Vec<Entry>,
    manifests: HashMap<Digest, Vec<u8>>,
    /// Configurations and layers.
    blobs: HashMap<Digest, Section>,
}

/// Makes the manifests. Nothing is read twice, however many images have it in common.
#[derive(Default)]
struct Maker {
    archive: Archive,
    /// Bytes in `archive.manifests`.
    made: usize,
    /// By their names.
    configs: HashMap<String, Rc<ReadConfig>>,
    /// Layers in `configs`.
    listed: usize,
    /// Layers that are compressed, by their names, and why one can not be unpacked.
    packed: HashMap<String, Result<Packed, String>>,
}

struct ReadConfig {
    digest: Digest,
    size: u64,
    diff_ids: Vec<Digest>,
}

#[derive(Clone, Copy)]
struct Packed {
    digest: Digest,
    diff_id: Digest,
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
        let mut maker = Maker::default();
        for image in images {
            let descriptor = maker.add(files, &image);
            let name = &image.config;
            let entries = &mut maker.archive.entries;
            match (descriptor, image.repo_tags.unwrap_or_default().as_slice()) {
                (Err(error), tags) => {
                    let place = tags.first().unwrap_or(name);
                    entries.push(Entry::bad(place, error.to_string()));
                }
                (Ok(descriptor), []) => {
                    entries.push(Entry::new(name, descriptor, Ok(None)));
                }
                (Ok(descriptor), tags) => {
                    let named = tags.iter().map(|tag| {
                        Entry::new(tag, descriptor.clone(), Label::parse(tag).map(Some))
                    });
                    entries.extend(named);
                }
            }
        }
        Ok(maker.archive)
    }

    /// The manifest of this digest, if it is one that was made.
    pub(crate) fn manifest(&self, digest: &Digest) -> Option<&[u8]> {
        self.manifests.get(digest).map(Vec::as_slice)
    }

    /// The configuration or layer of this digest, if it is one of the archive.
    pub(crate) fn blob(&self, digest: &Digest) -> Option<Section> {
        self.blobs.get(digest).cloned()
    }
}

impl Maker {
    fn add(&mut self, files: &Files, image: &Image) -> Result<Descriptor, Error> {
        let config = self.config(files, &image.config)?;
        let paths = image.layers.as_deref().unwrap_or_default();
        if config.diff_ids.len() != paths.len() {
            let (expected, found) = (config.diff_ids.len(), paths.len());
            let problem = format!("the image has {expected} layers, but {found} are listed");
            return Err(Error::member(&image.config, problem));
        }
        let layers = paths.iter().zip(&config.diff_ids);
        let layers = layers.map(|(path, diff_id)| self.layer(files, path, *diff_id));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST,
            config: Descriptor::new(OCI_CONFIG, config.digest, config.size),
            layers,
        };
        let manifest = serde_json::to_vec(&manifest)
            .map_err(|error| Error::member(&image.config, error.to_string()))?;
        let digest = Digest::sha256(&manifest);
        let size = manifest.len() as u64;
        is_short(&digest, size)?;
        if !self.archive.manifests.contains_key(&digest) {
            self.made += manifest.len();
            if self.made > MAX_MANIFESTS {
                let problem = format!("the manifests have more than {MAX_MANIFESTS} bytes");
                return Err(Error::member(DOCKER_FILE, problem));
            }
            self.archive.manifests.insert(digest, manifest);
        }
        Ok(Descriptor::new(OCI_MANIFEST, digest, size))
    }

    fn config(&mut self, files: &Files, path: &str) -> Result<Rc<ReadConfig>, Error> {
        if let Some(config) = self.configs.get(path) {
            return Ok(Rc::clone(config));
        }
        let section = files.find(path)?.ok_or_else(|| missing(path))?;
        let content = files.read(path, oci::MAX_MANIFEST_SIZE as u64)?;
        let content = content.ok_or_else(|| missing(path))?;
        let digest = check_name(path, &content)?;
        let parsed: Config = serde_json::from_slice(&content).map_err(|error| {
            Error::member(path, format!("not the configuration of an image: {error}"))
        })?;
        let diff_ids = parsed.rootfs.diff_ids.unwrap_or_default();
        self.listed += diff_ids.len();
        if self.listed > MAX_LAYERS {
            let problem = format!("the images have more than {MAX_LAYERS} layers");
            return Err(Error::member(DOCKER_FILE, problem));
        }
        self.archive.blobs.insert(digest, section);
        let config = ReadConfig { digest, size: content.len() as u64, diff_ids };
        Ok(Rc::clone(self.configs.entry(path.to_owned()).or_insert(Rc::new(config))))
    }

    fn layer(&mut self, files: &Files, path: &str, diff_id: Digest) -> Result<Descriptor, Error> {
        let section = files.find(path)?.ok_or_else(|| missing(path))?;
        let layer = match self.packed(path, &section)? {
            // It is compared with its digest when it is stored.
            None => Descriptor::new(OCI_LAYER_TAR, diff_id, section.size()),
            Some(packed) if packed.diff_id == diff_id => {
                Descriptor::new(OCI_LAYER, packed.digest, section.size())
            }
            Some(packed) => {
                let found = packed.diff_id;
                let problem = format!("expected the layer {diff_id}, unpacked it is {found}");
                return Err(Error::member(path, problem));
            }
        };
        self.archive.blobs.insert(layer.digest, section);
        Ok(layer)
    }

    /// What a layer is that is compressed; `None` if it is not.
    fn packed(&mut self, path: &str, section: &Section) -> Result<Option<Packed>, Error> {
        let failed = |error: String| Error::member(path, error);
        if let Some(packed) = self.packed.get(path) {
            return packed.clone().map(Some).map_err(failed);
        }
        let mut start = [0; 2];
        let read = section.read_at(0, &mut start).map_err(|error| failed(error.to_string()))?;
        if !is_gzip(start.get(..read).unwrap_or_default()) {
            return Ok(None);
        }
        let packed = Packed::read(section).map_err(|error| error.to_string());
        self.packed.insert(path.to_owned(), packed.clone());
        packed.map(Some).map_err(failed)
    }
}

impl Packed {
    fn read(section: &Section) -> std::io::Result<Self> {
        let digest = hash(section.reader())?;
        let diff_id = hash(MultiGzDecoder::new(section.reader()))?;
        Ok(Self { digest, diff_id })
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

fn missing(path: &str) -> Error {
    Error::member(path, "it is not in the archive")
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
