#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{RepositoryName, Tag};

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(name.as_str(), text);
        assert!(text.len() <= RepositoryName::MAX_LENGTH);
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        assert!(text.len() <= Tag::MAX_LENGTH);
    }
});
