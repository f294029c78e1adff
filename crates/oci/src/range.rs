//! Byte ranges: `Range` of downloads (RFC 9110, section 14.2) and `Content-Range` of uploads in
//! chunks (distribution spec, "Pushing a blob in chunks").

use thiserror::Error;

use crate::text::excerpt;

/// What part of a content a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeRequest {
    /// All of it, as if there were no `Range` header.
    Whole,
    Single(ByteRange),
    /// At least two ranges that do not overlap, together not longer than the content. In the order
    /// of the request, or ascending if some overlapped and were joined.
    Multiple(Vec<ByteRange>),
    /// Nothing that exists: answer 416.
    Unsatisfiable,
}

/// Bytes of a content by offset, both ends included. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    pub start: u64,
    pub end_inclusive: u64,
}

impl ByteRange {
    /// The number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(&self) -> u64 {
        self.end_inclusive - self.start + 1
    }
}

/// More ranges than any client sends; more are answered with the whole content.
const MAX_RANGES: usize = 32;

/// Reads the value of a `Range` header for a content of `size` bytes.
///
/// Headers that are malformed, of other units than bytes, of more than 32 ranges, or of ranges
/// that are longer together than the content, ask for the whole content: a server may ignore
/// `Range`. A range whose end is before its start counts as unsatisfiable, although the RFC calls
/// it malformed: the conformance tests of the distribution spec expect that.
pub fn parse_range(header: &str, size: u64) -> RangeRequest {
    let Some(specs) = parse_range_set(header) else {
        return RangeRequest::Whole;
    };
    let ranges: Vec<_> = specs.into_iter().filter_map(|spec| spec.resolve(size)).collect();
    match ranges.as_slice() {
        [] => return RangeRequest::Unsatisfiable,
        [range] => return RangeRequest::Single(*range),
        _ => {}
    }
    let total: u128 = ranges.iter().map(|range| u128::from(range.len())).sum();
    if total > u128::from(size) {
        return RangeRequest::Whole;
    }
    let joined = join_overlapping(&ranges);
    match joined.as_slice() {
        [range] => RangeRequest::Single(*range),
        // Nothing overlapped: the order of the request stands.
        _ if joined.len() == ranges.len() => RangeRequest::Multiple(ranges),
        _ => RangeRequest::Multiple(joined),
    }
}

/// One member of the header's list.
#[derive(Clone, Copy)]
enum RangeSpec {
    FromTo(u64, u64),
    From(u64),
    Last(u64),
}

impl RangeSpec {
    /// The bytes that are meant, if there are any.
    fn resolve(self, size: u64) -> Option<ByteRange> {
        let last = size.checked_sub(1)?;
        let (start, end_inclusive) = match self {
            Self::FromTo(start, end) => (start, end.min(last)),
            Self::From(start) => (start, last),
            Self::Last(0) => return None,
            Self::Last(count) => (size.saturating_sub(count), last),
        };
        (start <= end_inclusive).then_some(ByteRange { start, end_inclusive })
    }
}

