//! Connections: taking them, giving up on dead ones, and ending in good order.

mod http1;
mod wire;

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use net::tls::HandshakeError;
use net::{Linger, Listener, Peer, StallTimeout, Stream, tls};
use tokio::sync::{mpsc, watch};

use crate::activity::Activity;
use crate::{Connection, Debug, Metrics, RequestBody, Service};

/// A client that has not sent the head of a request by then is cut; so is an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// A client that takes nothing of an answer for this long is cut. One that is slow is not.
const WRITE_STALL: Duration = Duration::from_mins(1);

/// How long a connection of HTTP/2 has to say goodbye: for what we say last when it is given up,
/// and for its client to close it too.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a connection that is quiet is kept when the server ends: what its client sent before it
/// could know is on its way.
const LAST_CALL: Duration = Duration::from_millis(50);

/// Requests at once on one connection of HTTP/2. No client that moves images has as many.
const MAX_STREAMS: u32 = 100;

/// What a client of HTTP/2 may send before it is taken: of one request, and of all requests of a
/// connection. Enough for 80 MB/s over a line of 12 ms there and back; the memory that one
/// connection can take.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The largest frame that is taken. More than the 16 KiB of the protocol's default saves work with
/// layers.
const MAX_FRAME: u32 = 64 << 10;

/// What is buffered of one answer.
const SEND_BUFFER: usize = 256 << 10;

/// Requests that a client has taken back and that have not been noticed yet. More of them is an
/// attack ("rapid reset").
const MAX_RESETS: usize = 20;

/// How often a client of HTTP/2 is asked whether it is there, and how long it has to say so.
const PING: Duration = Duration::from_secs(30);

/// How every connection of HTTP/2 without prior negotiation begins (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is spoken with clients.
#[derive(Clone, Debug, Default)]
pub struct Protocols {
    /// TLS instead of plain text.
    pub tls: Option<tls::Acceptor>,
    /// HTTP/2 without TLS ("h2c") for clients that begin with it, beside HTTP/1.1. An `Upgrade`
    /// from HTTP/1.1 is not taken up, as RFC 9113 §3.1 has it.
    pub h2c: bool,
}

/// Where the server is on its way to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd)]
enum Phase {
    Serving,
    /// No new connections; running requests may finish.
    Draining,
    /// Time is up: what is still running is cut off.
    Cut,
}

/// Brings all connections to an end.
pub struct Shutdown {
    phase: watch::Sender<Phase>,
    /// Every connection holds a clone of the sender; the receiver sees when all are gone.
    alive: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

/// What connections need to know about it.
#[derive(Clone)]
pub struct Ending {
    phase: watch::Receiver<Phase>,
    _alive: mpsc::Sender<()>,
}

impl Default for Shutdown {
    fn default() -> Self {
        let (phase, _) = watch::channel(Phase::Serving);
        let (alive, ended) = mpsc::channel(1);
        Self { phase, alive, ended }
    }
}

impl Shutdown {
    /// What connections need to know.
    pub fn ending(&self) -> Ending {
        Ending { phase: self.phase.subscribe(), _alive: self.alive.clone() }
    }

    /// Takes no new connections, lets running requests finish, and cuts off what is still running
    /// when `limit` has passed. True if nothing had to be cut.
    pub async fn run(mut self, limit: Duration) -> bool {
        drop(self.alive);
        self.phase.send_replace(Phase::Draining);
        let finished = tokio::time::timeout(limit, self.ended.recv()).await.is_ok();
        if !finished {
            self.phase.send_replace(Phase::Cut);
            self.ended.recv().await;
        }
        finished
    }
}

impl Ending {
    /// Waits until the end begins.
    pub async fn begun(&mut self) {
        self.reached(Phase::Draining).await;
    }

    async fn reached(&mut self, phase: Phase) {
        // An error means that nobody is left to begin it, which is the same.
        let _ = self.phase.wait_for(|now| *now >= phase).await;
    }
}

/// Serves the registry to clients until `ending` begins.
pub async fn serve(
    mut listener: Listener,
    protocols: Protocols,
    service: Service,
    metrics: Metrics,
    mut ending: Ending,
) {
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.reached(Phase::Draining) => return,
        };
        let (service, metrics, ending) = (service.clone(), metrics.clone(), ending.clone());
        let protocols = protocols.clone();
        tokio::spawn(async move {
            metrics.connection_opened();
            let failed = serve_connection(stream, peer, protocols, service, ending).await;
            metrics.connection_closed(failed);
        });
    }
}

/// Serves operators until `ending` begins.
pub async fn serve_debug(mut listener: Listener, debug: Debug, mut ending: Ending) {
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.reached(Phase::Draining) => return,
        };
        let debug = debug.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request: http::Request<Incoming>| {
                let debug = debug.clone();
                async move {
                    Ok::<_, Infallible>(
                        debug
                            .handle(request.method(), request.uri().path(), request.headers())
                            .await,
                    )
                }
            });
            let io = TokioIo::new(StallTimeout::new(stream, WRITE_STALL));
            // It ends with the process: operators' tools come back by themselves.
            let _ = http1::builder(TokioTimer::new())
                .half_close(true)
                .serve_connection(io, answer)
                .await;
        });
    }
}

