//! The log: lines on standard error, for people or for machines.
//!
//! Events of the target [`ACCESS`] are the access log. They are written at every level, unless
//! the configuration switches them off.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{
    FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter, layer,
};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::config::{Formatter, Level, Log};
use crate::traces::{self, Recorder};

/// The target of the access log: `tracing::info!(target: logging::ACCESS, …)`.
pub(crate) const ACCESS: &str = "access";

/// Libraries whose talk below `info` explains nothing about the registry.
const LIBRARIES: [&str; 4] = ["hyper", "hyper_util", "mio", "tokio_postgres"];

/// Starts to write to standard error what `log` asks for, and to record traces if somebody does.
/// A second call changes nothing.
pub(crate) fn init(log: &Log, recorder: Option<Recorder>) {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colors = io::stderr().is_terminal() && !no_color;
    let with_traces = recorder.is_some();
    let (subscriber, filter) = subscriber(log, io::stderr, colors, recorder);
    if subscriber.try_init().is_ok() {
        let _ = FILTER.set((filter, with_traces));
    }
}

/// Lets through from now on what `log` asks for; its form stays as it was.
pub(crate) fn adjust(log: &Log) -> Result<(), reload::Error> {
    FILTER
        .get()
        .map_or(Ok(()), |(installed, with_traces)| installed.reload(filter(log, *with_traces)))
}

/// The filter of the log of this process, and whether traces are recorded beside it.
static FILTER: OnceLock<(Filter, bool)> = OnceLock::new();

type Filter = reload::Handle<Targets, Registry>;

pub(crate) fn subscriber<W>(
    log: &Log,
    output: W,
    colors: bool,
    recorder: Option<Recorder>,
) -> (impl Subscriber + Send + Sync + use<W>, Filter)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = Lines {
        formatter: log.formatter,
        report_caller: log.report_caller,
        fields: log
            .fields
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect(),
    };
    let with_traces = recorder.is_some();
    let (filter, handle) = reload::Layer::new(filter(log, with_traces));
    let lines = layer()
        .with_ansi(colors && log.formatter == Formatter::Text)
        .with_writer(output)
        .fmt_fields(SpanFields)
        .event_format(lines);
    // Each has its own filter, or neither.
    let is_for_traces = |metadata: &Metadata<'_>| metadata.target() == traces::TARGET;
    let (recorder, lines) = match recorder {
        Some(recorder) => (
            Some(recorder.with_filter(filter_fn(is_for_traces))),
            lines.with_filter(filter_fn(move |metadata| !is_for_traces(metadata))).boxed(),
        ),
        None => (None, lines.boxed()),
    };
    (tracing_subscriber::registry().with(filter).with(recorder).with(lines), handle)
}

fn filter(log: &Log, with_traces: bool) -> Targets {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    // It tells of each request that it repeats, which the metrics count.
    let object_store = match level {
        LevelFilter::DEBUG => LevelFilter::INFO,
        level => level.min(LevelFilter::WARN),
    };
    let access = if log.access_log { LevelFilter::INFO } else { LevelFilter::OFF };
    let traces = if with_traces { LevelFilter::INFO } else { LevelFilter::OFF };
    Targets::new()
        .with_default(level)
        .with_targets(LIBRARIES.map(|library| (library, level.min(LevelFilter::INFO))))
        .with_target("object_store", object_store)
        .with_target(ACCESS, access)
        .with_target(traces::TARGET, traces)
}

/// How an event becomes a line.
struct Lines {
    formatter: Formatter,
    report_caller: bool,
    /// On every line, after the event's own.
    fields: Vec<(String, Value)>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut fields = own.fields;
        // A value of the event hides one of the same name in a span, an inner span's an outer's.
        let outer = context.event_scope().into_iter().flatten().flat_map(|span| {
            let extensions = span.extensions();
            let text = extensions.get::<FormattedFields<N>>();
            text.map(|text| recall(&text.fields)).unwrap_or_default()
        });
        for (name, value) in outer.chain(self.fields.iter().cloned()) {
            if !fields.iter().any(|(known, _)| *known == name) {
                fields.push((name, value));
            }
        }
        if let Some(file) = event.metadata().file().filter(|_| self.report_caller) {
            for (name, _) in fields.iter_mut().filter(|(name, _)| name == "file") {
                "fields.file".clone_into(name);
            }
            let caller = format!("{file}:{}", event.metadata().line().unwrap_or_default());
            fields.push(("file".to_owned(), caller.into()));
        }
        let line =
            Line { metadata: event.metadata(), message: own.message.unwrap_or_default(), fields };
        match self.formatter {
            Formatter::Text => line.write_text(&mut writer),
            Formatter::Json => line.write_json(&mut writer, &JSON),
            Formatter::Logstash => line.write_json(&mut writer, &LOGSTASH),
        }?;
        writer.write_char('\n')
    }
}

struct Line {
    metadata: &'static Metadata<'static>,
    message: String,
    fields: Vec<(String, Value)>,
}

