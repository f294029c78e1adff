//! The tables for people and the JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::load::Sample;
use crate::outcome::{Figures, Outcome, Spread};
use crate::server::Kind;
use crate::unit::Unit;

/// All tables: results, processor time, memory.
pub(crate) fn tables(outcomes: &[Outcome], kinds: &[Kind]) -> String {
    let mut text =
        String::from("Results: median (least–most). × is Orlop's lead: above 1 is ahead.\n");
    text += &table(outcomes, kinds, &results_row, true);
    text += "\nServer's processor time, user and system, for the same work. × as above.\n";
    text += &table(outcomes, kinds, &cpu_row, true);
    text += "\nServer's memory in MB: highest resident set / highest anonymous part.\n";
    text += &table(outcomes, kinds, &memory_row, false);
    text += "\nPercentiles in ms: p50 / p99 / p99.9.\n";
    text += &table(outcomes, kinds, &percentiles_row, false);
    text +=
        "\n* the load generator's core was the limit, not the server: trust the processor time.\n";
    text
}

/// Everything, samples included.
pub(crate) fn json(outcomes: &[Outcome], about: &[(String, String)]) -> Value {
    let rows: Vec<Value> = outcomes.iter().map(row_json).collect();
    let about: serde_json::Map<String, Value> =
        about.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({ "about": about, "rows": rows })
}

/// A cell for each server, and the unit and leads.
struct Line {
    unit: &'static str,
    cells: Vec<String>,
    leads: Vec<Option<f64>>,
}

fn results_row(outcome: &Outcome, kinds: &[Kind]) -> Line {
    Line {
        unit: outcome.unit.name(),
        cells: cells(outcome, kinds, |figures| {
            let mark = if figures.is_load_bound() { "*" } else { "" };
            Some(format!("{}{mark}", spread(figures.value)))
        }),
        leads: others(kinds).map(|kind| outcome.lead(kind)).collect(),
    }
}

fn cpu_row(outcome: &Outcome, kinds: &[Kind]) -> Line {
    Line {
        unit: outcome.unit.cpu_name(),
        cells: cells(outcome, kinds, |figures| figures.cpu.map(spread)),
        leads: others(kinds).map(|kind| outcome.cpu_lead(kind)).collect(),
    }
}

fn memory_row(outcome: &Outcome, kinds: &[Kind]) -> Line {
    Line {
        unit: "MB",
        cells: cells(outcome, kinds, |figures| {
            Some(format!("{} / {}", megabytes(figures.peak()), megabytes(figures.anonymous())))
        }),
        leads: Vec::new(),
    }
}

fn percentiles_row(outcome: &Outcome, kinds: &[Kind]) -> Line {
    Line {
        unit: "ms",
        cells: cells(outcome, kinds, |figures| {
            let of = |figure: fn(&Sample) -> f64| number(figures.median(figure));
            (outcome.unit == Unit::Tail).then(|| {
                [of(|sample| sample.median), of(|sample| sample.p99), of(|sample| sample.p999)]
                    .join(" / ")
            })
        }),
        leads: Vec::new(),
    }
}

fn cells(
    outcome: &Outcome,
    kinds: &[Kind],
    cell: impl Fn(&Figures) -> Option<String>,
) -> Vec<String> {
    kinds
        .iter()
        .map(|&kind| outcome.of(kind).and_then(&cell).unwrap_or_else(|| "–".to_owned()))
        .collect()
}

fn table(
    outcomes: &[Outcome],
    kinds: &[Kind],
    line: &dyn Fn(&Outcome, &[Kind]) -> Line,
    with_leads: bool,
) -> String {
    let mut head = vec![String::new(), "unit".to_owned()];
    head.extend(kinds.iter().map(|kind| kind.name().to_owned()));
    if with_leads {
        head.extend(others(kinds).map(|kind| format!("× {}", kind.name())));
    }
    let mut rows = vec![head];
    for outcome in outcomes {
        let line = line(outcome, kinds);
        if line.cells.iter().all(|cell| cell == "–") {
            continue;
        }
        let mut row = vec![outcome.name.clone(), line.unit.to_owned()];
        row.extend(line.cells);
        row.extend(line.leads.into_iter().map(|lead| lead.map_or("–".to_owned(), number)));
        rows.push(row);
    }
    aligned(&rows)
}

/// The first column to the left, all others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a String does not fail.
            let _ = if column == 0 {
                write!(text, "{cell:<width$}")
            } else {
                write!(text, "  {cell:>width$}")
            };
        }
        text.push('\n');
    }
    text
}

fn row_json(outcome: &Outcome) -> Value {
    let servers: serde_json::Map<String, Value> = outcome
        .servers
        .iter()
        .map(|figures| (figures.kind.name().to_owned(), figures_json(figures)))
        .collect();
    json!({
        "name": outcome.name,
        "unit": outcome.unit.name(),
        "cpu_unit": outcome.unit.cpu_name(),
        "servers": servers,
        "lead_over_docker_registry": outcome.lead(Kind::DockerRegistry),
        "lead_over_nginx": outcome.lead(Kind::Nginx),
        "cpu_lead_over_docker_registry": outcome.cpu_lead(Kind::DockerRegistry),
        "cpu_lead_over_nginx": outcome.cpu_lead(Kind::Nginx),
    })
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

fn others(kinds: &[Kind]) -> impl Iterator<Item = Kind> {
    let with_orlop = kinds.contains(&Kind::Orlop);
    kinds.iter().copied().filter(move |&kind| with_orlop && kind != Kind::Orlop)
}

fn spread(spread: Spread) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(number);
    if min == max { median } else { format!("{median} ({min}–{max})") }
}

/// Three digits, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> String {
    number(bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let sample =
            |operations| Sample { operations, seconds: 1.0, server_cpu: 1.0, ..Sample::default() };
        let figures = |kind, operations| {
            Figures::new(kind, Unit::Rate, vec![sample(operations), sample(operations)])
        };
        Outcome {
            name: "blob HEAD".to_owned(),
            unit: Unit::Rate,
            goals: Vec::new(),
            servers: vec![figures(Kind::Orlop, 300), figures(Kind::DockerRegistry, 100)],
        }
    }

    #[test]
    fn the_table_shows_the_lead() {
        let text = tables(&[outcome()], &[Kind::Orlop, Kind::DockerRegistry]);
        let line = text.lines().find(|line| line.starts_with("blob HEAD")).unwrap();
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells, ["blob", "HEAD", "1/s", "300", "100", "3.00"]);
    }

    #[test]
    fn json_names_every_server() {
        let json = json(&[outcome()], &[]);
        let lead = json.pointer("/rows/0/lead_over_docker_registry").and_then(Value::as_f64);
        assert_eq!(lead, Some(3.0));
        assert!(json.pointer("/rows/0/servers/orlop/samples/1").is_some());
    }
}
