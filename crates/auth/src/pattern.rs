//! Patterns of repository names.

use std::fmt;
use std::str::FromStr;

use oci::RepositoryName;
use thiserror::Error;

/// A pattern of repository names: `*` stands for any characters within a component, `**` for any
/// characters at all, every other character for itself. `team/*` is every repository directly
/// below `team`, `team/**` every one below it at any depth, `**` every one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    /// What every match begins with.
    prefix: String,
    /// What comes after the prefix.
    rest: Vec<Part>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Byte(u8),
    /// `*`
    Component,
    /// `**`
    Anything,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PatternError {
    /// It has no characters.
    #[error("the pattern is empty: use ** for every repository")]
    Empty,
    /// It has more characters than a name may have.
    #[error("the pattern has {0} characters, but at most {max} are allowed", max = RepositoryName::MAX_LENGTH)]
    TooLong(usize),
    /// It has a character that no name has.
    #[error(
        "the pattern contains {0:?}: names are made of a-z, 0-9, '.', '_', '-' and '/', and patterns of '*' besides"
    )]
    Character(char),
    /// It has a run of stars that means nothing.
    #[error("the pattern contains '***': use '*' for one component, '**' for any number of them")]
    Stars,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > RepositoryName::MAX_LENGTH {
            return Err(PatternError::TooLong(text.chars().count()));
        }
        let known = |c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/' | '*');
        if let Some(odd) = text.chars().find(|c| !known(*c)) {
            return Err(PatternError::Character(odd));
        }
        if text.contains("***") {
            return Err(PatternError::Stars);
        }
        let (prefix, rest) = text.split_at(text.find('*').unwrap_or(text.len()));
        Ok(Self { prefix: prefix.to_owned(), rest: parts(rest) })
    }
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for byte in text.bytes() {
        match (byte, parts.last_mut()) {
            (b'*', Some(last @ Part::Component)) => *last = Part::Anything,
            (b'*', _) => parts.push(Part::Component),
            _ => parts.push(Part::Byte(byte)),
        }
    }
    parts
}

impl Pattern {
    /// Whether the pattern means this repository.
    pub fn matches(&self, name: &RepositoryName) -> bool {
        let Some(rest) = name.as_str().strip_prefix(&self.prefix) else {
            return false;
        };
        match self.rest.as_slice() {
            [] => rest.is_empty(),
            [Part::Anything] => true,
            parts => matches(parts, rest.as_bytes()),
        }
    }

    /// What the names of all its repositories begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// Goes through the text once with all places of the pattern that it may have come to, so that no
/// pattern takes more than length times length.
fn matches(parts: &[Part], text: &[u8]) -> bool {
    // `reached[i]`: the first `i` parts match what has been read.
    let mut reached = vec![false; parts.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    skip_stars(parts, &mut reached);
    for byte in text {
        let mut next = vec![false; parts.len() + 1];
        for (at, part) in parts.iter().enumerate().filter(|(at, _)| is_set(&reached, *at)) {
            match part {
                Part::Byte(expected) if expected == byte => set(&mut next, at + 1),
                Part::Component if *byte != b'/' => set(&mut next, at),
                Part::Anything => set(&mut next, at),
                _ => {}
            }
        }
        skip_stars(parts, &mut next);
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

/// A star may stand for nothing.
fn skip_stars(parts: &[Part], reached: &mut [bool]) {
    for (at, part) in parts.iter().enumerate() {
        if is_set(reached, at) && !matches!(part, Part::Byte(_)) {
            set(reached, at + 1);
        }
    }
}

fn is_set(places: &[bool], at: usize) -> bool {
    places.get(at).copied().unwrap_or(false)
}

fn set(places: &mut [bool], at: usize) {
    if let Some(place) = places.get_mut(at) {
        *place = true;
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Part| match part {
            Part::Byte(byte) => char::from(*byte).to_string(),
            Part::Component => "*".to_owned(),
            Part::Anything => "**".to_owned(),
        };
        f.pad(&format!("{}{}", self.prefix, self.rest.iter().map(part).collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_in_their_component_and_two_do_not() {
        for (pattern, yes, no) in [
            ("a/b", &["a/b"][..], &["a", "a/b/c", "a/bb"][..]),
            ("team/*", &["team/app", "team/a-b"], &["team", "team/a/b", "teams/app"]),
            ("team/**", &["team/app", "team/a/b"], &["team", "teams/app"]),
            ("**", &["a", "a/b/c"], &[]),
            ("*", &["a", "a-b"], &["a/b"]),
            ("**/app", &["a/app", "a/b/app"], &["app", "a/app/c", "a/xapp/b"]),
            ("*/app", &["a/app"], &["a/b/app", "app"]),
            ("team/app-*", &["team/app-1"], &["team/app", "team/app-1/x"]),
            ("team/*/cache/**", &["team/a/cache/b/c"], &["team/a/b/cache/c", "team/a/cache"]),
            ("a*b*c", &["abc", "a1b2c", "abbc"], &["ab/c", "abcd"]),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            for name in yes {
                assert!(pattern.matches(&name.parse().unwrap()), "{pattern} means {name}");
            }
            for name in no {
                assert!(!pattern.matches(&name.parse().unwrap()), "{pattern} means not {name}");
            }
        }
    }

    #[test]
    fn odd_patterns_are_refused() {
        let error = |text: &str| text.parse::<Pattern>().unwrap_err();
        assert_eq!(error(""), PatternError::Empty);
        assert_eq!(error("Team/*"), PatternError::Character('T'));
        assert_eq!(error("a/[bc]"), PatternError::Character('['));
        assert_eq!(error("a/***"), PatternError::Stars);
        assert_eq!(error(&"a".repeat(256)), PatternError::TooLong(256));
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let pattern: Pattern = format!("{}b", "**a".repeat(80)).parse().unwrap();
        let name = "a".repeat(255).parse().unwrap();
        assert!((0..100).all(|_| !pattern.matches(&name)));
    }

    proptest::proptest! {
        /// Compares with a matcher written another way.
        #[test]
        fn agrees_with_the_obvious_way(
            text in "[ab/*]{1,8}",
            name in "[ab]{1,3}(/[ab]{1,3}){0,2}",
        ) {
            fn obvious(pattern: &str, text: &str) -> bool {
                let any = |rest: &str, reach: usize| {
                    (0..=reach).any(|skip| obvious(rest, &text[skip..]))
                };
                if let Some(rest) = pattern.strip_prefix("**") {
                    return any(rest, text.len());
                }
                if let Some(rest) = pattern.strip_prefix('*') {
                    return any(rest, text.find('/').unwrap_or(text.len()));
                }
                match (pattern.chars().next(), text.chars().next()) {
                    (None, None) => true,
                    (Some(a), Some(b)) if a == b => obvious(&pattern[1..], &text[1..]),
                    _ => false,
                }
            }
            if let Ok(pattern) = text.parse::<Pattern>() {
                proptest::prop_assert_eq!(pattern.to_string(), text.as_str());
                let expected = obvious(&text, &name);
                proptest::prop_assert_eq!(pattern.matches(&name.parse().unwrap()), expected);
            }
        }
    }
}