impl Line {
    /// `2026-11-22T17:13:58.123456Z  INFO listening address=127.0.0.1:5000`
    fn write_text(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let time = style(writer, DIM);
        write!(writer, "{}", time.start)?;
        SystemTime.format_time(writer)?;
        write!(writer, "{} ", time.end)?;
        let (name, color) = match *self.metadata.level() {
            tracing::Level::ERROR => ("ERROR", RED),
            tracing::Level::WARN => (" WARN", YELLOW),
            tracing::Level::INFO => (" INFO", GREEN),
            _ => ("DEBUG", BLUE),
        };
        let level = style(writer, color);
        write!(writer, "{}{name}{}", level.start, level.end)?;
        if self.metadata.target() == ACCESS {
            writer.write_str(" access")?;
        }
        if !self.message.is_empty() {
            write!(writer, " {}", Printable(&self.message))?;
        }
        let label = style(writer, DIM);
        for (name, value) in &self.fields {
            write!(writer, " {}{name}={}", label.start, label.end)?;
            match value {
                Value::String(text) => write!(writer, "{}", Quoted(text))?,
                other => write!(writer, "{other}")?,
            }
        }
        Ok(())
    }

    /// `{"time":"…","level":"info","msg":"listening","target":"orlop","address":"127.0.0.1:5000"}`
    fn write_json(&self, writer: &mut Writer<'_>, names: &Names) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let level = self.metadata.level().as_str().to_ascii_lowercase();
        let mut line = Vec::new();
        let mut write = || {
            let mut serializer = serde_json::Serializer::new(&mut line);
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry(names.time, &time)?;
            if let Some(name) = names.version {
                map.serialize_entry(name, "1")?;
            }
            map.serialize_entry("level", &level)?;
            map.serialize_entry(names.message, &self.message)?;
            map.serialize_entry("target", self.metadata.target())?;
            for (name, value) in &self.fields {
                if names.are_taken(name) {
                    map.serialize_entry(&format!("fields.{name}"), value)?;
                } else {
                    map.serialize_entry(name, value)?;
                }
            }
            map.end()
        };
        write().map_err(|_| fmt::Error)?;
        writer.write_str(&String::from_utf8_lossy(&line))
    }
}

/// What a line of JSON calls its parts, beside `level` and `target`.
struct Names {
    time: &'static str,
    message: &'static str,
    /// That of the form itself.
    version: Option<&'static str>,
}

const JSON: Names = Names { time: "time", message: "msg", version: None };

/// As Logstash has it: `{"@timestamp":"…","@version":"1","level":"info","message":"listening"}`.
const LOGSTASH: Names = Names { time: "@timestamp", message: "message", version: Some("@version") };

impl Names {
    /// Whether a value of the event cannot have this name.
    fn are_taken(&self, name: &str) -> bool {
        [self.time, self.message, "level", "target"].contains(&name) || self.version == Some(name)
    }
}

/// The values of an event or of a span.
#[derive(Default)]
struct Fields {
    message: Option<String>,
    fields: Vec<(String, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = Some(text),
            (name, value) => self.fields.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(value.source(), |cause| cause.source());
        let text = causes.fold(value.to_string(), |text, cause| format!("{text}: {cause}"));
        self.add(field, text.into());
    }
}

/// Keeps a span's values between the span's start and its events: as lines of JSON, one for every
/// time that values were recorded.
struct SpanFields;

impl<'writer> FormatFields<'writer> for SpanFields {
    fn format_fields<R>(&self, mut writer: Writer<'writer>, record: R) -> fmt::Result
    where
        R: tracing_subscriber::field::RecordFields,
    {
        let mut values = Fields::default();
        record.record(&mut values);
        let json = serde_json::to_string(&values.fields).map_err(|_| fmt::Error)?;
        writeln!(writer, "{json}")
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

/// What [`SpanFields`] kept, the latest first.
fn recall(text: &str) -> Vec<(String, Value)> {
    text.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Vec<(String, Value)>>(line).ok())
        .flatten()
        .collect()
}

const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const GREEN: &str = "\x1b[32m";
const BLUE: &str = "\x1b[34m";
const DIM: &str = "\x1b[2m";

struct Style {
    start: &'static str,
    end: &'static str,
}

/// The escape codes around a coloured text; empty where colours are off.
fn style(writer: &Writer<'_>, start: &'static str) -> Style {
    if writer.has_ansi_escapes() {
        Style { start, end: "\x1b[0m" }
    } else {
        Style { start: "", end: "" }
    }
}

/// A text on one line, without characters that would steer the terminal: a request's path and a
/// client's name come from strangers.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_debug())?;
            } else {
                fmt::Write::write_char(f, character)?;
            }
        }
        Ok(())
    }
}

