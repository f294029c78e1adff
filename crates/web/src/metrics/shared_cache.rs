//! What a cache that servers share is good for.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How a shared cache was used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SharedCacheEvent {
    /// It had what was asked for.
    Hit,
    /// It did not.
    Miss,
    /// It did not answer, and is left alone for a moment.
    Failed,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    result: &'static str,
}

/// `orlop_shared_cache_…`. Clones share it.
#[derive(Clone, Default)]
pub(super) struct SharedCache {
    reads: Family<Labels, Counter>,
    errors: Counter,
}

impl SharedCache {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("shared_cache");
        registry.register("reads", "Contents that Redis was asked for", metrics.reads.clone());
        registry.register("errors", "Times that Redis did not answer", metrics.errors.clone());
        metrics
    }

    pub(super) fn observe(&self, event: SharedCacheEvent) {
        let result = match event {
            SharedCacheEvent::Hit => "hit",
            SharedCacheEvent::Miss => "miss",
            SharedCacheEvent::Failed => {
                self.errors.inc();
                return;
            }
        };
        self.reads.get_or_create(&Labels { result }).inc();
    }
}
