#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::Digest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(digest) = Digest::from_bytes(bytes) {
        assert_eq!(digest.to_bytes(), bytes);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(digest.is_referrers_tag(&digest.referrers_tag()));
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(digest) = text.parse::<Digest>()
    {
        assert_eq!(digest.to_string(), text);
    }
});