/// A value, in quotes where its end would not be clear without.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clear = |c: char| !(c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\'));
        if !self.0.is_empty() && self.0.chars().all(clear) {
            f.write_str(self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    /// Everything that is written, for a look at it afterwards.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut page = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            page.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(formatter: Formatter) -> Log {
        Log {
            level: Level::Info,
            formatter,
            access_log: true,
            report_caller: false,
            fields: BTreeMap::from([("service".to_owned(), "registry".to_owned())]),
        }
    }

    /// The lines that `talk` leads to, without their time.
    fn lines(log: &Log, talk: impl FnOnce()) -> Vec<String> {
        let page = Page::default();
        let output = page.clone();
        let (subscriber, _) = subscriber(log, move || output.clone(), false, None);
        tracing::subscriber::with_default(subscriber, talk);
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn without_time(line: &str) -> &str {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.contains('T') && time.ends_with('Z'), "{time}");
        rest
    }

    #[test]
    fn text_is_for_people() {
        let lines = lines(&log(Formatter::Text), || {
            tracing::info!(address = "127.0.0.1:5000", "listening");
            tracing::warn!(error = %"disk full", count = 3, "cannot store");
            tracing::info!(target: ACCESS, method = "GET", path = "/v2/", status = 200);
            tracing::debug!("unseen");
            tracing::debug!(target: "hyper", "unseen");
        });
        assert_eq!(
            lines.iter().map(|line| without_time(line)).collect::<Vec<_>>(),
            [
                " INFO listening address=127.0.0.1:5000 service=registry",
                " WARN cannot store error=\"disk full\" count=3 service=registry",
                " INFO access method=GET path=/v2/ status=200 service=registry",
            ]
        );
    }

    #[test]
    fn json_is_one_object_a_line() {
        let lines = lines(&log(Formatter::Json), || {
            tracing::error!(time = 1, agent = "a\"b\nc", ok = true, "it\nbroke");
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("{\"time\":\"20"), "{}", lines[0]);
        let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(object["level"], "error");
        assert_eq!(object["msg"], "it\nbroke");
        assert_eq!(object["agent"], "a\"b\nc");
        assert_eq!(object["ok"], true);
        assert_eq!(object["fields.time"], 1);
        assert_eq!(object["service"], "registry");
    }

    #[test]
    fn logstash_has_names_of_its_own() {
        let lines = lines(&log(Formatter::Logstash), || {
            tracing::warn!(msg = "own", level = 3, "disk full");
            tracing::info!("@version" = 2, "odd");
        });
        let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert!(object["@timestamp"].as_str().unwrap().starts_with("20"), "{object}");
        assert_eq!(object["@version"], "1");
        assert_eq!(object["level"], "warn");
        assert_eq!(object["message"], "disk full");
        assert_eq!(object["msg"], "own");
        assert_eq!(object["fields.level"], 3);
        assert_eq!(object["service"], "registry");
        let object: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!((&object["@version"], &object["fields.@version"]), (&"1".into(), &2.into()));
    }

    #[test]
    fn a_line_can_say_where_it_comes_from() {
        for formatter in [Formatter::Text, Formatter::Json] {
            let log = Log { report_caller: true, ..log(formatter) };
            let lines = lines(&log, || tracing::info!(file = "own", "here"));
            let place = concat!("crates/orlop/", "src/logging.rs:");
            assert!(lines[0].contains("fields.file") && lines[0].contains(place), "{lines:?}");
        }
    }

    #[test]
    fn the_level_can_change_while_the_log_is_written() {
        let page = Page::default();
        let output = page.clone();
        let (subscriber, handle) =
            subscriber(&log(Formatter::Text), move || output.clone(), false, None);
        tracing::subscriber::with_default(subscriber, || {
            let talk = || tracing::debug!("detail");
            talk();
            let debug = Log { level: Level::Debug, ..log(Formatter::Text) };
            handle.reload(filter(&debug, false)).unwrap();
            talk();
            handle.reload(filter(&log(Formatter::Text), false)).unwrap();
            talk();
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("detail").count(), 1, "{text}");
    }

    #[test]
    fn strangers_can_neither_start_a_line_nor_steer_the_terminal() {
        let evil = "a\n2026 ERROR b\x1b[2J\u{9b}31m";
        let lines = lines(&log(Formatter::Text), || {
            tracing::info!(agent = evil, "{evil}");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].contains(char::is_control), "{lines:?}");
    }

    #[test]
    fn values_of_spans_are_on_the_lines_inside() {
        let lines = lines(&log(Formatter::Text), || {
            let outer = tracing::info_span!("request", id = "r1", user = "ada", status = 0);
            let _outer = outer.enter();
            outer.record("status", 201);
            let _inner = tracing::info_span!("push", user = "bob").entered();
            tracing::info!("stored");
        });
        let line = without_time(&lines[0]);
        assert_eq!(line, " INFO stored user=bob status=201 id=r1 service=registry");
    }

    #[test]
    fn the_access_log_has_a_switch_of_its_own() {
        let talk = || {
            tracing::info!(target: ACCESS, "seen");
            tracing::info!("talk");
        };
        let quiet = Log { level: Level::Error, ..log(Formatter::Text) };
        assert_eq!(lines(&quiet, talk).len(), 1, "access only");
        let off = Log { access_log: false, ..log(Formatter::Text) };
        let lines = lines(&off, talk);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("talk"));
    }
}
