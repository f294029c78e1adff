//! Blobs in an object store pass the suite.

use std::sync::Arc;

use blobs::ObjectStore;
use objects::PartRules;
use objects::memory::Memory;

#[tokio::test]
async fn passes_the_suite() {
    let store = ObjectStore::new(Arc::new(Memory::new()), 6 << 20);
    blobs::conformance::run(&store).await.unwrap();
}

/// Parts in their order, one at a time, of sizes that content seldom has.
#[tokio::test]
async fn passes_the_suite_where_parts_must_be_even() {
    let rules = PartRules {
        min_size: 256 << 10,
        step: 256 << 10,
        max_count: 10_000,
        at_once: 1,
        are_replaced: true,
    };
    let store = ObjectStore::new(Arc::new(Memory::with_rules(rules)), 1_000_000);
    blobs::conformance::run(&store).await.unwrap();
}
