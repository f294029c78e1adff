//! What is done with blobs, under the name, labels and buckets of `distribution`; and what an object
//! store is asked for it.

use std::time::Duration;

use blobs::Action;
use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::compatible::DURATIONS;
use super::method_label;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    driver: &'static str,
    action: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    driver: &'static str,
    method: &'static str,
    outcome: &'static str,
}

/// Clones share the numbers.
#[derive(Clone)]
pub(super) struct Storage {
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    requests: Family<RequestLabels, Counter>,
}

impl Storage {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(DURATIONS);
        let metrics =
            Self { seconds: Family::new_with_constructor(seconds), requests: Family::default() };
        registry.register(
            "registry_storage_action_seconds",
            "The number of seconds that the storage action takes",
            metrics.seconds.clone(),
        );
        registry.register(
            "orlop_storage_requests",
            "Requests to the object store, repeated ones among them",
            metrics.requests.clone(),
        );
        metrics
    }

    pub(super) fn observe(&self, driver: &'static str, action: Action, took: Duration) {
        let labels = Labels { driver, action: name(action) };
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn count(&self, driver: &'static str, method: &Method, outcome: &'static str) {
        let labels = RequestLabels { driver, method: method_label(method), outcome };
        self.requests.get_or_create(&labels).inc();
    }
}

/// The call of a storage driver of `distribution` that does the same, or the one of several that
/// takes the time. It does not time `Writer` itself.
fn name(action: Action) -> &'static str {
    match action {
        Action::Commit => "Move",
        Action::List => "List",
        Action::Open => "GetContent",
        Action::Put => "PutContent",
        Action::Remove => "Delete",
        Action::Size => "Stat",
        // It has none: it syncs nothing later.
        Action::Sync => "Sync",
        Action::Write => "Writer",
    }
}
