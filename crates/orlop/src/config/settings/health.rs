//! `health`: what is looked at while the registry runs.

use std::path::PathBuf;
use std::time::Duration;

use super::super::error::ConfigError;
use super::Secret;
use super::section::Section;

/// How often a check runs for which zero is given, as in `distribution`.
const INTERVAL: Duration = Duration::from_secs(10);

/// `health`. A check with a threshold of n is a failure after n failures in a row; 0 and 1 mean
/// the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) storage: Option<StorageCheck>,
    pub(crate) files: Vec<FileCheck>,
    pub(crate) http: Vec<HttpCheck>,
    pub(crate) tcp: Vec<TcpCheck>,
}

/// The store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorageCheck {
    pub(crate) interval: Duration,
    pub(crate) threshold: u32,
}

/// The file does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileCheck {
    pub(crate) file: PathBuf,
    pub(crate) interval: Duration,
}

/// A HEAD request has this answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpCheck {
    pub(crate) uri: String,
    /// Valid names and values.
    pub(crate) headers: Vec<(String, Secret)>,
    pub(crate) status: u16,
    pub(crate) timeout: Duration,
    pub(crate) interval: Duration,
    pub(crate) threshold: u32,
}

/// A connection can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TcpCheck {
    /// `host:port`.
    pub(crate) addr: String,
    pub(crate) timeout: Duration,
    pub(crate) interval: Duration,
    pub(crate) threshold: u32,
}

pub(super) fn read(health: &Section<'_>) -> Result<Health, ConfigError> {
    let storage = health.section("storagedriver");
    Ok(Health {
        storage: if storage.is_on("enabled")? {
            Some(StorageCheck {
                interval: length(&storage, "interval")?,
                threshold: storage.must_number("threshold")?,
            })
        } else {
            None
        },
        files: health.sections("file").iter().map(file).collect::<Result<_, _>>()?,
        http: health.sections("http").iter().map(http).collect::<Result<_, _>>()?,
        tcp: health.sections("tcp").iter().map(tcp).collect::<Result<_, _>>()?,
    })
}

fn file(check: &Section<'_>) -> Result<FileCheck, ConfigError> {
    let file = check.must_text("file")?.into();
    Ok(FileCheck { file, interval: length(check, "interval")? })
}

fn http(check: &Section<'_>) -> Result<HttpCheck, ConfigError> {
    let headers = check.pairs("headers").into_iter();
    Ok(HttpCheck {
        uri: check.must_text("uri")?,
        headers: headers.map(|(name, value)| (name, Secret::new(value))).collect(),
        status: check.must_number("statuscode")?,
        timeout: length(check, "timeout")?,
        interval: length(check, "interval")?,
        threshold: check.must_number("threshold")?,
    })
}

fn tcp(check: &Section<'_>) -> Result<TcpCheck, ConfigError> {
    Ok(TcpCheck {
        addr: check.must_text("addr")?,
        timeout: length(check, "timeout")?,
        interval: length(check, "interval")?,
        threshold: check.must_number("threshold")?,
    })
}

fn length(check: &Section<'_>, key: &str) -> Result<Duration, ConfigError> {
    let length = check.must_duration(key)?;
    Ok(if length.is_zero() { INTERVAL } else { length })
}
