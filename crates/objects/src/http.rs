//! How the cloud library sends its requests: over our own connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Method;
use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use net::transport::{self, Transport, Trust, TrustError};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::{Instant, Sleep};

use crate::{Outcome, Watch};

/// How long a store may take for the head of its answer, once it has the request.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long a store may be silent in the middle of an answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Bytes a second that a store takes at least.
const SLOWEST: u64 = 128 << 10;

/// Our connections, as the library wants them.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    transport: Transport<HttpRequestBody>,
    watch: Watch,
}

impl Connections {
    pub(crate) fn new(trust: &Trust<'_>, watch: Watch) -> Result<Self, TrustError> {
        Ok(Self { transport: Transport::new(trust)?, watch })
    }
}

impl HttpConnector for Connections {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connections {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = ::http::HeaderValue::from_static(net::client::USER_AGENT);
        request.headers_mut().entry(::http::header::USER_AGENT).or_insert(agent);
        let length = request.body().content_length() as u64;
        let limit = ANSWER_LIMIT + Duration::from_secs(length / SLOWEST);
        let method = request.method().clone();
        let error = match tokio::time::timeout(limit, self.transport.send(request)).await {
            Ok(Ok(answer)) => {
                self.watch.tell(&method, Outcome::Answered(answer.status()));
                let body = |body| Patient::new(body, method, self.watch.clone());
                return Ok(answer.map(|it| HttpResponseBody::new(body(it))));
            }
            Ok(Err(error)) => HttpError::new(kind(&error), Chain(error)),
            Err(_) => {
                let late = io::Error::other(format!("no answer within {limit:?}"));
                HttpError::new(HttpErrorKind::Timeout, late)
            }
        };
        self.watch.tell(&method, Outcome::Failed);
        Err(error)
    }
}

/// Whether the request can have been heard decides whether it is repeated.
fn kind(error: &transport::Error) -> HttpErrorKind {
    if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted }
}

/// An error whose message has its causes in it.
#[derive(Debug)]
struct Chain(transport::Error);

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&net::client::with_causes(&self.0))
    }
}

impl std::error::Error for Chain {}

/// An answer's body that fails when nothing comes for too long.
struct Patient {
    body: Incoming,
    patience: Pin<Box<Sleep>>,
    method: Method,
    watch: Watch,
}

impl Patient {
    fn new(body: Incoming, method: Method, watch: Watch) -> Self {
        Self { body, patience: Box::pin(tokio::time::sleep(SILENCE_LIMIT)), method, watch }
    }

    fn broken(
        &self,
        kind: HttpErrorKind,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> HttpError {
        self.watch.tell(&self.method, Outcome::Broken);
        HttpError::new(kind, error)
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.patience.as_mut().reset(Instant::now() + SILENCE_LIMIT);
            let broken = |error| self.broken(HttpErrorKind::Interrupted, error);
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        match self.patience.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let late = io::Error::other(format!("nothing came for {SILENCE_LIMIT:?}"));
                Poll::Ready(Some(Err(self.broken(HttpErrorKind::Timeout, late))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
