//! What a request brings, with the patience that its sender deserves.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use registry::Interrupted;
use tokio::time::{Instant, Sleep};

/// A client that sends nothing for this long has gone. A slow one that moves is never cut.
const MAX_SILENCE: Duration = Duration::from_mins(1);

/// After a refusal the rest of the request is read and thrown away for so long, so that a client
/// that is still sending sees the answer instead of a broken connection.
const LINGER: Duration = Duration::from_secs(30);

/// The same, of silence.
const LINGER_SILENCE: Duration = Duration::from_secs(5);

/// The body of a request. Dropping it before its end reads the rest in the background for a
/// while ("lingering").
pub struct RequestBody {
    body: Option<UnsyncBoxBody<Bytes, Interrupted>>,
    /// The client waits for a sign before it sends the body: nothing to linger for. (One that
    /// announces this and sends all the same may lose the answer.)
    waits_for_continue: bool,
    silence: Option<Pin<Box<Sleep>>>,
}

/// A body was not taken in whole.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadError {
    Interrupted,
    TooLarge,
}

impl RequestBody {
    /// Wraps the body of a request with these headers.
    pub fn new<B>(headers: &http::HeaderMap, body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let waits_for_continue = headers
            .get(http::header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let body = (!body.is_end_stream()).then(|| body.map_err(|_| Interrupted).boxed_unsync());
        Self { body, waits_for_continue, silence: None }
    }

    /// The bytes as they come.
    pub(crate) fn into_chunks(self) -> registry::Chunks {
        Box::pin(self)
    }

    /// All of it, if it has no more than `limit` bytes.
    pub(crate) async fn read(mut self, limit: usize) -> Result<Bytes, ReadError> {
        let mut content = BytesMut::new();
        loop {
            let next = std::future::poll_fn(|context| Pin::new(&mut self).poll_next(context));
            match next.await {
                Some(Ok(chunk)) if content.len() + chunk.len() > limit => {
                    return Err(ReadError::TooLarge);
                }
                Some(Ok(chunk)) => content.extend_from_slice(&chunk),
                Some(Err(Interrupted)) => return Err(ReadError::Interrupted),
                None => return Ok(content.freeze()),
            }
        }
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, Interrupted>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let Some(body) = &mut this.body else {
                return Poll::Ready(None);
            };
            let Poll::Ready(frame) = Pin::new(body).poll_frame(context) else {
                let silence = this.silence.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + MAX_SILENCE))
                });
                ready!(silence.as_mut().poll(context));
                this.body = None;
                return Poll::Ready(Some(Err(Interrupted)));
            };
            this.silence = None;
            match frame {
                Some(Ok(frame)) => {
                    // Trailers say nothing that we know of.
                    if let Ok(data) = frame.into_data() {
                        this.waits_for_continue = false;
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(interrupted)) => {
                    this.body = None;
                    return Poll::Ready(Some(Err(interrupted)));
                }
                None => {
                    this.body = None;
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else {
            return;
        };
        if self.waits_for_continue || body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LINGER, drain(body)));
        }
    }
}

async fn drain(mut body: UnsyncBoxBody<Bytes, Interrupted>) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(LINGER_SILENCE, body.frame()).await {}
}
