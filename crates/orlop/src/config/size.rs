//! Numbers of bytes, as people write them.

/// Parses `500000000`, `500MB`, `20 GiB`, in any case: `kB` is 1000 bytes, `KiB` 1024.
///
/// `None` if the text is none of these, is zero, or is more than fits into 63 bits.
pub(super) fn parse(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("b", 1),
        ("kb", 1000),
        ("mb", 1000_u64.pow(2)),
        ("gb", 1000_u64.pow(3)),
        ("tb", 1000_u64.pow(4)),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ];
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, size) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()))?;
    let bytes = number.parse::<u64>().ok()?.checked_mul(*size)?;
    (bytes > 0 && i64::try_from(bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn as_people_write_them() {
        for (text, expected) in [
            ("1", 1),
            ("4096", 4096),
            ("10b", 10),
            ("3kB", 3000),
            ("500MB", 500_000_000),
            ("20 GiB", 20 << 30),
            ("2tib", 2 << 40),
            ("9223372036854775807", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "0",
            "0GB",
            "GB",
            "-1",
            "+1",
            "1.5GB",
            "1g",
            "1 G B",
            "8388608TiB",
            "99999999999TB",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
