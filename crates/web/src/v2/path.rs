//! What a path under `/v2/` names.

use http::Method;
use oci::{ErrorCode, RepositoryName};
use percent_encoding::percent_decode_str;

use crate::error::Error;
use crate::metrics::Handler;

/// A path under `/v2/`. Repository names hold slashes, so the end decides what a path is. A name
/// that breaks the grammar is kept as the error that it deserves.
#[derive(Debug)]
pub(crate) enum Path {
    /// `/v2/`
    Base,
    /// `/v2/<name>/blobs/<digest>`
    Blob(Name, String),
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/manifests/<reference>`
    Manifest(Name, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(Name, String),
    /// `/v2/<name>/tags/list`
    Tags(Name),
    /// Anything else.
    Unknown,
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Name, String),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Name),
}

type Name = Result<RepositoryName, Error>;

/// What reads and changes nothing.
pub(crate) const READ: [Method; 2] = [Method::GET, Method::HEAD];
pub(super) const BLOB: [Method; 3] = [Method::DELETE, Method::GET, Method::HEAD];
pub(super) const MANIFEST: [Method; 4] = [Method::DELETE, Method::GET, Method::HEAD, Method::PUT];
const UPLOAD: [Method; 5] = [Method::DELETE, Method::GET, Method::HEAD, Method::PATCH, Method::PUT];
const UPLOADS: [Method; 1] = [Method::POST];

impl Path {
    /// Parses what comes after `/v2/`, percent-encoded or not.
    pub(crate) fn parse(path: &str) -> Self {
        let Ok(path) = percent_decode_str(path).decode_utf8() else {
            return Self::Unknown;
        };
        match &*path {
            "" => return Self::Base,
            "_catalog" => return Self::Catalog,
            _ => {}
        }
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return Self::Tags(name(repository));
        }
        let uploads = path.strip_suffix("/blobs/uploads/").or(path.strip_suffix("/blobs/uploads"));
        if let Some(repository) = uploads {
            return Self::Uploads(name(repository));
        }
        let Some((front, last)) = path.rsplit_once('/') else {
            return Self::Unknown;
        };
        let last = last.to_owned();
        if let Some(repository) = front.strip_suffix("/blobs/uploads") {
            return Self::Upload(name(repository), last);
        }
        if let Some(repository) = front.strip_suffix("/blobs") {
            return Self::Blob(name(repository), last);
        }
        if let Some(repository) = front.strip_suffix("/manifests") {
            return Self::Manifest(name(repository), last);
        }
        if let Some(repository) = front.strip_suffix("/referrers") {
            return Self::Referrers(name(repository), last);
        }
        Self::Unknown
    }

    /// What can be done with it, in alphabetical order.
    pub(crate) fn methods(&self) -> &'static [Method] {
        match self {
            Self::Base | Self::Catalog | Self::Referrers(..) | Self::Tags(_) => &READ,
            Self::Blob(..) => &BLOB,
            Self::Manifest(..) => &MANIFEST,
            Self::Unknown => &[],
            Self::Upload(..) => &UPLOAD,
            Self::Uploads(_) => &UPLOADS,
        }
    }

    /// The path's kind, as metrics count it.
    pub(crate) fn handler(&self) -> Handler {
        match self {
            Self::Base => Handler::Base,
            Self::Blob(..) => Handler::Blob,
            Self::Catalog => Handler::Catalog,
            Self::Manifest(..) => Handler::Manifest,
            Self::Referrers(..) => Handler::Referrers,
            Self::Tags(..) => Handler::Tags,
            Self::Unknown => Handler::Other,
            Self::Upload(..) => Handler::BlobUploadChunk,
            Self::Uploads(..) => Handler::BlobUpload,
        }
    }

    /// What the paths of this kind have in common, as the specification writes it; `None` if that
    /// is nothing.
    pub(crate) fn template(&self) -> Option<&'static str> {
        Some(match self {
            Self::Base => "/v2/",
            Self::Blob(..) => "/v2/{name}/blobs/{digest}",
            Self::Catalog => "/v2/_catalog",
            Self::Manifest(..) => "/v2/{name}/manifests/{reference}",
            Self::Referrers(..) => "/v2/{name}/referrers/{digest}",
            Self::Tags(_) => "/v2/{name}/tags/list",
            Self::Unknown => return None,
            Self::Upload(..) => "/v2/{name}/blobs/uploads/{id}",
            Self::Uploads(_) => "/v2/{name}/blobs/uploads/",
        })
    }
}

fn name(text: &str) -> Name {
    text.parse().map_err(|error: oci::NameError| {
        Error::new(ErrorCode::NameInvalid, format!("invalid repository name: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(path: &str) -> String {
        let part = |name: Name| name.map_or("INVALID".to_owned(), |name| name.to_string());
        match Path::parse(path) {
            Path::Base => "base".to_owned(),
            Path::Blob(name, digest) => format!("blob {} {digest}", part(name)),
            Path::Catalog => "catalog".to_owned(),
            Path::Manifest(name, reference) => format!("manifest {} {reference}", part(name)),
            Path::Referrers(name, digest) => format!("referrers {} {digest}", part(name)),
            Path::Tags(name) => format!("tags {}", part(name)),
            Path::Unknown => "unknown".to_owned(),
            Path::Upload(name, id) => format!("upload {} {id}", part(name)),
            Path::Uploads(name) => format!("uploads {}", part(name)),
        }
    }

    #[test]
    fn the_end_decides() {
        for (path, expected) in [
            ("", "base"),
            ("_catalog", "catalog"),
            ("a/tags/list", "tags a"),
            ("tags/list/tags/list", "tags tags/list"),
            ("a/b/c/manifests/v1", "manifest a/b/c v1"),
            ("manifests/manifests/manifests", "manifest manifests manifests"),
            ("a/blobs/sha256:ab", "blob a sha256:ab"),
            ("a/blobs/sha256%3Aab", "blob a sha256:ab"),
            ("a%2Fb/blobs/x", "blob a/b x"),
            ("a/blobs/uploads/", "uploads a"),
            ("a/blobs/uploads", "uploads a"),
            ("a/blobs/uploads/17", "upload a 17"),
            ("a/blobs/uploads/blobs/uploads/17", "upload a/blobs/uploads 17"),
            ("a/referrers/sha256:ab", "referrers a sha256:ab"),
            ("A/tags/list", "tags INVALID"),
            ("a/../b/tags/list", "tags INVALID"),
            ("/tags/list", "tags INVALID"),
            ("tags/list", "unknown"),
            ("a", "unknown"),
            ("a/b", "unknown"),
            ("a/tags/list/", "unknown"),
            ("a/tags/other", "unknown"),
            ("%ff/tags/list", "unknown"),
        ] {
            assert_eq!(kind(path), expected, "{path:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_is_too_odd(path in "\\PC{0,60}") {
            Path::parse(&path);
        }

        /// Whatever the name is made of, it comes back whole.
        #[test]
        fn names_come_back(
            name in "(blobs|uploads|manifests|tags|list|a|b1)(/(blobs|uploads|manifests|tags|list|c)){0,4}",
        ) {
            proptest::prop_assert_eq!(kind(&format!("{name}/tags/list")), format!("tags {name}"));
            let manifest = format!("{name}/manifests/v1");
            proptest::prop_assert_eq!(kind(&manifest), format!("manifest {name} v1"));
            let upload = format!("{name}/blobs/uploads/17");
            proptest::prop_assert_eq!(kind(&upload), format!("upload {name} 17"));
        }
    }
}
