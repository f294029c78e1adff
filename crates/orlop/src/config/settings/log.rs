//! `log`.

use std::collections::BTreeMap;

use super::super::error::ConfigError;
use super::section::Section;

/// `log`: what is written to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_field_names)] // "access log" is the term.
pub(crate) struct Log {
    pub(crate) level: Level,
    pub(crate) formatter: Formatter,
    /// Whether each request is a line of its own, whatever the level.
    pub(crate) access_log: bool,
    /// Whether each line says where in the program it comes from.
    pub(crate) report_caller: bool,
    /// Added to every line.
    pub(crate) fields: BTreeMap<String, String>,
}

/// The least important lines that are still written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Formatter {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
    /// The same with the names of Logstash.
    Logstash,
}

pub(super) fn read(log: &Section<'_>) -> Result<Log, ConfigError> {
    Ok(Log {
        level: log.must("level", |text| match text.to_ascii_lowercase().as_str() {
            "error" => Some(Level::Error),
            "warn" | "warning" => Some(Level::Warn),
            "info" => Some(Level::Info),
            "debug" => Some(Level::Debug),
            _ => None,
        })?,
        formatter: log.must("formatter", |text| match text.to_ascii_lowercase().as_str() {
            "text" => Some(Formatter::Text),
            "json" => Some(Formatter::Json),
            "logstash" => Some(Formatter::Logstash),
            _ => None,
        })?,
        access_log: !log.is_on("accesslog.disabled")?,
        report_caller: log.is_on("reportcaller")?,
        fields: log.pairs("fields").into_iter().collect(),
    })
}
