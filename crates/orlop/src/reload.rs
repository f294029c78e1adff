//! What changes while the registry runs: on SIGHUP, and when the configuration file does.
//!
//! No connection notices. What cannot change is named and waits for the next start.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use net::tls::Acceptor;
use registry::Registry;

use crate::config::{self, Config, Loaded, Mode};
use crate::logging;

/// How often the configuration file is looked at.
const LOOK: Duration = Duration::from_secs(3);

/// Keys that need no restart. (The files of certificates and passwords are looked at by those who
/// use them; the names of these files are not among these.)
const RELOADABLE: [&str; 3] =
    ["log.accesslog.disabled", "log.level", "storage.maintenance.readonly.enabled"];

/// What can be reloaded, and where from.
pub(crate) struct Reload<'a> {
    /// The configuration that the registry was started with.
    pub(crate) started: &'a Loaded,
    pub(crate) mode: Mode,
    /// Takes changes, or does not.
    pub(crate) registry: &'a Registry,
    /// Holds the certificates, where there is TLS.
    pub(crate) tls: Option<Acceptor>,
}

impl Reload<'_> {
    /// Takes over what can be; of the rest, and of mistakes, the log tells.
    pub(crate) fn run(&self) {
        match self.configuration() {
            Ok(keys) if keys.is_empty() => tracing::info!("configuration reloaded"),
            Ok(keys) => tracing::warn!(
                keys = keys.join(", "),
                "configuration reloaded; these keys need a restart and stay as they are"
            ),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "the new configuration cannot be used; the old one stays"
            ),
        }
        if let Some(tls) = &self.tls
            && let Err(error) = tls.reload()
        {
            tracing::error!(%error, "the certificates cannot be used; the old ones stay");
        }
    }

    /// Returns the keys that have changed and need a restart.
    fn configuration(&self) -> anyhow::Result<Vec<String>> {
        let path = self.started.source.as_deref();
        let loaded = Config::load(path, config::environment(), self.mode)
            .map_err(|refused| refused.error)?;
        if let Some(first) = loaded.unsupported.first() {
            bail!("{first}");
        }
        logging::adjust(&loaded.config.log).context("log")?;
        self.registry.set_read_only(loaded.config.storage.read_only);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut keys = self.started.changes(&loaded);
        keys.retain(|key| !RELOADABLE.contains(&key.as_str()));
        Ok(keys)
    }
}

/// Waits for changes of a file, or for ever if there is none.
pub(crate) struct Watch<'a> {
    path: Option<&'a Path>,
    seen: Option<Stamp>,
}

/// Another one means another content.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl<'a> Watch<'a> {
    pub(crate) async fn new(path: Option<&'a Path>) -> Self {
        let mut watch = Self { path, seen: None };
        if let Some(path) = path {
            watch.seen = stamp(path).await;
        }
        watch
    }

    /// Returns when the file is another than before. May be cancelled at any time. A file that is
    /// gone is no change: it is often on its way to be replaced.
    pub(crate) async fn changed(&mut self) {
        let Some(path) = self.path else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let now = stamp(path).await;
            if now.is_some() && now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

async fn stamp(path: &Path) -> Option<Stamp> {
    let found = tokio::fs::metadata(path).await.ok()?;
    let modified = found.modified().ok();
    Some(Stamp { modified, size: found.len(), inode: found.ino() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_needs_a_restart_is_named_and_mistakes_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(blobs::FileSystem::open(folder.path()).unwrap());
        let database = folder.path().join("m.sqlite");
        let database = metadata::Metadata::open_sqlite(&database).await.unwrap();
        let registry = Registry::new(database, store, registry::Config::default());
        let path = folder.path().join("c.yml");
        let write = |text: &str| std::fs::write(&path, format!("version: 0.1\n{text}")).unwrap();
        write("");
        let load = || Config::load(Some(&path), std::iter::empty(), Mode::Lenient).unwrap();
        let started = load();
        let reload =
            Reload { registry: &registry, started: &started, mode: Mode::Lenient, tls: None };
        write("log: {level: debug, accesslog: {disabled: true}}\nhttp: {relativeurls: true}");
        assert_eq!(reload.configuration().unwrap(), ["http.relativeurls"]);
        write("log: {level: warn}\nstorage: {maintenance: {readonly: {enabled: true}}}");
        assert_eq!(reload.configuration().unwrap(), [""; 0]);
        assert!(registry.is_read_only());
        write("log: {level: warn}");
        assert_eq!(reload.configuration().unwrap(), [""; 0]);
        assert!(!registry.is_read_only());
        for (text, what) in
            [("log: {level: loud}", "loud"), ("proxy: {remoteurl: 'http://h'}", "proxy.remoteurl")]
        {
            write(text);
            let error = format!("{:#}", reload.configuration().unwrap_err());
            assert!(error.contains(what), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yml");
        std::fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(Some(&path)).await;
        assert!(tokio::time::timeout(LOOK * 3, watch.changed()).await.is_err(), "no change");
        std::fs::remove_file(&path).unwrap();
        assert!(tokio::time::timeout(LOOK * 3, watch.changed()).await.is_err(), "not there");
        std::fs::write(&path, "another").unwrap();
        assert!(tokio::time::timeout(LOOK * 3, watch.changed()).await.is_ok(), "replaced");
        assert!(tokio::time::timeout(LOOK * 3, watch.changed()).await.is_err(), "once");
    }
}
