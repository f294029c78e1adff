//! Images come in from files and go out to files.

#![allow(clippy::unwrap_used)]

mod export;
mod import;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blobs::FileSystem;
use layout::{Images, Inventory, InventoryWriter, Target, Writer};
use metadata::Metadata;
use oci::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER_TAR, OCI_MANIFEST};
use oci::{Descriptor, Digest, Reference};
use registry::{
    Error, ExportFailed, ExportImages, ImageName, ImportImages, ManifestPush, Refusal, Registry,
    Selection, TransferProgress,
};
use serde_json::json;
use tempfile::TempDir;

/// A registry in a folder of its own.
struct Side {
    registry: Registry,
    folder: TempDir,
}

impl Side {
    async fn new() -> Self {
        Self::with(registry::Config::default()).await
    }

    async fn with(config: registry::Config) -> Self {
        Self::over(tempfile::tempdir().unwrap(), config).await
    }

    /// The same, with nothing in memory and perhaps other rules.
    async fn reopened(self, config: registry::Config) -> Self {
        let Self { registry, folder } = self;
        drop(registry);
        Self::over(folder, config).await
    }

    async fn over(folder: TempDir, config: registry::Config) -> Self {
        let blobs = FileSystem::open(folder.path()).unwrap();
        let metadata = Metadata::open_sqlite(&folder.path().join("m.sqlite")).await.unwrap();
        Self { registry: Registry::new(metadata, Arc::new(blobs), config), folder }
    }

    /// What an import refuses, and what it counts.
    async fn import(&self, from: &Path, name: Option<&str>) -> (Vec<String>, Counts) {
        self.run_import(from, name, false).await
    }

    async fn run_import(
        &self,
        from: &Path,
        name: Option<&str>,
        dry_run: bool,
    ) -> (Vec<String>, Counts) {
        let progress = Arc::new(TransferProgress::default());
        let import = ImportImages {
            registry: Some(self.registry.clone()),
            images: Arc::new(Images::open(from, &std::env::temp_dir()).unwrap()),
            name: name.map(image_name),
            dry_run,
            progress: Arc::clone(&progress),
        };
        let mut refused = Vec::new();
        import.run(|refusal| refused.push(line(refusal))).await.unwrap();
        (refused, Counts::of(&progress))
    }

    /// What an export refuses, and what it counts.
    async fn export(
        &self,
        to: &Path,
        wanted: Vec<Selection>,
        without: Option<&Path>,
    ) -> (Vec<String>, Counts) {
        let progress = Arc::new(TransferProgress::default());
        let export = ExportImages {
            registry: self.registry.clone(),
            wanted,
            without: without.map(|path| Inventory::open(path).unwrap()),
            progress: Arc::clone(&progress),
        };
        let writer = Writer::create(&Target::of(to), without.is_none()).unwrap();
        let mut refused = Vec::new();
        let done = export.run(writer, |refusal| refused.push(line(refusal))).await;
        let counts = Counts::of(&progress);
        match done {
            // What is there stays: an empty layout is of no use to anybody.
            Err(ExportFailed::Nothing) => assert_eq!(counts.images, 0),
            done => assert!(done.is_ok() && counts.images > 0),
        }
        (refused, counts)
    }

    async fn inventory(&self, file: &Path) -> u64 {
        let mut list = InventoryWriter::new(std::fs::File::create(file).unwrap());
        let count = self.registry.write_inventory(&mut list).await.unwrap().unwrap();
        list.finish().unwrap();
        count
    }

    /// Pushes a manifest as a client does.
    async fn push(&self, repository: &str, reference: &str, manifest: &serde_json::Value) {
        let push = ManifestPush {
            repository: repository.parse().unwrap(),
            reference: reference.parse().unwrap(),
            tags: Vec::new(),
            content_type: None,
            content: manifest.to_string().into(),
            preconditions: Vec::new(),
            classes: registry::Class::ALL.to_vec(),
        };
        self.registry.push_manifest(push).await.unwrap();
    }

