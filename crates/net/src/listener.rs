//! Where connections come in.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::activation::{self, Inherited};
use crate::stream::{Peer, Stream};
use crate::unix::{self, SocketFile};

/// Connections that wait to be accepted, at most.
const BACKLOG: i32 = 4096;

/// A peer that has vanished without a word is found out after a few of these.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// How long to wait when the process is out of file descriptors: some will come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// File descriptors that are left to everything else: the database, logs, uploads, and the files
/// that the store keeps open.
const RESERVED_FILES: u64 = 256;

/// More connections than this are not waited for by anything that one machine could do.
const MOST_CONNECTIONS: u64 = 1 << 20;

/// How often the log says that there are too many connections.
const WARNING_PAUSE: Duration = Duration::from_mins(1);

/// A socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    socket: ListeningSocket,
    is_inherited: bool,
    places: Arc<Semaphore>,
    warned: Option<Instant>,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    /// With the file to remove afterwards, if it is ours.
    Unix(UnixListener, Option<SocketFile>),
}

enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// An address could not be listened on.
#[derive(Debug)]
pub struct BindError {
    address: String,
    source: io::Error,
}

impl Listener {
    /// Listens on `address`: `host:port`, or `:port` for every address of this machine, IPv6 and
    /// IPv4 alike. Port 0 takes a free one. Must be called inside a Tokio runtime.
    pub fn bind(address: &str) -> Result<Self, BindError> {
        let failed = |source| BindError::new(address, source);
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "expected host:port or :port");
        for candidate in candidates(address).map_err(failed)? {
            match listen(candidate) {
                Ok(socket) => return Ok(Self::new(ListeningSocket::Tcp(socket))),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Listens on a unix socket. A stale one is removed first; the new one may be used by all
    /// who can reach its path, and is removed when this is dropped. Must be called inside a Tokio
    /// runtime.
    pub fn bind_unix(path: &Path) -> Result<Self, BindError> {
        let (socket, file) = unix::listen(path, BACKLOG)
            .map_err(|source| BindError::new(&path.display().to_string(), source))?;
        Ok(Self::new(ListeningSocket::Unix(socket, Some(file))))
    }

    /// The socket that systemd started this process with (`LISTEN_PID`, `LISTEN_FDS`), TCP or
    /// unix; `None` if there is none. It counts more than any configured address. The first call
    /// takes it. Must be called inside a Tokio runtime.
    pub fn inherited() -> Result<Option<Self>, BindError> {
        let failed = |source| BindError::new("the socket from systemd", source);
        let socket = match activation::take()? {
            None => return Ok(None),
            Some(Inherited::Tcp(socket)) => {
                socket.set_nonblocking(true).map_err(failed)?;
                ListeningSocket::Tcp(TcpListener::from_std(socket).map_err(failed)?)
            }
            Some(Inherited::Unix(socket)) => {
                socket.set_nonblocking(true).map_err(failed)?;
                ListeningSocket::Unix(UnixListener::from_std(socket).map_err(failed)?, None)
            }
        };
        Ok(Some(Self { is_inherited: true, ..Self::new(socket) }))
    }

    fn new(socket: ListeningSocket) -> Self {
        Self {
            socket,
            is_inherited: false,
            places: Arc::new(Semaphore::new(default_places())),
            warned: None,
        }
    }

    /// Whether it came from [`Self::inherited`], so that systemd decides who can connect.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    /// Has at most so many connections at once, at least one; others wait to be accepted. Without
    /// this it is half of what the process may open files: a connection and what it reads.
    #[must_use]
    pub fn with_limit(mut self, connections: usize) -> Self {
        self.places = Arc::new(Semaphore::new(connections.max(1)));
        self
    }

    /// The address that is listened on. A unix socket has none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            ListeningSocket::Tcp(socket) => socket.local_addr(),
            ListeningSocket::Unix(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The next connection. Problems of a single connection, or of the process for a moment, are
    /// waited out.
    pub async fn accept(&mut self) -> (Stream, Peer) {
        let place = self.place().await;
        loop {
            match self.socket.accept().await {
                Ok(Accepted::Tcp(socket, peer)) => {
                    // Neither is worth losing a connection for.
                    let _ = socket.set_nodelay(true);
                    let keepalive =
                        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                    let _ = SockRef::from(&socket).set_tcp_keepalive(&keepalive);
                    return (Stream::tcp(socket, place), peer.into());
                }
                Ok(Accepted::Unix(socket)) => return (Stream::unix(socket, place), Peer::Unix),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn place(&mut self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return place;
        }
        if self.warned.is_none_or(|warned| warned.elapsed() > WARNING_PAUSE) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                "as many connections as the limit of open files (ulimit -n) allows: new ones wait"
            );
        }
        loop {
            // It is never closed.
            if let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
                return place;
            }
        }
    }
}

impl ListeningSocket {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                socket.accept().await.map(|(socket, peer)| Accepted::Tcp(socket, peer))
            }
            Self::Unix(socket, _) => {
                socket.accept().await.map(|(socket, _)| Accepted::Unix(socket))
            }
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            ListeningSocket::Tcp(socket) => match socket.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("unknown"),
            },
            ListeningSocket::Unix(_, Some(file)) => write!(f, "unix:{}", file.path().display()),
            ListeningSocket::Unix(socket, None) => {
                let address = socket.local_addr().ok();
                match address.as_ref().and_then(|address| address.as_pathname()) {
                    Some(path) => write!(f, "unix:{}", path.display()),
                    None => f.write_str("unix"),
                }
            }
        }
    }
}

