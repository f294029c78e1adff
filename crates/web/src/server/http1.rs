//! Connections of HTTP/1.
//!
//! hyper has two buffers of 8 KiB for each connection that it serves, and room for a request, as
//! long as the connection lasts. Clients keep connections that they may never use again. So hyper
//! serves a connection only while something goes on there: when it is quiet, hyper gives it back,
//! and another hyper takes it when the client speaks again.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::Poll;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Timer;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use net::Peer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Duration, Instant, sleep, timeout, timeout_at};

use super::wire::{HeadTimer, Watch, Wire};
use super::{Ending, HEAD_TIMEOUT, LAST_CALL, Phase, log_end};

/// The most that is read at once, and the largest head of a request.
pub(super) const MAX_BUFFER: usize = 64 << 10;

/// A connection is quiet when nothing has happened there between two looks, which are so far apart.
/// Short, as many that come at the same moment all have their buffers until then.
const QUIET: Duration = Duration::from_millis(100);

/// How a client begins that tries TLS first, as Docker does: a record with a part of a handshake, of
/// any version (RFC 8446 §5.1).
const TLS_START: &[u8] = &[0x16, 0x03];

/// A connection that hyper does not have at the moment.
struct Idle<I> {
    wire: Wire<I>,
    /// When the last request was answered, or the connection began.
    since: Instant,
}

/// What has become of a connection without hyper.
enum Waited {
    /// The client speaks.
    Heard,
    /// One side has no more to say.
    Closed,
    /// The client has been silent for too long.
    TimedOut,
}

/// What has become of a connection with hyper.
enum Conversed<I> {
    Quiet(Idle<I>),
    Ended { failed: bool },
}

/// Has `service` answer what a client asks over `io`, until either side ends it. True if it ended
/// with an error.
pub(super) async fn serve<I, S, B>(io: I, service: &S, peer: Peer, mut ending: Ending) -> bool
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let mut idle = Idle { wire: Wire::new(io), since: Instant::now() };
    loop {
        match idle.wait(&mut ending).await {
            Waited::Heard => {}
            Waited::Closed => return false,
            Waited::TimedOut => {
                tracing::debug!(%peer, "a connection was idle for too long");
                return true;
            }
        }
        // Boxed, so that an idle connection does not keep room for it.
        match Box::pin(converse(idle, service, peer, &mut ending)).await {
            Conversed::Quiet(again) => idle = again,
            Conversed::Ended { failed } => return failed,
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Idle<I> {
    async fn wait(&mut self, ending: &mut Ending) -> Waited {
        let patience = self.since + HEAD_TIMEOUT;
        tokio::select! {
            heard = timeout_at(patience, self.wire.hear()) => match heard {
                Ok(true) => return Waited::Heard,
                Ok(false) => {}
                Err(_) => return Waited::TimedOut,
            },
            () = ending.reached(Phase::Draining) => {
                if let Ok(true) = timeout(LAST_CALL, self.wire.hear()).await {
                    return Waited::Heard;
                }
            }
        }
        // TLS says goodbye. There is room for that: all else has left.
        let _ = timeout(LAST_CALL, self.wire.shutdown()).await;
        Waited::Closed
    }
}

/// How HTTP/1 is spoken.
pub(super) fn builder(timer: impl Timer + Send + Sync + 'static) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(timer).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_BUFFER);
    builder
}

/// Has hyper serve a connection until it is quiet, or has ended.
async fn converse<I, S, B>(
    Idle { wire, mut since }: Idle<I>,
    service: &S,
    peer: Peer,
    ending: &mut Ending,
) -> Conversed<I>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let watch = wire.watch().clone();
    let watched = service_fn(|request| {
        watch.request(request.method().is_safe());
        service.call(request)
    });
    let mut serving = builder(HeadTimer::new(&watch)).serve_connection(TokioIo::new(wire), watched);
    let ended = tokio::select! {
        ended = until_quiet(Pin::new(&mut serving), &watch, &mut since) => {
            if ended.is_none() {
                let parts = serving.into_parts();
                let mut wire = parts.io.into_inner();
                wire.unread(&parts.read_buf);
                return Conversed::Quiet(Idle { wire, since });
            }
            ended
        }
        () = ending.reached(Phase::Draining) => {
            finish(Pin::new(&mut serving), &watch, ending).await
        }
    };
    match &ended {
        // Answered by hyper itself, with a status and nothing else.
        Some(Err(error)) if error.is_parse() => {
            if serving.into_parts().read_buf.starts_with(TLS_START) {
                tracing::debug!(%peer, "a client that tried TLS was told that this port has none");
            } else {
                tracing::info!(%peer, %error, "a request that is not HTTP was refused");
            }
        }
        ended => log_end(peer, ended.as_ref()),
    }
    Conversed::Ended { failed: !matches!(ended, Some(Ok(()))) }
}

/// Lets a connection finish what it is at when the server ends. `None` if it had to be cut.
async fn finish<I, S, B>(
    mut serving: Pin<&mut http1::Connection<I, S>>,
    watch: &Watch,
    ending: &mut Ending,
) -> Option<hyper::Result<()>>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    if let Ok(ended) = timeout(LAST_CALL, serving.as_mut()).await {
        return Some(ended);
    }
    serving.as_mut().graceful_shutdown();
    let mut since = Instant::now();
    tokio::select! {
        // What is quiet now has sent a part of a head, and is not waited for.
        ended = until_quiet(serving, watch, &mut since) => ended,
        () = ending.reached(Phase::Cut) => None,
    }
}

/// Lets a connection run until it ends, or is quiet: `None`. `since` becomes the time since when it
/// was seen to be at rest.
async fn until_quiet<C>(
    mut serving: Pin<&mut C>,
    watch: &Watch,
    since: &mut Instant,
) -> Option<hyper::Result<()>>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut before = watch.at_rest();
    let mut look = pin!(sleep(QUIET));
    std::future::poll_fn(|context| {
        watch.begin();
        if let Poll::Ready(ended) = serving.as_mut().poll(context) {
            return Poll::Ready(Some(ended));
        }
        while look.as_mut().poll(context).is_ready() {
            let now = watch.at_rest();
            if now.is_some() && now == before {
                return Poll::Ready(None);
            }
            before = now;
            *since = Instant::now();
            look.as_mut().reset(*since + QUIET);
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests;