    /// The digest that a tag or digest leads to.
    async fn target(&self, repository: &str, reference: &str) -> Option<Digest> {
        let reference: Reference = reference.parse().unwrap();
        match self.registry.pull_manifest(&repository.parse().unwrap(), &reference).await {
            Ok(pulled) => Some(pulled.digest),
            Err(Error::ManifestUnknown { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn serves(&self, repository: &str, digest: &Digest) -> bool {
        self.registry.stat_blob(&repository.parse().unwrap(), digest).await.is_ok()
    }

    /// All is well in it.
    async fn check(&self) {
        let check = self.registry.check(false, |_| ()).await.unwrap();
        assert!(check.findings.is_empty(), "{:?}", check.findings);
        assert!(check.incomplete.is_empty(), "{:?}", check.incomplete);
    }

    fn blob_path(&self, digest: &Digest) -> std::path::PathBuf {
        let hex = digest.hex();
        let (start, _) = hex.split_at(2);
        let path = format!("docker/registry/v2/blobs/sha256/{start}/{hex}/data");
        self.folder.path().join(path)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Counts {
    images: u64,
    manifests: u64,
    blobs: u64,
    present: u64,
    left_out: u64,
}

impl Counts {
    fn of(progress: &TransferProgress) -> Self {
        Self {
            images: progress.images.load(Ordering::Relaxed),
            manifests: progress.manifests.load(Ordering::Relaxed),
            blobs: progress.blobs.load(Ordering::Relaxed),
            present: progress.present.load(Ordering::Relaxed),
            left_out: progress.left_out.load(Ordering::Relaxed),
        }
    }
}

/// A layout that is being made.
struct Layout {
    folder: TempDir,
    writer: Option<Writer>,
}

impl Layout {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::create(&Target::Folder(folder.path().to_owned()), false).unwrap();
        Self { folder, writer: Some(writer) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn blob(&mut self, media_type: &str, content: &[u8]) -> Descriptor {
        let digest = Digest::sha256(content);
        self.writer.as_mut().unwrap().put(&digest, content).unwrap();
        Descriptor::new(media_type, digest, content.len() as u64)
    }

    /// An image of a configuration and a layer, which its name tells apart from others.
    fn image(&mut self, name: &str) -> Descriptor {
        self.image_about(name, None)
    }

    fn image_about(&mut self, name: &str, subject: Option<&Descriptor>) -> Descriptor {
        let layer = self.blob(OCI_LAYER_TAR, format!("layer of {name}").as_bytes());
        let shared = self.blob(OCI_LAYER_TAR, b"shared layer");
        self.image_of(name, &[&layer, &shared], subject)
    }

    fn image_of(
        &mut self,
        name: &str,
        layers: &[&Descriptor],
        subject: Option<&Descriptor>,
    ) -> Descriptor {
        let config = self.blob(OCI_CONFIG, format!(r#"{{"name":"{name}"}}"#).as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": layers,
            "subject": subject,
        });
        self.blob(OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    fn list(&mut self, children: &[&Descriptor]) -> Descriptor {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children});
        self.blob(OCI_INDEX, index.to_string().as_bytes())
    }

    /// Names a manifest in the index, or lists it without a name.
    fn add(&mut self, manifest: &Descriptor, name: &str) {
        let mut entry = manifest.clone();
        if !name.is_empty() {
            entry.annotations.insert(layout::REF_NAME.to_owned(), name.to_owned());
        }
        self.writer.as_mut().unwrap().add(&entry).unwrap();
    }

    fn finish(mut self) -> Self {
        self.writer.take().unwrap().finish().unwrap();
        self
    }

    fn file(&self, digest: &Digest) -> std::path::PathBuf {
        self.path().join("blobs/sha256").join(digest.hex())
    }
}

fn layer_of(name: &str) -> Digest {
    Digest::sha256(format!("layer of {name}").as_bytes())
}

fn image_name(text: &str) -> ImageName {
    let (repository, tag) = match text.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag.parse().unwrap())),
        None => (text, None),
    };
    ImageName { repository: repository.parse().unwrap(), tag }
}

fn selection(repository: &str, reference: Option<&str>) -> Selection {
    Selection {
        repository: repository.parse().unwrap(),
        reference: reference.map(|reference| reference.parse().unwrap()),
    }
}

fn line(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.place, refusal.problem)
}