fn default_places() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(MOST_CONNECTIONS);
    let places = (files.saturating_sub(RESERVED_FILES) / 2).clamp(16, MOST_CONNECTIONS);
    usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS)
}

fn candidates(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Some(port) = address.strip_prefix(':') {
        let port = port.parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "expected a port from 0 to 65535 after ':'")
        })?;
        // The first serves both kinds of address; the second is for machines without IPv6.
        return Ok(vec![
            (Ipv6Addr::UNSPECIFIED, port).into(),
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ]);
    }
    let mut found: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    // "localhost" means 127.0.0.1 to everyone who types it.
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

impl BindError {
    pub(crate) fn new(address: &str, source: io::Error) -> Self {
        Self { address: address.to_owned(), source }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {address}: another program is listening there already")
            }
            io::ErrorKind::PermissionDenied => {
                write!(f, "cannot listen on {address}: not permitted (ports below 1024 need root)")
            }
            _ => write!(f, "cannot listen on {address}: {}", self.source),
        }
    }
}

// The message has the cause in it, so there is no `source`.
impl std::error::Error for BindError {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_one_clear_line() {
        let first = Listener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = Listener::bind(&address).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("cannot listen on {address}: another program is listening there already")
        );
    }

    #[tokio::test]
    async fn a_bare_port_serves_ipv4() {
        let mut listener = Listener::bind(":0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (client, (_, peer)) =
            tokio::join!(TcpStream::connect(("127.0.0.1", port)), listener.accept());
        client.unwrap();
        assert_eq!(peer.ip(), Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        for address in ["", "5000", ":", ":99999", "127.0.0.1", "nosuchhost.invalid:1"] {
            assert!(Listener::bind(address).is_err(), "{address:?}");
        }
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait() {
        let mut listener = Listener::bind("127.0.0.1:0").unwrap().with_limit(1);
        let address = listener.local_addr().unwrap();
        let clients = [TcpStream::connect(address).await, TcpStream::connect(address).await];
        let (first, _) = listener.accept().await;
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, listener.accept()).await.is_err());
        drop(first);
        tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.unwrap();
        drop(clients);
    }

    #[tokio::test]
    async fn a_unix_socket_is_for_all_who_reach_it_and_goes_with_the_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orlop.sock");
        let mut listener = Listener::bind_unix(&path).unwrap();
        assert_eq!(listener.to_string(), format!("unix:{}", path.display()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o666);
        let (client, (_, peer)) = tokio::join!(UnixStream::connect(&path), listener.accept());
        client.unwrap();
        assert_eq!(peer, Peer::Unix);

        let error = Listener::bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("another program is listening there already"), "{error}");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_unix_socket_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let stale = folder.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        assert!(stale.exists());
        Listener::bind_unix(&stale).unwrap();

        let file = folder.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        let error = Listener::bind_unix(&file).unwrap_err().to_string();
        assert!(error.contains("which is not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

        let long = folder.path().join("x".repeat(200));
        assert!(Listener::bind_unix(&long).is_err());
    }

    #[tokio::test]
    async fn what_was_looked_at_is_still_read() {
        let mut listener = Listener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (client, (mut stream, _)) =
            tokio::join!(TcpStream::connect(address), listener.accept());
        let mut client = client.unwrap();
        client.write_all(b"GET / HTTP/1.1").await.unwrap();
        assert!(!stream.begins_with(b"PRI * HTTP/2.0").await.unwrap());
        assert!(stream.begins_with(b"GET ").await.unwrap());
        assert!(!stream.begins_with(&[0x16]).await.unwrap());
        client.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "GET / HTTP/1.1");
    }
}
