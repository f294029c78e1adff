//! Connections: taking them, giving up on dead ones, and ending in good order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use net::{Listener, StallTimeout};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::{Debug, Metrics, RequestBody, Service};

/// A client that has not sent the head of a request by then is cut; so is an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// A client that takes nothing of an answer for this long is cut. One that is slow is not.
const WRITE_STALL: Duration = Duration::from_mins(1);

/// The most that is read at once, and the largest head of a request.
const MAX_BUFFER: usize = 64 << 10;

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
    async fn reached(&mut self, phase: Phase) {
        // An error means that nobody is left to begin it, which is the same.
        let _ = self.phase.wait_for(|now| *now >= phase).await;
    }
}

/// Serves the registry to clients until `ending` begins.
pub async fn serve(listener: Listener, service: Service, metrics: Metrics, mut ending: Ending) {
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.reached(Phase::Draining) => return,
        };
        let (service, metrics, ending) = (service.clone(), metrics.clone(), ending.clone());
        tokio::spawn(async move {
            metrics.connection_opened();
            let failed = serve_connection(stream, peer, service, ending).await;
            metrics.connection_closed(failed);
        });
    }
}

/// Serves operators until `ending` begins.
pub async fn serve_debug(listener: Listener, debug: Debug, mut ending: Ending) {
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
                    Ok::<_, Infallible>(debug.handle(request.method(), request.uri().path()).await)
                }
            });
            let io = TokioIo::new(StallTimeout::new(stream, WRITE_STALL));
            // It ends with the process: operators' tools come back by themselves.
            let _ = builder().serve_connection(io, answer).await;
        });
    }
}

/// True if the connection ended with an error.
async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: Service,
    mut ending: Ending,
) -> bool {
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let service = service.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = RequestBody::new(&parts.headers, body);
            Ok::<_, Infallible>(service.handle(parts, body, peer).await)
        }
    });
    let io = TokioIo::new(StallTimeout::new(stream, WRITE_STALL));
    let mut connection = pin!(builder().serve_connection(io, answer));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = ending.reached(Phase::Draining) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection => result,
                () = ending.reached(Phase::Cut) => return true,
            }
        }
    };
    match &result {
        // Answered by hyper itself, with a status and nothing else; docker's try of TLS is one.
        Err(error) if error.is_parse() => {
            tracing::info!(%peer, %error, "a request that is not HTTP was refused");
        }
        Err(error) => tracing::debug!(%peer, %error, "connection ended"),
        Ok(()) => {}
    }
    result.is_err()
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_BUFFER);
    builder
}
