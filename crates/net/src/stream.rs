//! A connection, whatever it came over.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;

/// A connection that was accepted: TCP or a unix socket, with TLS or without.
///
/// It has one of the listener's places and gives it back when it goes.
#[derive(Debug)]
pub struct Stream {
    transport: Transport,
    /// What [`Self::begins_with`] has looked at and nobody has read yet.
    ahead: Vec<u8>,
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    /// Boxed: it is large, and has costs beside which that of the box is nothing.
    Tls(Box<TlsStream<Stream>>),
    Unix(UnixStream),
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// An address. IPv4 is never in the clothes of IPv6.
    Address(SocketAddr),
    /// A program on this machine.
    Unix,
}

impl Stream {
    pub(crate) fn tcp(socket: TcpStream, place: OwnedSemaphorePermit) -> Self {
        Self { transport: Transport::Tcp(socket), ahead: Vec::new(), _place: Some(place) }
    }

    pub(crate) fn unix(socket: UnixStream, place: OwnedSemaphorePermit) -> Self {
        Self { transport: Transport::Unix(socket), ahead: Vec::new(), _place: Some(place) }
    }

    /// The stream within has the place.
    pub(crate) fn tls(stream: TlsStream<Self>) -> Self {
        Self { transport: Transport::Tls(Box::new(stream)), ahead: Vec::new(), _place: None }
    }

    /// Whether what is sent is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Whether bytes of [`sendfile::map`] leave it by `sendfile(2)`.
    pub fn sends_files(&self) -> bool {
        matches!(self.transport, Transport::Tcp(_))
    }

    /// Whether peers agreed on HTTP/2 in their handshake (ALPN, RFC 7301).
    pub fn has_negotiated_http2(&self) -> bool {
        match &self.transport {
            Transport::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Transport::Tcp(_) | Transport::Unix(_) => false,
        }
    }

    /// Waits for the first bytes: are they these? What is looked at is still read afterwards.
    /// Waits no longer than it takes to be sure.
    pub async fn begins_with(&mut self, expected: &[u8]) -> io::Result<bool> {
        let mut seen = Vec::with_capacity(expected.len());
        while seen.len() < expected.len() && expected.starts_with(&seen) {
            let missing = (expected.len() - seen.len()) as u64;
            if (&mut *self).take(missing).read_buf(&mut seen).await? == 0 {
                break;
            }
        }
        let equal = seen == expected;
        seen.append(&mut self.ahead);
        self.ahead = seen;
        Ok(equal)
    }
}

impl Peer {
    /// Its address, if it has one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Address(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// Says what is wrong with a file. What is wrong with the peer is nobody's business here.
fn tell(error: &io::Error) {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, NotConnected, TimedOut,
        WouldBlock,
    };
    let is_of_peer = matches!(
        error.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | Interrupted
            | NotConnected
            | TimedOut
            | WouldBlock
    );
    if !is_of_peer {
        tracing::error!(%error, "a file can not be sent");
    }
}

/// Sends by a call of the system that tokio does not have.
fn poll_send(
    socket: &TcpStream,
    context: &mut Context<'_>,
    mut send: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(context))?;
        match socket.try_io(Interest::WRITABLE, &mut send) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            sent => return Poll::Ready(sent),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.drain(..length).collect::<Vec<_>>());
            return Poll::Ready(Ok(()));
        }
        match &mut self.transport {
            Transport::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(socket) => match sendfile::next(slices) {
                sendfile::Next::Memory => Pin::new(socket).poll_write_vectored(context, slices),
                sendfile::Next::MemoryAndFile(count) => {
                    let slices = slices.get(..count).unwrap_or_default();
                    poll_send(socket, context, || sendfile::send_before_file(&*socket, slices))
                }
                sendfile::Next::File(piece) => {
                    poll_send(socket, context, || piece.send(&*socket).inspect_err(tell))
                }
            },
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Unix(socket) => Pin::new(socket).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(socket) => socket.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Unix(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
            Transport::Unix(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Unix(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
