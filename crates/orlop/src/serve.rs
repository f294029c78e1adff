//! `orlop serve`: start, run, stop.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use http::{HeaderName, HeaderValue};
use net::Listener;
use registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use web::server::{Protocols, Shutdown, serve, serve_debug};
use web::{Debug, Metrics, Service};

use crate::config::{Config, Loaded, Storage};
use crate::store;

/// How long uploads that were cut off have to save what they received.
const SAVE_LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn run(loaded: &Loaded) -> anyhow::Result<ExitCode> {
    let config = &loaded.config;
    raise_file_limit();

    // Sockets first: a port in use is found out before any data is touched.
    let listener = Listener::bind(&config.http.addr)?;
    let debug_listener = config.http.debug_addr.as_deref().map(Listener::bind).transpose()?;
    let store = store::open(config).await?;
    let registry = &store.registry;

    announce(loaded, &listener, debug_listener.as_ref())?;

    let shutdown = Shutdown::default();
    let metrics = Metrics::default();
    let service = Service::new(registry.clone(), web_config(config)?, metrics.clone());
    let protocols = Protocols::default();
    tokio::spawn(serve(listener, protocols, service, metrics.clone(), shutdown.ending()));
    if let Some(listener) = debug_listener {
        let path = config.http.prometheus_path.clone();
        let debug = Debug::new(registry.clone(), metrics, path);
        tokio::spawn(serve_debug(listener, debug, shutdown.ending()));
    }
    if config.storage.upload_purging {
        tokio::spawn(purge_uploads(registry.clone(), config.storage.clone()));
    }

    wait_for_signal().await?;
    tracing::info!(limit = ?config.http.drain_timeout, "stopping: running requests may finish");
    if !shutdown.run(config.http.drain_timeout).await {
        tracing::warn!("some requests did not finish in time; their uploads can be resumed");
    }
    if tokio::time::timeout(SAVE_LIMIT, registry.quiesce()).await.is_err() {
        tracing::warn!("some uploads could not be saved in time");
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What a new user wants to know: where things are, and how to let others in.
fn announce(loaded: &Loaded, listener: &Listener, debug: Option<&Listener>) -> anyhow::Result<()> {
    let config = &loaded.config;
    let address = listener.local_addr().context("cannot read the listener's address")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "Orlop, a container registry");
    if let Some(file) = &loaded.source {
        tracing::info!(file = %file.display(), "configuration");
    } else {
        tracing::info!("no configuration file: defaults and REGISTRY_* variables");
    }
    tracing::info!(
        folder = %config.storage.root_directory.display(),
        deletes = if config.storage.delete_enabled { "on" } else { "off" },
        "data"
    );
    if let Some(debug) = debug {
        let address = debug.local_addr().context("cannot read the listener's address")?;
        tracing::info!(%address, "health and metrics");
    }
    tracing::info!(%address, "listening");
    if address.ip().is_loopback() {
        let port = address.port();
        tracing::info!(
            "only this machine can connect: docker push localhost:{port}/NAME; to let others in, \
             set REGISTRY_HTTP_ADDR=:{port} (there are no passwords yet)"
        );
    }
    Ok(())
}

fn web_config(config: &Config) -> anyhow::Result<web::Config> {
    let http = &config.http;
    let mut web = web::Config::new(http.host.clone(), http.relative_urls);
    web.max_catalog_entries = config.catalog_max_entries.into();
    web.max_tags = config.tags_max.into();
    for (name, value) in &http.headers {
        let name = HeaderName::try_from(name)
            .with_context(|| format!("http.headers: {name:?} is not the name of a header"))?;
        let value = HeaderValue::try_from(value)
            .with_context(|| format!("http.headers: the value of {name} is not allowed"))?;
        web.headers.push((name, value));
    }
    Ok(web)
}

/// Removes uploads that nobody goes on with, now and then.
async fn purge_uploads(registry: Registry, storage: Storage) {
    let mut due = tokio::time::interval(storage.upload_purge_interval.max(Duration::from_secs(1)));
    loop {
        due.tick().await;
        match registry.purge_uploads(storage.upload_age.as_secs()).await {
            Ok(purged) if purged == registry::Purged::default() => {}
            Ok(purged) => tracing::info!(
                sessions = purged.sessions,
                strays = purged.strays,
                "removed uploads that nobody went on with"
            ),
            Err(error) => tracing::error!(%error, "cannot remove old uploads"),
        }
    }
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: nothing is reloaded in this version; stop with SIGTERM");
            }
        }
    }
    // The second one does not wait.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(())
}

/// Every connection and every blob on its way takes a file descriptor; the usual soft limit of
/// 1024 is for programs that use select(2).
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