/// True if the connection ended with an error.
async fn serve_connection(
    stream: Stream,
    peer: Peer,
    protocols: Protocols,
    service: Service,
    mut ending: Ending,
) -> bool {
    let agreed = {
        // Boxed, so that an idle connection does not keep room for it.
        let mut agreeing = Box::pin(agree(stream, peer, protocols));
        tokio::select! {
            agreed = &mut agreeing => Ok(agreed),
            // It was taken before the end began, so its first request may be here already.
            () = ending.reached(Phase::Draining) => tokio::time::timeout(LAST_CALL, agreeing).await,
        }
    };
    let Ok(agreed) = agreed else {
        return false;
    };
    let Some((stream, version)) = agreed else {
        return true;
    };
    // HTTP/2 cuts what it sends into frames, so it has to read it.
    let sends_files = stream.sends_files() && matches!(version, Version::Http1);
    let connection = Connection { peer, secure: stream.is_tls(), sends_files };
    match version {
        Version::Http1 => serve_http1(stream, connection, service, ending).await,
        // Boxed, so that the many connections of HTTP/1 do not keep room for it.
        Version::Http2 => Box::pin(serve_http2(stream, connection, service, ending)).await,
    }
}

enum Version {
    Http1,
    Http2,
}

/// TLS, and which HTTP is spoken. `None` if there is nobody to speak with.
async fn agree(stream: Stream, peer: Peer, protocols: Protocols) -> Option<(Stream, Version)> {
    let Some(tls) = protocols.tls else {
        return if protocols.h2c {
            begin_plain(stream).await
        } else {
            Some((stream, Version::Http1))
        };
    };
    match tls.accept(stream).await {
        Ok(stream) if stream.has_negotiated_http2() => Some((stream, Version::Http2)),
        Ok(stream) => Some((stream, Version::Http1)),
        Err(error @ HandshakeError::NotTls) => {
            tracing::info!(%peer, %error, "a connection was refused");
            None
        }
        Err(error) => {
            tracing::debug!(%peer, %error, "no TLS connection came about");
            None
        }
    }
}

async fn begin_plain(mut stream: Stream) -> Option<(Stream, Version)> {
    let begins = tokio::time::timeout(HEAD_TIMEOUT, stream.begins_with(HTTP2_PREFACE)).await;
    let version = if begins.ok()?.ok()? { Version::Http2 } else { Version::Http1 };
    Some((stream, version))
}

async fn serve_http1(
    stream: Stream,
    connection: Connection,
    service: Service,
    ending: Ending,
) -> bool {
    let service = &service;
    let answer = service_fn(move |request: http::Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let body = RequestBody::new(&parts.headers, body);
        Ok::<_, Infallible>(service.handle(parts, body, connection).await)
    });
    let io = StallTimeout::new(stream, WRITE_STALL);
    http1::serve(io, &answer, connection.peer, ending).await
}

async fn serve_http2(
    stream: Stream,
    connection: Connection,
    service: Service,
    ending: Ending,
) -> bool {
    let activity = Activity::default();
    let seen = activity.clone();
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let service = service.clone();
        let request_activity = seen.begin();
        async move {
            let (mut parts, body) = request.into_parts();
            let body = RequestBody::new(&parts.headers, body);
            name_host(&mut parts);
            let response = service.handle(parts, body, connection).await;
            Ok::<_, Infallible>(response.map(|body| request_activity.watch(body)))
        }
    });
    let stream = Linger::new(StallTimeout::new(stream, WRITE_STALL), FAREWELL);
    let io = TokioIo::new(stream);
    let given_up = activity.stopped(HEAD_TIMEOUT, WRITE_STALL);
    let serving = pin!(http2().serve_connection(io, answer));
    let ended = drive(serving, http2::Connection::graceful_shutdown, ending, given_up).await;
    log_end(connection.peer, ended.as_ref());
    !matches!(ended, Some(Ok(())))
}

/// HTTP/2 says in its target what HTTP/1 says in `Host` (RFC 9113 §8.3.1).
fn name_host(parts: &mut http::request::Parts) {
    if !parts.headers.contains_key(http::header::HOST)
        && let Some(authority) = parts.uri.authority()
        && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(http::header::HOST, host);
    }
}

/// Lets a connection run to its end, to that of the server, or to that of our patience: `None` if
/// it had to be cut.
async fn drive<C>(
    mut connection: Pin<&mut C>,
    end: impl Fn(Pin<&mut C>),
    mut ending: Ending,
    given_up: impl Future<Output = ()>,
) -> Option<hyper::Result<()>>
where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        result = connection.as_mut() => Some(result),
        () = given_up => {
            end(connection.as_mut());
            tokio::time::timeout(FAREWELL, connection).await.ok()
        }
        () = ending.reached(Phase::Draining) => {
            if let Ok(ended) = tokio::time::timeout(LAST_CALL, connection.as_mut()).await {
                return Some(ended);
            }
            end(connection.as_mut());
            tokio::select! {
                result = connection => Some(result),
                () = ending.reached(Phase::Cut) => None,
            }
        }
    }
}

fn log_end(peer: Peer, ended: Option<&hyper::Result<()>>) {
    if let Some(Err(error)) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(64 << 10)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}
