//! The vocabulary of container registries: repository names, tags, digests, media types,
//! manifests, error codes, and the request headers that speak about them.
//!
//! Everything here is pure: no I/O, no clock, no async. Parsers take input from the network, so
//! each of them is linear in time, bounded in memory and returns an error instead of panicking.
//!
//! "Distribution spec" and "image spec" mean the OCI specifications of those names, version 1.1.

#![forbid(unsafe_code)]

mod accept;
mod descriptor;
mod digest;
mod error_code;
mod hasher;
mod manifest;
pub mod media_type;
mod name;
mod range;
mod reference;
mod tag;
mod text;

pub use accept::Accept;
pub use descriptor::{Descriptor, Platform};
pub use digest::{Algorithm, Digest, DigestError};
pub use error_code::{ErrorBody, ErrorCode, ErrorEntry};
pub use hasher::{Hashed, Hasher, HasherError};
pub use manifest::{MAX_DESCRIPTORS, MAX_MANIFEST_SIZE, Manifest, ManifestError, ManifestKind};
pub use name::{NameError, RepositoryName};
pub use range::{ByteRange, ContentRangeError, RangeRequest, parse_content_range, parse_range};
pub use reference::{Reference, ReferenceError};
pub use tag::{Tag, TagError};
