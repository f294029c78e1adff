//! Images as files: OCI image layouts (image spec, "OCI Image Layout", version 1.0), as folders and
//! as tars, and the archives of `docker save`.
//!
//! [`Images`] reads them, [`Writer`] writes them, and an [`Inventory`] lists what another registry
//! holds, so that it need not be sent. What is read comes from strangers: names can not lead out of
//! the folder or archive, everything that is held in memory has a limit, and documents are compared
//! with their digests. (Blobs are not: whoever stores them hashes them anyway.)
//!
//! Input and output here wait for the disk. Memory does not grow with blobs, only with their
//! number: about 100 bytes for each member of a tar.

#![forbid(unsafe_code)]

mod docker;
mod error;
mod files;
mod images;
mod index;
mod inventory;
mod metered;
mod name;
mod partial;
mod spool;
mod tarball;
mod writer;

pub use error::Error;
pub use files::Section;
pub use images::{Content, Entry, Images};
pub use inventory::{Inventory, InventoryWriter};
pub use name::{Label, spell};
pub use partial::Partial;
pub use writer::{RunnableImage, Target, Writer, Written};

/// The annotation that names an image in an index (image spec, "Pre-Defined Annotation Keys").
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation in which containerd and Docker keep an image's full name.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// The version of the layout that is written.
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The files of a layout (image spec, "OCI Image Layout") and of `docker save`.
const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const DOCKER_FILE: &str = "manifest.json";

/// Where a blob lies in a layout.
fn blob_path(digest: &oci::Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// What tells digests apart in a set, in half the space.
fn key(digest: &oci::Digest) -> [u8; 32] {
    digest.hash().first_chunk().copied().unwrap_or_default()
}
