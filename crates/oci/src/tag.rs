//! Tags (distribution spec, "Pulling manifests": `<reference>` as a tag).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::text::serde_as_text;

/// A tag, such as `latest` or `v1.2`.
///
/// 1 to [`MAX_LENGTH`](Tag::MAX_LENGTH) of `A-Z`, `a-z`, `0-9`, `_`, `.` and `-`; the first is not
/// `.` or `-`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The most characters a tag may have.
    pub const MAX_LENGTH: usize = 128;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For texts that are tags by construction.
    pub(crate) fn from_valid(text: &str) -> Self {
        debug_assert!(check(text).is_ok(), "{text:?} is not a tag");
        Self(text.into())
    }
}

/// Why a text is not a tag. Offsets count bytes from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TagError {
    #[error("the tag is empty")]
    Empty,
    #[error("the tag has {length} characters, but at most {} are allowed", Tag::MAX_LENGTH)]
    TooLong { length: usize },
    #[error("the tag starts with {character:?}: start it with A-Z, a-z, 0-9 or '_'")]
    Start { character: char },
    #[error(
        "the tag contains {character:?} at offset {at}: use only A-Z, a-z, 0-9, '_', '.' and '-'"
    )]
    Character { character: char, at: usize },
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        check(text)?;
        Ok(Self(text.into()))
    }
}

fn check(text: &str) -> Result<(), TagError> {
    match text.chars().next() {
        None => return Err(TagError::Empty),
        Some(character @ ('.' | '-')) => return Err(TagError::Start { character }),
        Some(_) => {}
    }
    // A longer text is refused below, and only its beginning is read.
    for (at, character) in text.char_indices().take(Tag::MAX_LENGTH) {
        if !matches!(character, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '.' | '-') {
            return Err(TagError::Character { character, at });
        }
    }
    if text.len() > Tag::MAX_LENGTH {
        return Err(TagError::TooLong { length: text.chars().count() });
    }
    Ok(())
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({})", self.0)
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

serde_as_text!(Tag);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_tags_of_the_grammar() {
        for text in ["a", "_", "Z", "9", "latest", "v1.2-rc_3", "a..b--c__", &"x".repeat(128)] {
            assert_eq!(text.parse::<Tag>().expect(text).as_str(), text);
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let error = |text: &str| text.parse::<Tag>().expect_err(text);
        assert_eq!(error(""), TagError::Empty);
        assert_eq!(error(".a"), TagError::Start { character: '.' });
        assert_eq!(error("-a"), TagError::Start { character: '-' });
        assert_eq!(error("a/b"), TagError::Character { character: '/', at: 1 });
        assert_eq!(error("é"), TagError::Character { character: 'é', at: 0 });
        assert_eq!(error("a\0"), TagError::Character { character: '\0', at: 1 });
        assert_eq!(error(&"x".repeat(129)), TagError::TooLong { length: 129 });
    }

    #[test]
    fn serde_is_a_checked_string() {
        let tag: Tag = serde_json::from_str("\"v1\"").unwrap();
        assert_eq!(serde_json::to_string(&tag).unwrap(), "\"v1\"");
        assert!(serde_json::from_str::<Tag>("\"a b\"").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            if let Ok(tag) = text.parse::<Tag>() {
                prop_assert_eq!(tag.to_string(), text);
            }
        }

        #[test]
        fn tags_survive_display(text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            prop_assert_eq!(text.parse::<Tag>().unwrap().to_string(), text);
        }
    }
}
