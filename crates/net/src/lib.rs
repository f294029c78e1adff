//! Sockets: listeners, and connections that notice when their peer has gone.

#![forbid(unsafe_code)]

mod listener;
mod stall;

pub use listener::{BindError, Listener};
pub use stall::StallTimeout;
