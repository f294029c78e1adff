//! Durations as Go writes them, which is how `distribution`'s configuration does.

use std::time::Duration;

/// Parses `168h`, `1m30s`, `1.5h`, `250ms`; a number without a unit is nanoseconds.
///
/// `None` if the text is none of these, is negative, or is longer than Go can say (2^63 ns, about
/// 292 years).
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Some(nanoseconds) = bare_number(text) {
        return within_go(u128::from(nanoseconds));
    }
    let mut total = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let (nanoseconds, after) = term(rest)?;
        total = total.checked_add(nanoseconds)?;
        rest = after;
    }
    if text.is_empty() { None } else { within_go(total) }
}

/// The number, if the text is a whole number without a unit.
pub(super) fn bare_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// One number with its unit from the start of the text, in nanoseconds, and what follows it.
fn term(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => split_digits(after),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (unit, rest) = unit(rest)?;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Fifteen digits are finer than a nanosecond even of an hour; the rest is cut off.
    let (part, scale) = fraction
        .bytes()
        .take(15)
        .fold((0, 1), |(part, scale), digit| (part * 10 + u128::from(digit - b'0'), scale * 10));
    let nanoseconds = whole.checked_mul(unit)?.checked_add(part * unit / scale)?;
    Some((nanoseconds, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The unit at the start of the text, in nanoseconds.
fn unit(text: &str) -> Option<(u128, &str)> {
    const UNITS: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),  // micro sign
        ("\u{3bc}s", 1_000), // Greek mu
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    UNITS.iter().find_map(|&(name, size)| Some((size, text.strip_prefix(name)?)))
}

fn within_go(nanoseconds: u128) -> Option<Duration> {
    let nanoseconds = i64::try_from(nanoseconds).ok()?;
    Some(Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        for (text, expected) in [
            ("0", Duration::ZERO),
            ("60", Duration::from_nanos(60)),
            ("168h", Duration::from_hours(168)),
            ("1m30s", Duration::from_secs(90)),
            ("1h0m0.5s", Duration::from_millis(3_600_500)),
            ("1.5h", Duration::from_mins(90)),
            (".5s", Duration::from_millis(500)),
            ("1.s", Duration::from_secs(1)),
            ("250ms", Duration::from_millis(250)),
            ("3us", Duration::from_micros(3)),
            ("3\u{b5}s", Duration::from_micros(3)),
            ("3\u{3bc}s", Duration::from_micros(3)),
            ("+8s", Duration::from_secs(8)),
            ("1.123456789s", Duration::from_nanos(1_123_456_789)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "+",
            "s",
            ".s",
            ".",
            "-1s",
            "1d",
            "1 h",
            " 1h",
            "1h ",
            "1hh",
            "5 minutes",
            "1e3s",
            "9999999999999h",
            "9223372036854775808",
            "99999999999999999999999999999999999999999s",
            "1\u{b5}",
            "\u{661}s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
