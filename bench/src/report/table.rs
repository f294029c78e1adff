//! A table, as text and as Markdown.

use std::fmt::Write as _;

/// A row for each work, a column for each server.
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) servers: Vec<&'static str>,
    pub(super) lines: Vec<Line>,
}

pub(super) struct Line {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) cells: Vec<Option<Cell>>,
}

/// What was measured, and how far Orlop is ahead of it.
pub(super) struct Cell {
    pub(super) figure: String,
    pub(super) lead: Option<String>,
}

impl Table {
    /// Columns of equal width; leads stand below the figures.
    pub(super) fn text(&self) -> String {
        let mut rows = vec![self.head()];
        for line in &self.lines {
            let figure = |cell: &Option<Cell>| {
                cell.as_ref().map_or("–".to_owned(), |cell| cell.figure.clone())
            };
            let mut row = vec![line.name.clone(), line.unit.to_owned()];
            row.extend(line.cells.iter().map(figure));
            rows.push(row);
            let leads: Vec<String> = line.cells.iter().map(|cell| lead(cell.as_ref())).collect();
            if leads.iter().any(|lead| !lead.is_empty()) {
                rows.push([vec![String::new(), String::new()], leads].concat());
            }
        }
        format!("{}\n{}", self.title, aligned(&rows))
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        let head = self.head();
        let rule = ["|---|---|".to_owned(), "--:|".repeat(self.servers.len())].concat();
        // Writing to a String does not fail.
        let _ = writeln!(text, "| {} |\n{rule}", head.join(" | "));
        for line in &self.lines {
            let cell = |cell: &Option<Cell>| match (cell, lead(cell.as_ref())) {
                (None, _) => "–".to_owned(),
                (Some(cell), lead) if lead.is_empty() => cell.figure.clone(),
                (Some(cell), lead) => format!("{}<br>{lead}", cell.figure),
            };
            let cells: Vec<String> = line.cells.iter().map(cell).collect();
            let _ = writeln!(text, "| {} | {} | {} |", line.name, line.unit, cells.join(" | "));
        }
        text
    }

    fn head(&self) -> Vec<String> {
        let names = ["", "unit"].into_iter().chain(self.servers.iter().copied());
        names.map(str::to_owned).collect()
    }
}

fn lead(cell: Option<&Cell>) -> String {
    let lead = cell.and_then(|cell| cell.lead.as_ref());
    lead.map_or(String::new(), |lead| format!("{lead} ×"))
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
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
