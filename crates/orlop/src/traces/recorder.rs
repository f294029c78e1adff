//! From spans of `tracing` to spans of OpenTelemetry.
//!
//! A span with the field `otel.kind = "server"` begins a trace, or goes on with that of
//! `traceparent`; what is opened within it belongs to it. Anything else is left alone, so that work
//! in the background leaves no traces. `otel.name` names a span better than its own name does;
//! `error.type` says that it failed. The other fields are attributes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::context::{self, Remote, Sampler};
use super::span::{Kind, Parent, Span, TraceId, Value};

/// Spans of one trace, at most: some requests go through many things.
const MAX_SPANS: u32 = 128;

/// Records spans and hands them over when they have ended.
pub(crate) struct Recorder {
    sampler: Sampler,
    ended: mpsc::Sender<Span>,
    /// Spans that are recorded nowhere.
    dropped: Arc<AtomicU64>,
}

/// A span that has not ended.
struct Open {
    span: Span,
    /// Clocks are set; this one is not.
    begun: Instant,
    /// Spans of this trace so far.
    count: Arc<AtomicU32>,
}

/// What a span's children need to know of it.
struct Above {
    trace: TraceId,
    parent: Parent,
    state: Option<String>,
    count: Arc<AtomicU32>,
}

impl Recorder {
    pub(super) fn new(
        sampler: Sampler,
        ended: mpsc::Sender<Span>,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        Self { sampler, ended, dropped }
    }

    /// Begins a span, unless it is not to be recorded.
    fn begin(&self, name: &str, fields: Fields, above: Option<Above>) -> Option<Open> {
        let above = match above {
            Some(above) => above,
            None if fields.kind == Kind::Server => self.begin_trace(&fields)?,
            None => return None,
        };
        if above.count.fetch_add(1, Ordering::Relaxed) >= MAX_SPANS {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let now = SystemTime::now();
        let mut span = Span {
            trace: above.trace,
            id: context::new_span(),
            parent: Some(above.parent).filter(|parent| parent.id != 0),
            state: above.state,
            name: name.to_owned(),
            kind: fields.kind,
            start: now,
            end: now,
            attributes: Vec::new(),
            failed: false,
        };
        fields.write(&mut span);
        Some(Open { span, begun: Instant::now(), count: above.count })
    }

    fn begin_trace(&self, fields: &Fields) -> Option<Above> {
        let trace = fields.remote.map_or_else(context::new_trace, |remote| remote.trace);
        self.sampler.takes(trace, fields.remote).then(|| Above {
            trace,
            parent: Parent { id: fields.remote.map_or(0, |remote| remote.span), is_remote: true },
            state: fields.state.clone().filter(|_| fields.remote.is_some()),
            count: Arc::default(),
        })
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let above = span.scope().skip(1).find_map(|span| {
            let extensions = span.extensions();
            extensions.get::<Open>().map(Open::above)
        });
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(open) = self.begin(span.name(), fields, above) {
            span.extensions_mut().insert(open);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            let mut fields = Fields::default();
            values.record(&mut fields);
            fields.write(&mut open.span);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let open = span.extensions_mut().remove::<Open>();
        if let Some(Open { mut span, begun, .. }) = open {
            span.end = span.start + begun.elapsed();
            if self.ended.try_send(span).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Open {
    fn above(&self) -> Above {
        Above {
            trace: self.span.trace,
            parent: Parent { id: self.span.id, is_remote: false },
            state: self.span.state.clone(),
            count: Arc::clone(&self.count),
        }
    }
}

/// The fields of a span of `tracing`.
struct Fields {
    name: Option<String>,
    kind: Kind,
    remote: Option<Remote>,
    state: Option<String>,
    attributes: Vec<(&'static str, Value)>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { name: None, kind: Kind::Internal, remote: None, state: None, attributes: Vec::new() }
    }
}

impl Fields {
    fn write(self, span: &mut Span) {
        if let Some(name) = self.name {
            span.name = name;
        }
        for (name, value) in self.attributes {
            span.failed |= name == "error.type";
            span.set(name, value);
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "otel.name" => self.name = Some(value.to_owned()),
            "otel.kind" if value == "server" => self.kind = Kind::Server,
            "traceparent" => self.remote = Remote::parse(value),
            "tracestate" => self.state = context::state(value),
            name => self.attributes.push((name, value.into())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push((field.name(), Value::Whole(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_i64(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push((field.name(), Value::Flag(value)));
    }
}
