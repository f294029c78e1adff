//! `validation`: what a manifest must keep to.

use super::super::error::ConfigError;
use super::section::Section;

/// `validation`: what a manifest refers to and must be there before it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validation {
    /// The manifests that an index lists.
    pub(crate) index_children: IndexChildren,
    /// The configuration and the layers of an image.
    pub(crate) image_blobs: Require,
    /// The URLs that a layer may name as its place; none: any.
    pub(crate) urls: Option<Urls>,
}

/// Which of the manifests that an index lists must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IndexChildren {
    All,
    None,
    /// Those of these platforms.
    Platforms(Vec<Platform>),
}

/// An operating system and a kind of processor, by Go's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
}

/// How much of what is referred to must exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Require {
    All,
    None,
}

/// Regular expressions that were tried. A URL is good if one of `allow` matches it, or `allow` is
/// empty and `deny` is not, and none of `deny` matches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Urls {
    pub(crate) allow: Vec<String>,
    pub(crate) deny: Vec<String>,
}

pub(super) fn read(validation: &Section<'_>) -> Result<Validation, ConfigError> {
    let manifests = validation.section("manifests");
    let disabled = validation.is_on("disabled")?;
    let urls = Urls { allow: manifests.texts("urls.allow")?, deny: manifests.texts("urls.deny")? };
    Ok(Validation {
        index_children: if disabled {
            IndexChildren::None
        } else {
            index_children(&manifests.section("indexes"))?
        },
        // `validation.disabled` leaves blobs alone, in `distribution` too.
        image_blobs: manifests.must("images.blobs", |text| {
            match text.to_ascii_lowercase().as_str() {
                "all" => Some(Require::All),
                "none" => Some(Require::None),
                _ => None,
            }
        })?,
        urls: (!disabled).then_some(urls),
    })
}

fn index_children(indexes: &Section<'_>) -> Result<IndexChildren, ConfigError> {
    let mut platforms = Vec::new();
    for platform in indexes.sections("platformlist") {
        platforms.push(Platform {
            os: platform.must_text("os")?,
            architecture: platform.must_text("architecture")?,
        });
    }
    indexes.must("platforms", |text| match text.to_ascii_lowercase().as_str() {
        "all" => Some(IndexChildren::All),
        "none" => Some(IndexChildren::None),
        "list" => Some(IndexChildren::Platforms(platforms.clone())),
        _ => None,
    })
}
