#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::Accept;

fuzz_target!(|input: (&str, &str)| {
    let (media_type, headers) = input;
    let accept = Accept::parse(headers.lines());
    assert!(accept.quality(media_type) <= 1000);
    assert!(accept.accepts(media_type) || !accept.names(media_type));
});
