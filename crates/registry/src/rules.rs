//! What the registry refuses and what it lets pass.

use std::fmt;

use oci::{Descriptor, Manifest, ManifestKind, media_type};
use regex::RegexSet;

/// Bytes that the compiled regular expressions of one list may take.
const PATTERNS_LIMIT: usize = 16 << 20;

/// What the registry refuses and what it lets pass.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether tags, manifests and blobs may be deleted.
    pub deletes: bool,
    /// Whether pushes and deletes are refused at first; see
    /// [`Registry::set_read_only`](crate::Registry::set_read_only).
    pub read_only: bool,
    /// The manifests of an index without which it is not accepted.
    pub require_children: Children,
    /// Whether an image is accepted only with its configuration and layers present.
    pub require_blobs: bool,
    /// The URLs that a layer may name as its place; `None`: any.
    pub layer_urls: Option<LayerUrls>,
    /// The classes of content that may be pushed; all if empty.
    pub classes: Vec<Class>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deletes: true,
            read_only: false,
            require_children: Children::All,
            require_blobs: true,
            layer_urls: None,
            classes: Vec::new(),
        }
    }
}

/// Manifests that an index lists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Children {
    /// Each of them.
    All,
    /// None of them.
    None,
    /// Those of these platforms.
    Of(Vec<Platform>),
}

/// An operating system and a kind of processor, by Go's names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
}

impl Children {
    /// Whether `child` is one of them. What names no platform is of none.
    pub(crate) fn include(&self, child: &Descriptor) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Of(platforms) => child.platform.as_ref().is_some_and(|of| {
                platforms
                    .iter()
                    .any(|wanted| wanted.os == of.os && wanted.architecture == of.architecture)
            }),
        }
    }
}

/// Which URLs a layer may name as its place. They are for clients: the registry asks none of them.
#[derive(Clone, Debug)]
pub struct LayerUrls {
    /// `None`: any.
    allow: Option<RegexSet>,
    deny: RegexSet,
}

/// A list of regular expressions that can not be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct PatternError(#[from] regex::Error);

impl LayerUrls {
    /// A URL passes if one of `allow` matches anywhere in it, or there are none but some of
    /// `deny`; and none of `deny` does. With two empty lists, none passes.
    pub fn new(allow: &[String], deny: &[String]) -> Result<Self, PatternError> {
        let set =
            |patterns| regex::RegexSetBuilder::new(patterns).size_limit(PATTERNS_LIMIT).build();
        let any = allow.is_empty() && !deny.is_empty();
        Ok(Self { allow: if any { None } else { Some(set(allow)?) }, deny: set(deny)? })
    }

    pub(crate) fn pass(&self, url: &str) -> bool {
        is_plain(url)
            && self.allow.as_ref().is_none_or(|allow| allow.is_match(url))
            && !self.deny.is_match(url)
    }
}

/// Whether it is an `http` or `https` URL with a host and without a fragment, of no character that
/// programs read in different ways.
fn is_plain(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let has_host = rest.starts_with(|first| !matches!(first, '/' | '?'));
    let is_odd = |odd: char| odd.is_whitespace() || odd.is_control() || matches!(odd, '#' | '\\');
    is_web && has_host && !rest.contains(is_odd)
}

/// What an image is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// To run.
    Image,
    /// To extend Docker.
    Plugin,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Image, Self::Plugin];

    /// As configurations and tokens write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Plugin => "plugin",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a manifest is of no class that may be pushed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClassRefused {
    /// It is of another one.
    #[error("this registry does not take content of the class {0}")]
    Other(Class),
    /// It is of one that the client's token is not for.
    #[error("the token is not for content of the class {0} in this repository")]
    NotGranted(Class),
    /// It is of none.
    #[error("this registry takes images or plugins only, and the manifest's config is {0:.80?}")]
    Unknown(String),
}

/// Refuses a manifest whose class is not one of `allowed`, or not one of those `granted` to the
/// client. An index has none.
pub(crate) fn check_class(
    allowed: &[Class],
    granted: &[Class],
    manifest: &Manifest,
) -> Result<(), ClassRefused> {
    if allowed.is_empty() || manifest.kind == ManifestKind::Index {
        return Ok(());
    }
    let config = manifest.config.as_ref().map_or("", |config| config.media_type.as_str());
    let class = match config {
        media_type::DOCKER_CONFIG | media_type::OCI_CONFIG => Class::Image,
        media_type::DOCKER_PLUGIN_CONFIG => Class::Plugin,
        other => return Err(ClassRefused::Unknown(other.to_owned())),
    };
    if !allowed.contains(&class) {
        return Err(ClassRefused::Other(class));
    }
    if granted.contains(&class) { Ok(()) } else { Err(ClassRefused::NotGranted(class)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(allow: &[&str], deny: &[&str]) -> LayerUrls {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        LayerUrls::new(&owned(allow), &owned(deny)).unwrap()
    }

    #[test]
    fn a_url_must_be_allowed_and_not_denied() {
        let both = urls(&["^https://a[.]example/", "^https?://b[.]example/"], &["/secret"]);
        assert!(both.pass("https://a.example/layer") && both.pass("http://b.example/layer"));
        assert!(!both.pass("http://a.example/layer"));
        assert!(!both.pass("https://a.example/secret/layer"));
        let denied = urls(&[], &["^https://bad[.]example/"]);
        assert!(denied.pass("http://a.example") && !denied.pass("https://bad.example/layer"));
        let none = urls(&[], &[]);
        assert!(!none.pass("https://a.example/layer") && !none.pass(""));
    }

    #[test]
    fn only_plain_urls_pass() {
        let all = urls(&["."], &[]);
        for url in ["http://a", "HTTPS://a:80/b?c=d", "https://[::1]/x", "https://ä.example/%20"] {
            assert!(all.pass(url), "{url}");
        }
        for url in [
            "",
            "a",
            "ftp://a/b",
            "file:///etc/passwd",
            "http:a",
            "http:///a",
            "https://",
            "https://a/#fragment",
            "https://a\\@b/",
            "https://a/ b",
            "https://a/\nb",
        ] {
            assert!(!all.pass(url), "{url}");
        }
    }
}
