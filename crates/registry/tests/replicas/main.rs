//! Several servers that share a PostgreSQL database and a store. Starts a server of its own, which
//! must be installed.

// Clippy lets tests panic, but not yet the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../../../metadata/tests/support/mod.rs"]
mod postgres;

#[path = "../../../web/tests/support/random.rs"]
#[allow(unreachable_pub)]
mod random;

mod cluster;
mod jobs;
mod model;
mod staleness;
mod uploads;
