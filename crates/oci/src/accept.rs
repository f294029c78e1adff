//! The `Accept` request header (RFC 9110, section 12.5.1).

use crate::media_type::without_parameters;

/// What a client accepts.
///
/// Media ranges are compared without their parameters. If several ranges match a type, the most
/// specific one decides; of two equally specific ones, that with the higher quality.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accept<'a> {
    ranges: Vec<MediaRange<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct MediaRange<'a> {
    pattern: Pattern<'a>,
    quality: u16,
}

/// As the client wrote them: case does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern<'a> {
    Any,
    Type(&'a str),
    Exact(&'a str),
}

/// More ranges than any client sends. Further ones are not looked at.
const MAX_RANGES: usize = 100;

/// Qualities are counted in thousandths.
const FULL_QUALITY: u16 = 1000;

impl<'a> Accept<'a> {
    /// Parses all `Accept` headers of a request, one value for each. What is not a media range is
    /// skipped; a malformed quality counts as 1.
    pub fn parse(values: impl Iterator<Item = &'a str>) -> Self {
        let ranges = values
            .flat_map(|value| split_unquoted(value, ','))
            .take(MAX_RANGES)
            .filter_map(MediaRange::parse)
            .collect();
        Self { ranges }
    }

    /// Whether the client named no media range at all. It then accepts everything.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the client accepts `media_type`.
    pub fn accepts(&self, media_type: &str) -> bool {
        self.quality(media_type) > 0
    }

    /// How much the client likes `media_type`, in thousandths; 0 means not acceptable.
    pub fn quality(&self, media_type: &str) -> u16 {
        if self.is_empty() {
            return FULL_QUALITY;
        }
        let media_type = without_parameters(media_type);
        self.ranges
            .iter()
            .filter(|range| range.pattern.matches(media_type))
            .map(|range| (range.pattern.specificity(), range.quality))
            .max()
            .map_or(0, |(_, quality)| quality)
    }

    /// Whether the client listed exactly `media_type`, not by a wildcard, and accepts it.
    pub fn names(&self, media_type: &str) -> bool {
        let media_type = without_parameters(media_type);
        self.ranges.iter().any(|range| {
            range.quality > 0
                && matches!(&range.pattern, Pattern::Exact(name) if name.eq_ignore_ascii_case(media_type))
        })
    }
}

impl<'a> MediaRange<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = split_unquoted(text, ';').map(str::trim);
        let pattern = Pattern::parse(parts.next()?)?;
        let quality = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .and_then(|(_, value)| parse_quality(value.trim()))
            .unwrap_or(FULL_QUALITY);
        Some(Self { pattern, quality })
    }
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        // Some old HTTP libraries write a lone star.
        if matches!(text, "*/*" | "*") {
            return Some(Self::Any);
        }
        let (kind, subtype) = text.split_once('/')?;
        if kind.is_empty() || subtype.is_empty() || kind == "*" {
            return None;
        }
        Some(match subtype {
            "*" => Self::Type(kind),
            _ => Self::Exact(text),
        })
    }

    fn matches(&self, media_type: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Type(wanted) => media_type
                .split_once('/')
                .is_some_and(|(kind, _)| kind.eq_ignore_ascii_case(wanted)),
            Self::Exact(wanted) => media_type.eq_ignore_ascii_case(wanted),
        }
    }

    fn specificity(&self) -> u8 {
        match self {
            Self::Any => 0,
            Self::Type(_) => 1,
            Self::Exact(_) => 2,
        }
    }
}

/// `0` to `1` with at most three decimals, in thousandths.
fn parse_quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(FULL_QUALITY),
        _ => None,
    }
}

/// Splits at separators that are not inside a quoted string.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let part = match text.split_once(separator) {
            // Nearly always there are no quotes.
            Some((part, after)) if !part.contains('"') => {
                rest = Some(after);
                return Some(part);
            }
            Some(_) => text.split(until_unquoted(separator)).next()?,
            None => text,
        };
        rest = text.get(part.len() + separator.len_utf8()..).filter(|_| part.len() < text.len());
        Some(part)
    })
}

