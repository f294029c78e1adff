//! The facts: which repositories, manifests, tags, blob links and uploads exist.
//!
//! One API over two engines. [`Metadata`] runs *transaction functions*: an async function that is
//! given a [`Tx`] and its input, and either returns a value (the transaction commits) or an error
//! (nothing of it happened). A transaction function must be safe to run again, which
//! either engine may do: PostgreSQL when it loses against another, SQLite when another that shares
//! its commit fails halfway. It must do nothing but talk to its [`Tx`].
//!
//! The functions that talk about one kind of fact live in the module of that name
//! ([`repositories`], [`blobs`], [`manifests`], [`tags`], [`uploads`], [`journal`], [`leases`],
//! [`attempts`], [`adoption`]). A rule that spans several of them is composed by the caller inside
//! one transaction. All SQL of the project is in this crate, and the same texts serve both engines.
//!
//! Times are microseconds since the Unix epoch, in UTC.

#![forbid(unsafe_code)]

pub mod adoption;
pub mod attempts;
pub mod blobs;
pub mod conformance;
mod copy;
mod error;
pub mod garbage;
pub mod journal;
pub mod leases;
pub mod manifests;
mod migrate;
pub mod repositories;
pub mod settings;
mod sql;
mod status;
mod tables;
pub mod tags;
pub mod uploads;

pub use copy::CopyProgress;
pub use error::{Error, ErrorKind};
pub(crate) use sql::size as sql_size;
pub use sql::{
    Address, Connections, Durability, Lock, Metadata, Presence, Retry, Role, Tx, TxFuture,
};
pub(crate) use sql::{Query, Row, Value};
pub use status::Status;
