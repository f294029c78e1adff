//! Names of repositories (distribution spec, "Pulling manifests": `<name>`).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::text::serde_as_text;

/// The name of a repository, such as `library/alpine`.
///
/// One or more components joined by `/`. A component is made of `a-z` and `0-9`, with single
/// separators inside it: `.`, `_`, `__`, or any number of `-`. At most
/// [`MAX_LENGTH`](RepositoryName::MAX_LENGTH) characters in all. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    /// The most characters a name may have.
    pub const MAX_LENGTH: usize = 255;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a repository name. Offsets count bytes from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("the repository name is empty")]
    Empty,
    #[error(
        "the repository name has {length} characters, but at most {} are allowed",
        RepositoryName::MAX_LENGTH
    )]
    TooLong { length: usize },
    #[error(
        "the repository name has an empty component at offset {at}: use single '/' between components, none at the ends"
    )]
    EmptyComponent { at: usize },
    #[error(
        "the repository name contains {character:?} at offset {at}: use only a-z, 0-9, '.', '_', '-' and '/'"
    )]
    Character { character: char, at: usize },
    #[error(
        "the repository name has a separator at offset {at} that does not stand between letters or digits: use single '.', '_', '__' or dashes there"
    )]
    Separator { at: usize },
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check(name)?;
        Ok(Self(name.into()))
    }
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    let mut before = Before::Start;
    // A longer name is refused below, and only its beginning is read.
    for (at, character) in name.char_indices().take(RepositoryName::MAX_LENGTH) {
        before = before.then(character, at)?;
    }
    if name.len() > RepositoryName::MAX_LENGTH {
        return Err(NameError::TooLong { length: name.chars().count() });
    }
    match before {
        Before::Alphanumeric => Ok(()),
        Before::Start => Err(NameError::EmptyComponent { at: name.len() }),
        _ => Err(NameError::Separator { at: name.len() - 1 }),
    }
}

/// What stands before the next character.
#[derive(Clone, Copy)]
enum Before {
    /// Nothing, or a slash.
    Start,
    Alphanumeric,
    Dot,
    Underscore,
    TwoUnderscores,
    Dashes,
}

impl Before {
    fn then(self, character: char, at: usize) -> Result<Self, NameError> {
        match (self, character) {
            (_, 'a'..='z' | '0'..='9') => Ok(Self::Alphanumeric),
            (Self::Alphanumeric, '/') => Ok(Self::Start),
            (Self::Alphanumeric, '.') => Ok(Self::Dot),
            (Self::Alphanumeric, '_') => Ok(Self::Underscore),
            (Self::Underscore, '_') => Ok(Self::TwoUnderscores),
            (Self::Alphanumeric | Self::Dashes, '-') => Ok(Self::Dashes),
            (Self::Start, '/') => Err(NameError::EmptyComponent { at }),
            // The separator before the slash is the culprit; all separators are one byte long.
            (_, '/') => Err(NameError::Separator { at: at.saturating_sub(1) }),
            (_, '.' | '_' | '-') => Err(NameError::Separator { at }),
            _ => Err(NameError::Character { character, at }),
        }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepositoryName({})", self.0)
    }
}

impl AsRef<str> for RepositoryName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for RepositoryName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

serde_as_text!(RepositoryName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(name: &str) -> NameError {
        name.parse::<RepositoryName>().expect_err(name)
    }

    #[test]
    fn accepts_names_of_the_grammar() {
        for name in [
            "a",
            "0",
            "library/alpine",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a-----b",
            "a/b/c/d",
            "1.2/3_4/5__6",
            "localhost/x",
        ] {
            assert_eq!(name.parse::<RepositoryName>().expect(name).as_str(), name);
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        assert_eq!(error(""), NameError::Empty);
        assert_eq!(error("/"), NameError::EmptyComponent { at: 0 });
        assert_eq!(error("/a"), NameError::EmptyComponent { at: 0 });
        assert_eq!(error("a/"), NameError::EmptyComponent { at: 2 });
        assert_eq!(error("a//b"), NameError::EmptyComponent { at: 2 });
        assert_eq!(error("Abc"), NameError::Character { character: 'A', at: 0 });
        assert_eq!(error("ab:5000/c"), NameError::Character { character: ':', at: 2 });
        assert_eq!(error("aé"), NameError::Character { character: 'é', at: 1 });
        assert_eq!(error("a\n"), NameError::Character { character: '\n', at: 1 });
        assert_eq!(error("a..b"), NameError::Separator { at: 2 });
        assert_eq!(error("a._b"), NameError::Separator { at: 2 });
        assert_eq!(error("a___b"), NameError::Separator { at: 3 });
        assert_eq!(error("a-_b"), NameError::Separator { at: 2 });
        assert_eq!(error("-a"), NameError::Separator { at: 0 });
        assert_eq!(error("../etc"), NameError::Separator { at: 0 });
        assert_eq!(error("a-"), NameError::Separator { at: 1 });
        assert_eq!(error("a__/b"), NameError::Separator { at: 2 });
        assert_eq!(
            error("Abc").to_string(),
            "the repository name contains 'A' at offset 0: use only a-z, 0-9, '.', '_', '-' and '/'"
        );
    }

    #[test]
    fn length_is_bounded() {
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
        assert_eq!(error(&"a".repeat(256)), NameError::TooLong { length: 256 });
        assert_eq!(error(&format!("{}-", "a".repeat(255))), NameError::TooLong { length: 256 });
    }

    #[test]
    fn serde_is_a_checked_string() {
        let name: RepositoryName = serde_json::from_str("\"a/b\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"a/b\"");
        let refused = serde_json::from_str::<RepositoryName>("\"a//b\"").unwrap_err();
        assert!(refused.to_string().contains("empty component at offset 2"), "{refused}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn names_survive_display(
            text in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}){0,3}"
        ) {
            let name: RepositoryName = text.parse().unwrap();
            prop_assert_eq!(name.to_string().parse::<RepositoryName>().unwrap(), name);
        }

        /// Compares with the grammar written another way: components split by hand.
        #[test]
        fn agrees_with_the_grammar(text in "[ab0._/-]{0,8}") {
            let component = |part: &str| {
                part.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && part.ends_with(|c: char| c.is_ascii_alphanumeric())
                    && part.split(|c: char| c.is_ascii_alphanumeric()).all(|separator| {
                        matches!(separator, "" | "." | "_" | "__")
                            || separator.bytes().all(|byte| byte == b'-')
                    })
            };
            let expected = text.split('/').all(component);
            prop_assert_eq!(text.parse::<RepositoryName>().is_ok(), expected);
        }
    }
}