/// Whether a character is a separator, asked of one after the other.
fn until_unquoted(separator: char) -> impl FnMut(char) -> bool {
    let mut quoted = false;
    let mut escaped = false;
    move |character| {
        if escaped {
            escaped = false;
            return false;
        }
        match character {
            '"' => quoted = !quoted,
            '\\' => escaped = quoted,
            _ => {}
        }
        character == separator && !quoted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media_type::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

    fn accept(value: &str) -> Accept<'_> {
        Accept::parse([value].into_iter())
    }

    #[test]
    fn without_header_everything_is_accepted_but_nothing_named() {
        for empty in [Accept::parse([].into_iter()), accept(""), accept(" , ,"), accept("nonsense")]
        {
            assert!(empty.is_empty());
            assert!(empty.accepts(OCI_INDEX));
            assert!(!empty.names(OCI_INDEX));
        }
    }

    #[test]
    fn values_of_several_headers_are_joined() {
        let both = Accept::parse([OCI_MANIFEST, DOCKER_MANIFEST].into_iter());
        assert!(both.accepts(OCI_MANIFEST) && both.accepts(DOCKER_MANIFEST));
        assert!(!both.accepts(OCI_INDEX));
        assert_eq!(both, accept(&format!("{OCI_MANIFEST},{DOCKER_MANIFEST}")));
    }

    #[test]
    fn parameters_and_case_do_not_matter() {
        let header = accept("Application/VND.OCI.image.index.v1+JSON; Charset=utf-8 ;Q=0.5");
        assert!(header.names(OCI_INDEX));
        assert_eq!(header.quality(&format!("{} ; a=b", OCI_INDEX.to_uppercase())), 500);
    }

    #[test]
    fn wildcards_accept_but_do_not_name() {
        for header in ["*/*", "application/*", "*", "text/html, *; q=.2, */*; q=.2"] {
            assert!(accept(header).accepts(OCI_INDEX), "{header}");
            assert!(!accept(header).names(OCI_INDEX), "{header}");
        }
        assert!(!accept("text/*").accepts(OCI_INDEX));
        assert!(!accept("*/json, text/plain").accepts("application/json"));
    }

    #[test]
    fn the_most_specific_range_decides() {
        let text = format!("*/*, application/*;q=0, {OCI_INDEX};q=0.1");
        let header = accept(&text);
        assert!(header.accepts("text/plain"));
        assert!(!header.accepts(OCI_MANIFEST));
        assert!(header.accepts(OCI_INDEX));
        let text = format!("{OCI_INDEX};q=0, */*");
        let header = accept(&text);
        assert!(!header.accepts(OCI_INDEX) && !header.names(OCI_INDEX));
        assert!(header.accepts(OCI_MANIFEST));
    }

    #[test]
    fn qualities() {
        for (text, expected) in [
            ("0", 0),
            ("0.", 0),
            ("0.000", 0),
            ("0.5", 500),
            ("0.001", 1),
            ("1", 1000),
            ("1.000", 1000),
            ("1.001", 1000),
            ("2", 1000),
            ("-1", 1000),
            ("0.0001", 1000),
            ("abc", 1000),
            ("", 1000),
            ("0.+1", 1000),
        ] {
            assert_eq!(accept(&format!("a/b;q={text}")).quality("a/b"), expected, "{text}");
        }
    }

    #[test]
    fn separators_in_quotes_do_not_separate() {
        let header = accept(r#"a/b;x="1,\"c/d;q=0";q=0.5, e/f"#);
        assert_eq!(header.quality("a/b"), 500);
        assert_eq!(header.quality("c/d"), 0);
        assert_eq!(header.quality("e/f"), 1000);
    }

    #[test]
    fn at_most_a_hundred_ranges_are_looked_at() {
        let header = |count: usize| format!("{}a/b", "x/y,".repeat(count));
        assert!(accept(&header(99)).names("a/b"));
        assert!(!accept(&header(100)).names("a/b"));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed(
            value in "([a-z*]{0,2}/?[a-z*]{0,2}(; ?q=[01].?[0-9]{0,4})?[,;\" \\\\]?){0,6}|.*",
            media_type in "[a-z]{0,2}/[a-z]{0,2}|.*",
        ) {
            let header = accept(&value);
            prop_assert!(header.quality(&media_type) <= 1000);
            prop_assert!(header.accepts(&media_type) || !header.names(&media_type));
        }
    }
}
