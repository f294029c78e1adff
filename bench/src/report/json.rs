//! All figures for programs.

use serde_json::{Map, Value, json};

use crate::outcome::{Figures, Outcome, Spread};
use crate::server::Kind;

/// Everything, samples included.
pub(crate) fn json(outcomes: &[Outcome], about: &[(String, String)]) -> Value {
    let rows: Vec<Value> = outcomes.iter().map(row_json).collect();
    let about: Map<String, Value> =
        about.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({ "about": about, "rows": rows })
}

fn row_json(outcome: &Outcome) -> Value {
    let servers: Map<String, Value> = outcome
        .servers
        .iter()
        .map(|figures| (figures.kind.name().to_owned(), server_json(outcome, figures)))
        .collect();
    json!({
        "name": outcome.name,
        "unit": outcome.unit.name(),
        "cpu_unit": outcome.unit.cpu_name(),
        "servers": servers,
    })
}

/// With how far Orlop is ahead of this server.
fn server_json(outcome: &Outcome, figures: &Figures) -> Value {
    let mut value = figures_json(figures);
    if let Some(object) = value.as_object_mut().filter(|_| figures.kind != Kind::Orlop) {
        object.insert("lead".to_owned(), json!(outcome.lead(figures.kind)));
        object.insert("cpu_lead".to_owned(), json!(outcome.cpu_lead(figures.kind)));
    }
    value
}

fn figures_json(figures: &Figures) -> Value {
    let samples: Vec<Value> = figures
        .samples
        .iter()
        .map(|sample| {
            json!({
                "operations": sample.operations,
                "bytes": sample.bytes,
                "seconds": sample.seconds,
                "server_cpu_seconds": sample.server_cpu,
                "database_cpu_seconds": sample.database_cpu,
                "store_cpu_seconds": sample.store_cpu,
                "load_cpu_seconds": sample.load_cpu,
                "foreign_share": sample.foreign,
                "median_ms": sample.median,
                "p99_ms": sample.p99,
                "p999_ms": sample.p999,
                "peak_bytes": sample.peak,
                "anonymous_bytes": sample.anonymous,
                "anonymous_growth_bytes": sample.anonymous_growth,
            })
        })
        .collect();
    json!({
        "value": spread_json(figures.value),
        "cpu": figures.cpu.map(spread_json),
        "database_cpu": figures.database_cpu.map(spread_json),
        "store_cpu": figures.store_cpu.map(spread_json),
        "median_ms": figures.median(|sample| sample.median),
        "p99_ms": figures.median(|sample| sample.p99),
        "p999_ms": figures.median(|sample| sample.p999),
        "foreign_share": figures.median(|sample| sample.foreign),
        "load_bound": figures.is_load_bound(),
        "peak_bytes": figures.peak(),
        "anonymous_bytes": figures.anonymous(),
        "samples": samples,
    })
}

fn spread_json(spread: Spread) -> Value {
    json!({ "median": spread.median, "min": spread.min, "max": spread.max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_every_server() {
        let json = json(&[super::super::tests::outcome()], &[]);
        let lead = json.pointer("/rows/0/servers/docker-registry/lead").and_then(Value::as_f64);
        assert_eq!(lead, Some(3.0));
        assert!(json.pointer("/rows/0/servers/orlop/samples/1").is_some());
    }
}
