//! The tables for people: processor time first, as it is what holds on a busy machine.

mod json;
mod table;

pub(crate) use self::json::json;
use self::table::{Cell, Line, Table};
use crate::load::Sample;
use crate::outcome::{Figures, Outcome, Spread};
use crate::server::Kind;

/// All tables as text.
pub(crate) fn text(outcomes: &[Outcome], kinds: &[Kind]) -> String {
    let tables: Vec<String> = tables(outcomes, kinds).map(|table| table.text()).collect();
    format!("{}\n{NOTES}\n", tables.join("\n"))
}

/// All tables as Markdown.
pub(crate) fn markdown(outcomes: &[Outcome], kinds: &[Kind], about: &[(String, String)]) -> String {
    let about: Vec<String> =
        about.iter().map(|(name, value)| format!("- {name}: {value}\n")).collect();
    let tables: Vec<String> = tables(outcomes, kinds).map(|table| table.markdown()).collect();
    format!("{}\n{}\n{NOTES}\n", about.concat(), tables.join("\n"))
}

const NOTES: &str = "\
Figures are medians (least–most). × is how many times better Orlop is: above 1 it is ahead.
* the load generator's core was the limit, not the server: trust the processor time.";

/// Those that have something to show.
fn tables(outcomes: &[Outcome], kinds: &[Kind]) -> impl Iterator<Item = Table> {
    let table = |title, line: fn(&Outcome, &Figures) -> Option<Cell>, unit: fn(&Outcome) -> _| {
        let lines = outcomes.iter().map(|outcome| Line {
            name: outcome.name.clone(),
            unit: unit(outcome),
            cells: kinds
                .iter()
                .map(|&kind| outcome.of(kind).and_then(|figures| line(outcome, figures)))
                .collect(),
        });
        Table {
            title,
            servers: kinds.iter().map(|kind| kind.name()).collect(),
            lines: lines.filter(|line| line.cells.iter().any(Option::is_some)).collect(),
        }
    };
    let all = [
        table("Server's processor time, user and system.", processor_time, |outcome| {
            outcome.unit.cpu_name()
        }),
        table(
            "PostgreSQL's processor time, for the same.",
            |_, figures| figures.database_cpu.map(plain),
            |outcome| outcome.unit.cpu_name(),
        ),
        table(
            "The object store's processor time, for the same.",
            |_, figures| figures.store_cpu.map(plain),
            |outcome| outcome.unit.cpu_name(),
        ),
        table("Results.", result, |outcome| outcome.unit.name()),
        table(
            "Time of an operation: median / 99 % stay below / 99.9 % stay below.",
            time,
            |_| "ms",
        ),
        table("Server's memory: highest resident set / highest anonymous part.", memory, |_| "MB"),
    ];
    all.into_iter().filter(|table| !table.lines.is_empty())
}

fn processor_time(outcome: &Outcome, figures: &Figures) -> Option<Cell> {
    let lead = outcome.cpu_lead(figures.kind).filter(|_| figures.kind != Kind::Orlop);
    Some(Cell { figure: spread(figures.cpu?), lead: lead.map(number) })
}

fn plain(figure: Spread) -> Cell {
    Cell { figure: spread(figure), lead: None }
}

#[allow(clippy::unnecessary_wraps, reason = "as the others")]
fn result(outcome: &Outcome, figures: &Figures) -> Option<Cell> {
    let mark = if figures.is_load_bound() { "*" } else { "" };
    let lead = outcome.lead(figures.kind).filter(|_| figures.kind != Kind::Orlop);
    let figure = format!("{}{mark}", spread(figures.value));
    Some(Cell { figure, lead: lead.map(number) })
}

fn time(_: &Outcome, figures: &Figures) -> Option<Cell> {
    let of = |figure: fn(&Sample) -> f64| figures.median(figure);
    let times = [of(|sample| sample.median), of(|sample| sample.p99), of(|sample| sample.p999)];
    // A start, say, has been timed once.
    (times[1] > 0.0).then(|| Cell { figure: times.map(number).join(" / "), lead: None })
}

#[allow(clippy::unnecessary_wraps, reason = "as the others")]
fn memory(_: &Outcome, figures: &Figures) -> Option<Cell> {
    let figure = format!("{} / {}", megabytes(figures.peak()), megabytes(figures.anonymous()));
    Some(Cell { figure, lead: None })
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
    use crate::unit::Unit;

    pub(super) fn outcome() -> Outcome {
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
    fn the_lead_stands_below_the_figure() {
        let text = text(&[outcome()], &[Kind::Orlop, Kind::DockerRegistry, Kind::Zot]);
        let results = text.split("Results.").nth(1).unwrap();
        let lines: Vec<Vec<&str>> =
            results.lines().skip(2).take(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [vec!["blob", "HEAD", "1/s", "300", "100", "–"], vec!["3.00", "×"]]);
    }

    #[test]
    fn markdown_has_a_cell_for_every_server() {
        let text = markdown(&[outcome()], &[Kind::Orlop, Kind::DockerRegistry], &[]);
        assert!(text.contains("| blob HEAD | 1/s | 300 | 100<br>3.00 × |\n"), "{text}");
    }
}
