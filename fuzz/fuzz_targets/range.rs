#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{RangeRequest, parse_content_range, parse_range};

fuzz_target!(|input: (u64, &str)| {
    let (size, header) = input;
    let ranges = match parse_range(header, size) {
        RangeRequest::Whole | RangeRequest::Unsatisfiable => vec![],
        RangeRequest::Single(range) => vec![range],
        RangeRequest::Multiple(ranges) => ranges,
    };
    assert!(
        ranges.iter().all(|range| range.start <= range.end_inclusive && range.end_inclusive < size)
    );
    assert!(ranges.iter().map(|range| u128::from(range.len())).sum::<u128>() <= u128::from(size));

    if let Ok((start, end)) = parse_content_range(header) {
        assert!(start <= end);
    }
});
