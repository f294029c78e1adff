//! The protocol, resource by resource: what a client sends, and what it must be told.

#[path = "../support/mod.rs"]
mod support;

mod base;
mod blobs;
mod catalog;
mod errors;
mod manifests;
mod negotiation;
mod ranges;
mod referrers;
mod tags;
mod upload_order;
mod uploads;
