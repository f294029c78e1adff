//! From the tree to typed settings, for what the server acts on.

mod auth;
mod buckets;
mod database;
mod health;
mod http;
mod log;
mod redis;
mod section;
mod storage;
mod validation;

use std::fmt;

pub(crate) use auth::{Action, Auth, Authenticator, Jwks, Rule, Token, User};
#[cfg(test)]
pub(crate) use buckets::{Bucket, Maker};
pub(crate) use database::{Database, SQLITE_SCHEME};
pub(crate) use health::{Health, HttpCheck};
pub(crate) use http::{Certificate, ClientAuth, Http, Net, Tls, TlsVersion};
pub(crate) use log::{Formatter, Level, Log};
pub(crate) use redis::{Login as RedisLogin, Redis, RedisTls, Servers as RedisServers};
pub(crate) use storage::{AmazonNetworks, Place, Storage, StorageMiddleware, UploadPurging};
pub(crate) use validation::{IndexChildren, Platform, Require, Validation};
#[cfg(test)] // The server reads their fields without naming them.
pub(crate) use {
    health::{FileCheck, StorageCheck, TcpCheck},
    http::LetsEncrypt,
    validation::Urls,
};

use super::Notes;
use super::error::ConfigError;
use super::kind;
use super::tree::{MASK, Node};
use section::Section;

/// As many results as `distribution` gives at most in one page.
const PAGE: u32 = 1000;

/// All that can be set, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) log: Log,
    pub(crate) http: Http,
    pub(crate) storage: Storage,
    pub(crate) database: Database,
    pub(crate) auth: Auth,
    /// Used with an object store only.
    pub(crate) redis: Option<Redis>,
    pub(crate) health: Health,
    pub(crate) validation: Validation,
    /// The classes of content that may be pushed, `image` or `plugin`; all if empty
    /// (`policy.repository.classes`).
    pub(crate) repository_classes: Vec<String>,
    /// The most repositories in one page of the catalogue (`catalog.maxentries`).
    pub(crate) catalog_max_entries: u32,
    /// The most tags in one page (`tags.maxtags`).
    pub(crate) tags_max: u32,
}

/// Reads every key that the server acts on from a tree that was checked and filled.
pub(super) fn read(root: &Node, notes: &mut Notes) -> Result<Config, ConfigError> {
    let root = Section::root(root);
    let storage = storage::read(&root)?;
    Ok(Config {
        log: log::read(&root.section("log"))?,
        http: http::read(&root.section("http"), notes)?,
        database: database::read(&root, &storage.place)?,
        storage,
        auth: auth::read(&root.section("auth"))?,
        redis: redis::read(&root.section("redis"))?,
        health: health::read(&root.section("health"))?,
        validation: validation::read(&root.section("validation"))?,
        repository_classes: root.section("policy.repository").texts("classes")?,
        catalog_max_entries: page(&root, "catalog.maxentries")?,
        tags_max: page(&root, "tags.maxtags")?,
    })
}

/// A page size, which has no use above 2^32 - 1. As in `distribution`, zero means the default;
/// where less is allowed, it does so too.
fn page(root: &Section<'_>, key: &str) -> Result<u32, ConfigError> {
    Ok(match root.get(key, kind::whole)? {
        Some(number @ 1..) => u32::try_from(number).unwrap_or(u32::MAX),
        _ => PAGE,
    })
}

/// A text that no log line or message shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself: for use, never for output.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
