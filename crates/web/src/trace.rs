//! The spans of a request, for traces: OpenTelemetry's conventions for HTTP servers.
//!
//! They have the target `traces`. Where nobody records traces it is off, and a span is none.

use http::header::{self, HeaderName};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Version};
use tracing::field::{self, Empty};
use tracing::instrument::Instrumented;
use tracing::{Instrument, Level, Span};

use crate::access_log::RequestId;
use crate::client::{Client, Connection};
use crate::service::{Config, Route};
use crate::{Response, urls};

/// The span of a request, until it is answered.
pub(crate) struct Trace {
    span: Span,
}

impl Trace {
    /// Begins the span of a request; it goes on with the trace that the request names.
    pub(crate) fn begin(
        parts: &Parts,
        route: &Route,
        connection: Connection,
        client: Client,
        id: &RequestId,
        urls: &urls::Config,
    ) -> Self {
        if !tracing::enabled!(target: "traces", Level::INFO) {
            return Self { span: Span::none() };
        }
        let text = |name: HeaderName| parts.headers.get(name)?.to_str().ok();
        let method = method(&parts.method);
        let route = route.template().map(|path| format!("{}{path}", urls.base_path()));
        let name = route.as_ref().map_or(method.to_owned(), |route| format!("{method} {route}"));
        let host = text(header::HOST).and_then(|host| host.parse::<Authority>().ok());
        let span = tracing::info_span!(
            target: "traces",
            parent: None,
            "request",
            otel.kind = "server",
            otel.name = name,
            traceparent = only(parts, "traceparent"),
            tracestate = joined(parts, "tracestate"),
            http.request.method = method,
            http.request.body.size = text(header::CONTENT_LENGTH).and_then(|n| n.parse::<u64>().ok()),
            http.route = route,
            url.path = parts.uri.path(),
            url.scheme = if connection.secure { "https" } else { "http" },
            server.address = host.as_ref().map(Authority::host),
            server.port = host.as_ref().and_then(Authority::port_u16),
            client.address = client.ip().map(field::display),
            network.peer.address = connection.peer.ip().map(field::display),
            network.protocol.version = version(parts.version),
            user_agent.original = text(header::USER_AGENT),
            orlop.request.id = id.as_str(),
            http.response.status_code = Empty,
            http.response.body.size = Empty,
            "error.type" = Empty,
        );
        Self { span }
    }

    /// Runs what is done for the request: within its span, and within one that puts the request's
    /// id on each line of the log.
    pub(crate) fn within<F: Future>(&self, id: &RequestId, work: F) -> Instrumented<F> {
        work.instrument(tracing::error_span!(parent: &self.span, "request", id = id.as_str()))
    }

    /// Ends with the answer: with its body, where that takes time.
    pub(crate) fn answered(self, response: &mut Response) {
        if self.span.is_disabled() {
            return;
        }
        let status = response.status();
        self.span.record("http.response.status_code", status.as_u16());
        self.span.record("http.response.body.size", response.body().length());
        if status.is_server_error() {
            self.span.record("error.type", status.as_str());
        }
        if response.body().has_blob() {
            let sending = tracing::info_span!(target: "traces", parent: &self.span, "send body");
            response.body_mut().keep_open(sending);
        }
    }
}

/// Finds out who asks and whether they may, where that is a question.
pub(crate) fn admission<F: Future>(config: &Config, work: F) -> Instrumented<F> {
    let span = if config.access.is_open() {
        Span::none()
    } else {
        tracing::info_span!(target: "traces", "authorize")
    };
    work.instrument(span)
}

/// Clients may invent methods.
fn method(method: &Method) -> &str {
    match *method {
        Method::CONNECT
        | Method::DELETE
        | Method::GET
        | Method::HEAD
        | Method::OPTIONS
        | Method::PATCH
        | Method::POST
        | Method::PUT
        | Method::TRACE => method.as_str(),
        _ => "_OTHER",
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// The value of a header that may be there once.
fn only<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    let mut values = parts.headers.get_all(name).iter();
    let value = values.next()?.to_str().ok();
    value.filter(|_| values.next().is_none())
}

/// The values of a header that is a list.
fn joined(parts: &Parts, name: &str) -> Option<String> {
    let values = parts.headers.get_all(name).iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}
