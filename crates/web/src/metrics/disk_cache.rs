//! What a cache on disk is good for.

use blobs::{CacheEvent, CacheResult};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    result: &'static str,
}

/// `orlop_disk_cache_…`. Clones share it.
#[derive(Clone, Default)]
pub(super) struct DiskCache {
    reads: Family<Labels, Counter>,
    read_bytes: Family<Labels, Counter>,
    filled_bytes: Counter,
    evictions: Counter,
    errors: Counter,
    bytes: Gauge,
    files: Gauge,
}

impl DiskCache {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("disk_cache");
        registry.register("reads", "Contents that were read", metrics.reads.clone());
        registry.register("read_bytes", "Their sizes", metrics.read_bytes.clone());
        registry.register("filled_bytes", "Bytes taken in", metrics.filled_bytes.clone());
        registry.register(
            "evictions",
            "Files that went to make room for others",
            metrics.evictions.clone(),
        );
        registry.register(
            "errors",
            "Times that the disk of the cache could not be used",
            metrics.errors.clone(),
        );
        registry.register(
            "bytes",
            "What the files take, and what room is kept for content on its way",
            metrics.bytes.clone(),
        );
        registry.register("files", "Files in the cache", metrics.files.clone());
        metrics
    }

    pub(super) fn observe(&self, event: CacheEvent) {
        match event {
            CacheEvent::Read(result, size) => {
                let labels = Labels { result: label(result) };
                self.reads.get_or_create(&labels).inc();
                self.read_bytes.get_or_create(&labels).inc_by(size);
            }
            CacheEvent::Filled(size) => drop(self.filled_bytes.inc_by(size)),
            CacheEvent::Evicted(files) => drop(self.evictions.inc_by(files)),
            CacheEvent::Failed => drop(self.errors.inc()),
            CacheEvent::Holds(bytes, files) => {
                self.bytes.set(bytes.cast_signed());
                self.files.set(files.cast_signed());
            }
        }
    }
}

fn label(result: CacheResult) -> &'static str {
    match result {
        CacheResult::Hit => "hit",
        CacheResult::Shared => "shared",
        CacheResult::Miss => "miss",
        CacheResult::Pass => "pass",
    }
}
