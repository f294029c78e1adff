//! The protocol, resource by resource: what a client sends, and what it must be told.

// Clippy lets tests panic, but not yet the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod base;
mod blobs;
mod catalog;
mod errors;
mod manifests;
mod negotiation;
mod ranges;
mod read_only;
mod redirect;
mod referrers;
mod rules;
mod tags;
mod upload_order;
mod uploads;
