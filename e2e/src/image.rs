//! Images made on the spot, as folders in the OCI image layout, which every
//! client can read. Nothing comes from a network: the program in them is
//! Debian's static busybox, the rest is text and pseudo-random bytes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::http::sha256;
use crate::scenario::Stage;

/// The static program that every runnable image holds.
const PROGRAM: &str = "/bin/busybox";
/// The names under which it is called.
const APPLETS: [&str; 3] = ["sh", "cat", "sha256sum"];

pub(crate) mod media_type {
    pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub(crate) const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    pub(crate) const DOCKER_LIST: &str =
        "application/vnd.docker.distribution.manifest.list.v2+json";
    pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// All that a client of today accepts.
    pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub(crate) const MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
}

/// A folder in the OCI image layout.
pub(crate) struct Layout {
    pub(crate) folder: PathBuf,
    tagged: Vec<Value>,
}

impl Layout {
    pub(crate) fn new(stage: &Stage, name: &str) -> Result<Self> {
        let folder = stage.folder(name)?;
        std::fs::create_dir_all(folder.join("blobs/sha256"))?;
        std::fs::write(
            folder.join("oci-layout"),
            json!({"imageLayoutVersion": "1.0.0"}).to_string(),
        )?;
        Ok(Self { folder, tagged: Vec::new() })
    }

    /// Stores bytes; their descriptor.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = sha256(bytes);
        let hex = digest.trim_start_matches("sha256:");
        std::fs::write(self.folder.join("blobs/sha256").join(hex), bytes)
            .context("cannot write a blob of an image layout")?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    }

    /// Stores a document; its descriptor.
    pub(crate) fn document(&self, media_type: &str, document: &Value) -> Result<Value> {
        self.blob(media_type, document.to_string().as_bytes())
    }

    /// Names a manifest in the layout's index.
    pub(crate) fn tag(&mut self, manifest: &Value, tag: &str) -> Result<()> {
        let mut entry = manifest.clone();
        if let Some(fields) = entry.as_object_mut() {
            fields.insert(
                "annotations".to_owned(),
                json!({"org.opencontainers.image.ref.name": tag}),
            );
        }
        self.tagged.push(entry);
        std::fs::write(
            self.folder.join("index.json"),
            json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_INDEX,
                "manifests": self.tagged,
            })
            .to_string(),
        )
        .context("cannot write the index of an image layout")
    }

    /// `PATH:TAG`, as clients name an image in a layout.
    pub(crate) fn name(&self, tag: &str) -> String {
        format!("{}:{tag}", self.folder.display())
    }

    /// The layout as one tar file.
    pub(crate) fn archive(&self, stage: &Stage) -> Result<PathBuf> {
        let file = self.folder.with_extension("tar");
        stage.client("tar").arg("-cf").arg(&file).arg("-C").arg(&self.folder).arg(".").succeed()?;
        Ok(file)
    }
}

/// What a container of [`runnable`] prints.
pub(crate) fn greeting(name: &str) -> String {
    format!("greetings from {name}")
}

/// A layout with one image, tagged `v1`, whose containers print
/// [`greeting`] of its name. The manifest's digest.
pub(crate) fn runnable(stage: &Stage, name: &str) -> Result<(Layout, String)> {
    let mut layout = Layout::new(stage, name)?;
    let manifest = add_runnable(stage, &layout, name, "amd64")?;
    layout.tag(&manifest, "v1")?;
    let digest = digest(&manifest)?;
    Ok((layout, digest))
}

/// A layout with an index of two images, `amd64` and `arm64`, tagged `v1`.
/// The digests of the index and of the two.
pub(crate) fn multi_arch(stage: &Stage, name: &str) -> Result<(Layout, String, [String; 2])> {
    let mut layout = Layout::new(stage, name)?;
    let mut children = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let mut child =
            add_runnable(stage, &layout, &format!("{name} on {architecture}"), architecture)?;
        if let Some(fields) = child.as_object_mut() {
            fields.insert(
                "platform".to_owned(),
                json!({"os": "linux", "architecture": architecture}),
            );
        }
        children.push(child);
    }
    let index = layout.document(
        media_type::OCI_INDEX,
        &json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": children,
        }),
    )?;
    layout.tag(&index, "v1")?;
    let mut digests = children.iter().map(digest);
    let (first, second) = (digests.next(), digests.next());
    Ok((
        layout,
        digest(&index)?,
        [first.context("no first child")??, second.context("no second child")??],
    ))
}

/// An image in three layers: the program, half a megabyte of pseudo-random
/// bytes, and the greeting. Its descriptor.
fn add_runnable(stage: &Stage, layout: &Layout, name: &str, architecture: &str) -> Result<Value> {
    let root = stage.folder("root")?;
    let tree = tempfile::tempdir_in(&root)?;
    let folders = ["program", "ballast", "greeting"].map(|layer| tree.path().join(layer));
    let [program, ballast, message] = &folders;
    write_program(program)?;
    std::fs::create_dir_all(ballast)?;
    std::fs::write(ballast.join("ballast"), pseudo_random(name, 512 * 1024))?;
    std::fs::create_dir_all(message)?;
    std::fs::write(message.join("greeting"), greeting(name))?;

    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for folder in &folders {
        let tar = tar(stage, folder)?;
        diff_ids.push(sha256(&tar));
        let compressed = stage.client("gzip").args(["--no-name", "--fast"]).input(tar).succeed()?;
        layers.push(layout.blob(media_type::OCI_LAYER_GZIP, &compressed.stdout)?);
    }
    let config = layout.document(
        media_type::OCI_CONFIG,
        &json!({
            "created": "2026-01-01T00:00:00Z",
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/cat", "/greeting"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": folders.iter().map(|_| json!({"created_by": "e2e"})).collect::<Vec<_>>(),
        }),
    )?;
    layout.document(
        media_type::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": layers,
        }),
    )
}

/// Writes `bin/` with the static program under all its names.
pub(crate) fn write_program(folder: &Path) -> Result<()> {
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy(PROGRAM, bin.join("busybox"))
        .with_context(|| format!("no {PROGRAM}: run e2e/install.sh"))?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", bin.join(applet))?;
    }
    Ok(())
}

/// A folder as a tar file, the same bytes every time.
pub(crate) fn tar(stage: &Stage, folder: &Path) -> Result<Vec<u8>> {
    let outcome = stage
        .client("tar")
        .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0"])
        .args(["--numeric-owner", "--format=ustar", "-C"])
        .arg(folder)
        .args(["-c", "."])
        .succeed()?;
    Ok(outcome.stdout)
}

/// Bytes that do not compress and that differ by name only, so that every run
/// sends the same.
pub(crate) fn pseudo_random(name: &str, length: usize) -> Vec<u8> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// The digest in a descriptor.
pub(crate) fn digest(descriptor: &Value) -> Result<String> {
    crate::http::text(descriptor, "digest").map(str::to_owned)
}
