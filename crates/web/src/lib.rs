//! Requests in, responses out: what HTTP calls things, and nothing else.
//!
//! [`server`] takes connections, [`service`] decides what a request is about, and the modules
//! below [`v2`] speak the distribution protocol, a file per kind of resource. The rules are in
//! [`registry`]; every error of theirs becomes a response in one place, [`error`].

#![forbid(unsafe_code)]

mod access;
mod access_log;
mod activity;
mod client;
mod debug;
mod error;
mod health;
mod metrics;
mod query;
pub mod redirect;
mod request_body;
mod response_body;
mod search;
pub mod server;
mod service;
mod trace;
pub mod urls;
mod v2;

pub use client::Connection;
pub use debug::Debug;
pub use health::Health;
pub use metrics::{Metrics, SharedCacheEvent};
pub use request_body::RequestBody;
pub use response_body::ResponseBody;
pub use service::{Config, Service};

/// A response on its way to a client.
pub type Response = http::Response<ResponseBody>;