/// `None` if it is not a list of byte ranges, or too long a list.
fn parse_range_set(header: &str) -> Option<Vec<RangeSpec>> {
    let (unit, set) = header.trim().split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for member in set.split(',').map(|member| member.trim_matches([' ', '\t'])) {
        // Lists may have empty members (RFC 9110, section 5.6.1.2).
        if member.is_empty() {
            continue;
        }
        if specs.len() == MAX_RANGES {
            return None;
        }
        specs.push(parse_range_spec(member)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn parse_range_spec(text: &str) -> Option<RangeSpec> {
    match text.split_once('-')? {
        ("", count) => Some(RangeSpec::Last(parse_saturating(count)?)),
        (start, "") => Some(RangeSpec::From(parse_saturating(start)?)),
        (start, end) => Some(RangeSpec::FromTo(parse_saturating(start)?, parse_saturating(end)?)),
    }
}

/// Digits are valid however many they are; no content is as long as the largest `u64`.
fn parse_saturating(digits: &str) -> Option<u64> {
    is_digits(digits).then(|| digits.parse().unwrap_or(u64::MAX))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn join_overlapping(ranges: &[ByteRange]) -> Vec<ByteRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<ByteRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end_inclusive => {
                last.end_inclusive = last.end_inclusive.max(range.end_inclusive);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// Why a `Content-Range` header of a chunk can not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContentRangeError {
    #[error("expected a Content-Range such as 0-1023 or bytes 0-1023/*, found {found:?}")]
    Malformed { found: String },
    #[error("the Content-Range ends at {end}, before its start {start}")]
    Reversed { start: u64, end: u64 },
    #[error(
        "the Content-Range ends at {end}, but the total length is {total}: the last offset is one less than the length"
    )]
    BeyondTotal { end: u64, total: u64 },
}

/// Reads the `Content-Range` of a chunk: its first and last offset.
///
/// Accepts `start-end` as the distribution spec has it, and `bytes start-end/total` or
/// `bytes start-end/*` as the RFC has it, also without the total. Offsets are at most `i64::MAX`.
pub fn parse_content_range(header: &str) -> Result<(u64, u64), ContentRangeError> {
    let (start, end, total) = split_content_range(header.trim())
        .ok_or_else(|| ContentRangeError::Malformed { found: excerpt(header) })?;
    if start > end {
        return Err(ContentRangeError::Reversed { start, end });
    }
    match total {
        Some(total) if end >= total => Err(ContentRangeError::BeyondTotal { end, total }),
        _ => Ok((start, end)),
    }
}

/// Start, end, and total if it is given.
fn split_content_range(header: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = match header.split_once(' ') {
        None => (header, None),
        Some((unit, range)) if unit.eq_ignore_ascii_case("bytes") => {
            match range.trim_start().split_once('/') {
                None => (range.trim_start(), None),
                Some((range, "*")) => (range, None),
                Some((range, total)) => (range, Some(parse_offset(total)?)),
            }
        }
        Some(_) => return None,
    };
    let (start, end) = range.split_once('-')?;
    Some((parse_offset(start)?, parse_offset(end)?, total))
}

fn parse_offset(digits: &str) -> Option<u64> {
    let offset: i64 = is_digits(digits).then(|| digits.parse().ok())??;
    u64::try_from(offset).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::RangeRequest::{Multiple, Single, Unsatisfiable, Whole};
    use super::*;

    fn range(start: u64, end_inclusive: u64) -> ByteRange {
        ByteRange { start, end_inclusive }
    }

    #[test]
    fn single_ranges() {
        for (header, expected) in [
            ("bytes=0-0", range(0, 0)),
            ("bytes=0-9", range(0, 9)),
            ("bytes=3-", range(3, 9)),
            ("bytes=3-100", range(3, 9)),
            ("bytes=3-99999999999999999999999999", range(3, 9)),
            ("bytes=-3", range(7, 9)),
            ("bytes=-10", range(0, 9)),
            ("bytes=-99999999999999999999999999", range(0, 9)),
            (" Bytes=,\t2-4 , ", range(2, 4)),
            ("bytes=2-4,20-30", range(2, 4)),
            ("bytes=2-4,4-6", range(2, 6)),
        ] {
            assert_eq!(parse_range(header, 10), Single(expected), "{header}");
        }
        assert_eq!(range(2, 4).len(), 3);
    }

    #[test]
    fn several_ranges() {
        assert_eq!(parse_range("bytes=8-9, 0-1", 10), Multiple(vec![range(8, 9), range(0, 1)]));
        assert_eq!(parse_range("bytes=0-1,2-3", 10), Multiple(vec![range(0, 1), range(2, 3)]));
        assert_eq!(
            parse_range("bytes=8-8,0-1,1-2", 10),
            Multiple(vec![range(0, 2), range(8, 8)]),
            "overlapping ones are joined"
        );
        assert_eq!(parse_range("bytes=0-,0-,0-", 10), Whole, "more than there is");
    }

    #[test]
    fn what_can_not_be_understood_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=0-1,x",
            "bytes 0-1",
            "bytes =0-1",
            "items=0-1",
            "bytes=0 - 1",
            "bytes=0-é",
        ] {
            assert_eq!(parse_range(header, 10), Whole, "{header}");
        }
    }

    #[test]
    fn unsatisfiable_ranges() {
        for header in
            ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=500-0", "bytes=5-4", "bytes=10-,-0"]
        {
            assert_eq!(parse_range(header, 10), Unsatisfiable, "{header}");
        }
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"] {
            assert_eq!(parse_range(header, 0), Unsatisfiable, "{header}");
        }
    }

    #[test]
    fn the_number_of_ranges_is_bounded() {
        let header = |count: u64| {
            let list: Vec<_> = (0..count).map(|i| format!("{0}-{0}", 2 * i)).collect();
            format!("bytes={}", list.join(","))
        };
        assert!(matches!(parse_range(&header(32), 1000), Multiple(ranges) if ranges.len() == 32));
        assert_eq!(parse_range(&header(33), 1000), Whole);
    }

    #[test]
    fn content_ranges() {
        for header in ["5-9", " 5-9 ", "bytes 5-9", "Bytes 5-9/10", "bytes 5-9/*", "bytes 5-9/999"]
        {
            assert_eq!(parse_content_range(header), Ok((5, 9)), "{header}");
        }
        assert_eq!(parse_content_range("0-0"), Ok((0, 0)));
        for header in [
            "",
            "-",
            "5",
            "5-",
            "-5",
            "a-b",
            "+5-9",
            "5-9-10",
            "bytes=5-9",
            "bytes */10",
            "bytes 5-9/",
            "items 5-9",
            "5-9/10",
            "5 - 9",
            "0-9223372036854775808",
            "0-99999999999999999999",
        ] {
            assert_eq!(
                parse_content_range(header),
                Err(ContentRangeError::Malformed { found: header.into() }),
            );
        }
        assert_eq!(
            parse_content_range("9-5"),
            Err(ContentRangeError::Reversed { start: 9, end: 5 })
        );
        assert_eq!(
            parse_content_range("bytes 0-10/10"),
            Err(ContentRangeError::BeyondTotal { end: 10, total: 10 })
        );
    }

    proptest! {
        #[test]
        fn ranges_are_inside_the_content(
            header in "bytes=([0-9]{0,3}-[0-9]{0,3},?){0,5}|.*",
            size in prop_oneof![0_u64..1000, Just(u64::MAX)],
        ) {
            let ranges = match parse_range(&header, size) {
                Whole | Unsatisfiable => vec![],
                Single(range) => vec![range],
                Multiple(ranges) => {
                    prop_assert!(ranges.len() >= 2);
                    ranges
                }
            };
            let mut total = 0;
            for (i, range) in ranges.iter().enumerate() {
                prop_assert!(range.start <= range.end_inclusive && range.end_inclusive < size);
                for other in &ranges[..i] {
                    prop_assert!(other.end_inclusive < range.start || range.end_inclusive < other.start);
                }
                total += range.len();
            }
            prop_assert!(total <= size);
        }

        #[test]
        fn content_ranges_are_ordered(header in "(bytes )?[0-9]{0,3}-[0-9]{0,3}(/[0-9]{0,3})?|.*") {
            if let Ok((start, end)) = parse_content_range(&header) {
                prop_assert!(start <= end);
            }
        }

        #[test]
        fn content_ranges_survive_writing(a in 0..=u64::MAX / 2, b in 0..=u64::MAX / 2) {
            let (start, end) = (a.min(b), a.max(b));
            prop_assert_eq!(parse_content_range(&format!("{start}-{end}")), Ok((start, end)));
            prop_assert_eq!(parse_content_range(&format!("bytes {start}-{end}/*")), Ok((start, end)));
        }
    }
}
