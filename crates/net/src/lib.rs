//! Sockets, both ways: listeners, TLS, connections that notice when their peer has gone, and a
//! client for other servers.

#![forbid(unsafe_code)]

pub mod acme;
mod activation;
pub mod client;
mod linger;
mod listener;
pub mod proxies;
mod stall;
mod stream;
pub mod tls;
pub mod transport;
mod unix;

pub use linger::Linger;
pub use listener::{BindError, Listener};
pub use stall::StallTimeout;
pub use stream::{Peer, Stream};
