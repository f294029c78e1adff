//! Spans as OTLP sends them: an `ExportTraceServiceRequest`, in protobuf or in JSON.
//!
//! The numbers of the fields are those of `opentelemetry/proto/trace/v1/trace.proto`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::settings::Encoding;
use super::span::{Span, Value};

/// Who says so: the instrumentation scope.
const SCOPE: &str = "orlop";
const SCOPE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// `Status.code` of what failed.
const FAILED: u64 = 2;

/// Bits of `Span.flags`: sampled; whether the parent is remote is known; it is.
const SAMPLED: u32 = 1;
const IS_REMOTE_KNOWN: u32 = 1 << 8;
const IS_REMOTE: u32 = 1 << 9;

impl Encoding {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// One request with all `spans` of the program that `resource` describes.
    pub(super) fn encode(self, resource: &[(String, String)], spans: &[Span]) -> Vec<u8> {
        match self {
            Self::Protobuf => protobuf(resource, spans),
            Self::Json => json(resource, spans).to_string().into_bytes(),
        }
    }
}

fn protobuf(resource: &[(String, String)], spans: &[Span]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |described| {
            for (name, value) in resource {
                attribute(described, 1, name, &Value::Text(value.clone()));
            }
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.bytes(1, SCOPE.as_bytes());
                scope.bytes(2, SCOPE_VERSION.as_bytes());
            });
            for span in spans {
                scope_spans.message(2, |message| write_span(message, span));
            }
        });
    });
    request.0
}

fn write_span(message: &mut Message, span: &Span) {
    message.bytes(1, &span.trace.to_be_bytes());
    message.bytes(2, &span.id.to_be_bytes());
    message.bytes(3, span.state.as_deref().unwrap_or_default().as_bytes());
    if let Some(parent) = span.parent {
        message.bytes(4, &parent.id.to_be_bytes());
    }
    message.bytes(5, span.name.as_bytes());
    message.varint(6, span.kind as u64);
    message.fixed64(7, nanoseconds(span.start));
    message.fixed64(8, nanoseconds(span.end));
    for (name, value) in &span.attributes {
        attribute(message, 9, name, value);
    }
    if span.failed {
        message.message(15, |status| status.varint(3, FAILED));
    }
    message.fixed32(16, flags(span));
}

/// A `KeyValue`.
fn attribute(message: &mut Message, number: u32, name: &str, value: &Value) {
    message.message(number, |pair| {
        pair.bytes(1, name.as_bytes());
        pair.message(2, |any| match value {
            Value::Text(text) => any.bytes(1, text.as_bytes()),
            Value::Flag(flag) => any.varint(2, u64::from(*flag)),
            Value::Whole(number) => any.varint(3, number.cast_unsigned()),
        });
    });
}

/// A message of protobuf that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn tag(&mut self, number: u32, wire_type: u32) {
        self.raw_varint(u64::from(number << 3 | wire_type));
    }

    fn raw_varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }

    fn varint(&mut self, number: u32, value: u64) {
        self.tag(number, 0);
        self.raw_varint(value);
    }

    fn fixed64(&mut self, number: u32, value: u64) {
        self.tag(number, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, number: u32, value: &[u8]) {
        self.tag(number, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn fixed32(&mut self, number: u32, value: u32) {
        self.tag(number, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn message(&mut self, number: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }
}

/// As protobuf's JSON mapping has it, but with ids in hexadecimal (OTLP's own exception).
fn json(resource: &[(String, String)], spans: &[Span]) -> Json {
    let resource: Vec<Json> = resource
        .iter()
        .map(|(name, value)| json!({ "key": name, "value": { "stringValue": value } }))
        .collect();
    let spans: Vec<Json> = spans.iter().map(json_span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": SCOPE, "version": SCOPE_VERSION }, "spans": spans }],
    }] })
}

fn json_span(span: &Span) -> Json {
    let attributes: Vec<Json> = span
        .attributes
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Value::Text(text) => json!({ "stringValue": text }),
                Value::Flag(flag) => json!({ "boolValue": flag }),
                Value::Whole(number) => json!({ "intValue": number.to_string() }),
            };
            json!({ "key": name, "value": value })
        })
        .collect();
    json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.id),
        "traceState": span.state.as_deref().unwrap_or_default(),
        "parentSpanId": span.parent.map(|parent| format!("{:016x}", parent.id)).unwrap_or_default(),
        "name": span.name,
        "kind": span.kind as u64,
        "startTimeUnixNano": nanoseconds(span.start).to_string(),
        "endTimeUnixNano": nanoseconds(span.end).to_string(),
        "attributes": attributes,
        "status": if span.failed { json!({ "code": FAILED }) } else { json!({}) },
        "flags": flags(span),
    })
}

fn flags(span: &Span) -> u32 {
    let remote = span.parent.is_some_and(|parent| parent.is_remote);
    SAMPLED | IS_REMOTE_KNOWN | if remote { IS_REMOTE } else { 0 }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
