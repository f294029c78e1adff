//! What a manifest is asked for by: a tag or a digest (distribution spec, `<reference>`).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::serde_as_text;
use crate::{Digest, DigestError, Tag, TagError};

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

/// Why a text is neither a tag nor a digest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    pub fn as_tag(&self) -> Option<&Tag> {
        match self {
            Self::Tag(tag) => Some(tag),
            Self::Digest(_) => None,
        }
    }

    pub fn as_digest(&self) -> Option<&Digest> {
        match self {
            Self::Tag(_) => None,
            Self::Digest(digest) => Some(digest),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// A text with a `:` is meant as a digest, since a tag can not contain one.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') {
            Ok(Self::Digest(text.parse()?))
        } else {
            Ok(Self::Tag(text.parse()?))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

serde_as_text!(Reference);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_colon_means_a_digest() {
        let digest = Digest::sha256(b"");
        assert_eq!(digest.to_string().parse::<Reference>().unwrap().as_digest(), Some(&digest));
        let tag = "v1".parse::<Reference>().unwrap();
        assert_eq!(tag.as_tag().unwrap().as_str(), "v1");
        assert_eq!(tag.as_digest(), None);
        // The form of a referrers tag is a tag.
        assert!(matches!("sha256-00".parse(), Ok(Reference::Tag(_))));

        let error = |text: &str| text.parse::<Reference>().expect_err(text);
        assert!(matches!(error("sha256:abc"), ReferenceError::Digest(_)));
        assert!(matches!(
            error("a:b"),
            ReferenceError::Digest(DigestError::UnknownAlgorithm { .. })
        ));
        assert!(matches!(error(":"), ReferenceError::Digest(_)));
        assert!(matches!(error(""), ReferenceError::Tag(TagError::Empty)));
        assert!(matches!(error("a@b"), ReferenceError::Tag(_)));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "([a-z]{0,6}:)?\\PC*") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }
}
