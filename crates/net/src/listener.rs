//! Where connections come in.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait to be accepted, at most.
const BACKLOG: i32 = 4096;

/// A peer that has vanished without a word is found out after a few of these.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// How long to wait when the process is out of file descriptors: some will come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that accepts TCP connections.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
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
        let failed = |source| BindError { address: address.to_owned(), source };
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "expected host:port or :port");
        for candidate in candidates(address).map_err(failed)? {
            match listen(candidate) {
                Ok(socket) => return Ok(Self { socket }),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection. Problems of a single connection, or of the process for a moment, are
    /// waited out.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Neither is worth losing a connection for.
                    let _ = stream.set_nodelay(true);
                    let keepalive =
                        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                    return (stream, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
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
        let listener = Listener::bind(":0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (client, (_, peer)) =
            tokio::join!(TcpStream::connect(("127.0.0.1", port)), listener.accept());
        client.unwrap();
        assert!(peer.ip().to_canonical().is_loopback());
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        for address in ["", "5000", ":", ":99999", "127.0.0.1", "nosuchhost.invalid:1"] {
            assert!(Listener::bind(address).is_err(), "{address:?}");
        }
    }
}
