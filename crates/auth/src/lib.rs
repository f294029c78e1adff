//! Who is asking, and may they do this to that repository.
//!
//! [`Access`] decides about each request before anything else is done for it. It is told what the
//! request says about its sender and what it wants ([`Scope`]), and answers with a [`Caller`] or a
//! [`Refusal`]. There is a module for each way in which clients say who they are ([`htpasswd`],
//! [`token`], [`silly`]); [`rules`] say who may do what where.
//!
//! What holds at all times:
//! - What nothing allows is denied.
//! - Passwords are in no log, no error and no table: they are compared, and then known by a number
//!   that means nothing outside this process.
//! - Every table that strangers can fill is bounded.

#![forbid(unsafe_code)]

mod access;
mod caller;
mod challenge;
mod credentials;
mod error;
pub mod htpasswd;
mod own_token;
mod pattern;
pub mod rules;
mod scope;
mod seal;
pub mod silly;
mod throttle;
pub mod token;
mod watched;

pub use access::{Access, Backend, Issued, Problem, Refusal, Request, TOKEN_PATH};
pub use caller::Caller;
pub use error::Error;
pub use pattern::{Pattern, PatternError};
pub use rules::{Next, Rule, Rules, Who};
pub use scope::{Action, Scope, UnknownAction};
pub use seal::fresh_secret;
pub use throttle::{Attempt, CountAttempts, Counting};
