#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::Hasher;

fuzz_target!(|saved: &[u8]| {
    if let Ok(mut hasher) = Hasher::restore(saved) {
        assert_eq!(hasher.save(), saved);
        hasher.update(saved);
        assert!(hasher.finish().size >= saved.len() as u64);
    }
});
