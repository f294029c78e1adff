//! How the connections to PostgreSQL are used.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// `orlop_database_…`, asked for when somebody looks. Nothing with SQLite, and before the registry
/// is known. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Database(pub(super) Arc<OnceLock<registry::Registry>>);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl Collector for Database {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let registry = self.0.get();
        let Some(connections) = registry.and_then(registry::Registry::database_connections) else {
            return Ok(());
        };
        let mut gauges = encoder.encode_descriptor(
            "orlop_database_connections",
            "Connections to PostgreSQL.",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in [("used", connections.used), ("idle", connections.idle)] {
            let gauge = ConstGauge::new(integer(count as u64));
            gauge.encode(gauges.encode_family(&[("state", state)])?)?;
        }
        let limit = ConstGauge::new(integer(connections.limit as u64));
        let text = "Connections to PostgreSQL that there may be.";
        limit.encode(encoder.encode_descriptor(
            "orlop_database_connections_limit",
            text,
            None,
            limit.metric_type(),
        )?)?;
        let waited = ConstCounter::new(connections.waited.as_secs_f64());
        let text = "Seconds that transactions have waited because others had all connections.";
        waited.encode(encoder.encode_descriptor(
            "orlop_database_wait",
            text,
            Some(&Unit::Seconds),
            waited.metric_type(),
        )?)?;
        let mut retries = encoder.encode_descriptor(
            "orlop_database_retries",
            "Transactions that had to be run again.",
            None,
            MetricType::Counter,
        )?;
        let reasons = [("conflict", connections.conflicts), ("connection", connections.broken)];
        for (reason, count) in reasons {
            ConstCounter::new(count).encode(retries.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }
}

fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
