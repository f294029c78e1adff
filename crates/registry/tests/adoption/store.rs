//! Stores made by hand, as registry:2 leaves them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blobs::FileSystem;
use metadata::Metadata;
use oci::Digest;
use registry::{Adoption, AdoptionProgress, Children, Config, Registry};
use tempfile::TempDir;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A data folder.
pub(crate) struct Store {
    folder: TempDir,
}

impl Store {
    pub(crate) fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("orlop-adoption-");
        let folder = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap();
        Self { folder }
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A registry over the folder, as a start of the program would make it.
    pub(crate) async fn open(&self) -> Registry {
        let blobs = FileSystem::open(self.root()).unwrap();
        let metadata = Metadata::open_sqlite(&self.root().join("orlop/db")).await.unwrap();
        let rules =
            Config { require_blobs: false, require_children: Children::None, ..Config::default() };
        Registry::new(metadata, Arc::new(blobs), rules)
    }

    /// One that has adopted everything.
    pub(crate) async fn adopt(&self) -> Registry {
        let registry = self.open().await;
        let begun = registry.begin_adoption(false).await.unwrap();
        assert!(matches!(begun, Adoption::Begun { .. }), "{begun:?}");
        registry.adopt_all(4, &Arc::new(AdoptionProgress::default())).await.unwrap();
        registry
    }

    pub(crate) fn repositories(&self) -> PathBuf {
        self.root().join("docker/registry/v2/repositories")
    }

    pub(crate) fn path(&self, repository: &str, path: &str) -> PathBuf {
        self.repositories().join(repository).join(path)
    }

    pub(crate) fn blob(&self, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        write(&self.data(&digest), content);
        digest
    }

    /// The file of a blob.
    pub(crate) fn data(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let blobs = self.root().join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(&hex).join("data")
    }

    pub(crate) fn layer(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = self.blob(content);
        self.link(repository, "_layers", &digest, &digest.to_string());
        digest
    }

    /// `<part>/<alg>/<hex>/link`, whatever it holds.
    pub(crate) fn link(&self, repository: &str, part: &str, digest: &Digest, text: &str) {
        let path = format!("{part}/{}/{}/link", digest.algorithm(), digest.hex());
        write(&self.path(repository, &path), text.as_bytes());
    }

    pub(crate) fn manifest(&self, repository: &str, content: &str) -> Digest {
        let digest = self.blob(content.as_bytes());
        self.link(repository, "_manifests/revisions", &digest, &digest.to_string());
        digest
    }

    pub(crate) fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        self.link(repository, &format!("_manifests/tags/{tag}/index"), digest, &digest.to_string());
        let current = format!("_manifests/tags/{tag}/current/link");
        write(&self.path(repository, &current), digest.to_string().as_bytes());
    }

    /// An image with all that belongs to it.
    pub(crate) fn image(&self, repository: &str, tag: &str, seed: &str) -> Digest {
        let config = self.layer(repository, format!("{{\"seed\":{seed:?}}}").as_bytes());
        let layer = self.layer(repository, format!("layer of {seed}").as_bytes());
        let digest = self.manifest(repository, &image(&config, &[layer]));
        self.tag(repository, tag, &digest);
        digest
    }

    /// Every file below the repositories' folder and what it holds.
    pub(crate) fn links(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.repositories()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let content = fs::read(&path).unwrap_or_default();
                    let name = path.strip_prefix(self.repositories()).unwrap().to_owned();
                    files.insert(name, content);
                }
            }
        }
        files
    }

    /// Dates a link as if it were written a while from now.
    pub(crate) fn date_later(&self, repository: &str, path: &str) {
        let file = fs::File::options().write(true).open(self.path(repository, path)).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_mins(1)).unwrap();
    }
}

/// An image manifest.
pub(crate) fn image(config: &Digest, layers: &[Digest]) -> String {
    let descriptor = |kind: &str, digest: &Digest| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":9}}"#
        )
    };
    let layers = layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect::<Vec<_>>();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor("config.v1+json", config),
        layers.join(",")
    )
}

/// An index without a media type of its own.
pub(crate) fn index(children: &[Digest]) -> String {
    let child =
        |digest: &Digest| format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":9}}"#);
    let children = children.iter().map(child).collect::<Vec<_>>();
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","))
}

pub(crate) fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
