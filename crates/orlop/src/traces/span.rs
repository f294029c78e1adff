//! A span as it is sent.

use std::time::SystemTime;

/// Texts are cut to this many bytes: a path may have 64 KiB.
const MAX_TEXT: usize = 1024;

/// Names a trace; not zero.
pub(super) type TraceId = u128;

/// Names a span within its trace; not zero.
pub(super) type SpanId = u64;

/// A span. Its end is its start until it has ended.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<Parent>,
    /// `tracestate` of the request: what other systems want to be handed on.
    pub(super) state: Option<String>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) failed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Parent {
    pub(super) id: SpanId,
    /// Whether it is a span of another program.
    pub(super) is_remote: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Something within this program.
    Internal = 1,
    /// A request that this program answers.
    Server = 2,
}

/// What an attribute can be here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Whole(i64),
    Flag(bool),
}

impl Span {
    /// Sets an attribute; the last one of a name counts.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        match self.attributes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name, value)),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(cut(text, MAX_TEXT).to_owned())
    }
}

/// The first `limit` bytes, or less where that would break a character.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
