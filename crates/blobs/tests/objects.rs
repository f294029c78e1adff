//! Blobs in an object store pass the suite.

use std::sync::Arc;

use blobs::ObjectStore;
use objects::memory::Memory;

#[tokio::test]
async fn passes_the_suite() {
    let store = ObjectStore::new(Arc::new(Memory::new()), 6 << 20);
    blobs::conformance::run(&store).await.unwrap();
}
