//! `orlop serve`: start, run, stop.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use auth::Access;
use cloudfront::{PrivateKey, Signer};
use http::{HeaderName, HeaderValue};
use net::Listener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use web::redirect::{Redirect, Rewrite};
use web::server::{Shutdown, serve, serve_debug};
use web::urls::Prefix;
use web::{Debug, Health, Metrics, Service};

use crate::config::{Config, Loaded, Mode, StorageMiddleware};
use crate::health::Checks;
use crate::reload::{Reload, Watch};
use crate::traces::Exporter;
use crate::{access, adoption, amazon_networks, cli, database, purging, store, transport};

/// How long uploads that were cut off have to save what they received.
const SAVE_LIMIT: Duration = Duration::from_secs(5);

/// Serves what `loaded` says until a signal ends it, and sends traces if there is an exporter.
pub(crate) async fn run(
    loaded: &Loaded,
    options: &cli::Serve,
    exporter: Option<Exporter>,
) -> anyhow::Result<ExitCode> {
    let config = &loaded.config;
    // Before anything else: a signal that comes while it starts counts when it has started.
    let signals = Signals::register()?;
    raise_file_limit();

    // Sockets first: a port in use is found out before any data is touched.
    let listener = transport::listen(&config.http)?;
    let debug_listener = config.http.debug_addr.as_deref().map(Listener::bind).transpose()?;
    let protocols = transport::protocols(&config.http)?;
    let metrics = Metrics::default();
    let store = store::open(config, &metrics).await?;
    let registry = &store.registry;
    metrics.database(registry);
    let access = access::open(config, registry).await?;
    let checks = Checks::new(&config.health, config.storage.place.driver(), registry)?;

    announce(loaded, &listener, debug_listener.as_ref(), access.is_open());
    adoption::begin(registry, !options.no_import).await?;

    let shutdown = Shutdown::default();
    let health = Health::default();
    let traces = exporter.map(|exporter| exporter.start(metrics.clone()));
    let face = web_config(config, access, health.clone())?;
    let service = Service::new(registry.clone(), face, metrics.clone());
    checks.run(&health, &shutdown.ending());
    let mode = Mode::of(options.strict);
    let reload = Reload { registry, started: loaded, mode, tls: protocols.tls.clone() };
    tokio::spawn(serve(listener, protocols, service, metrics.clone(), shutdown.ending()));
    if let Some(listener) = debug_listener {
        let path = config.http.prometheus_path.clone();
        let debug = Debug::new(registry.clone(), health, metrics, path);
        tokio::spawn(serve_debug(listener, debug, shutdown.ending()));
    }
    let journal = {
        let registry = registry.clone();
        tokio::spawn(async move { registry.keep_journal_short().await })
    };
    if let Some(purging) = config.storage.upload_purging {
        tokio::spawn(purging::run(registry.clone(), purging));
    }

    let lost = tokio::select! {
        () = signals.run_until_end(&reload) => false,
        () = store.database.lost() => true,
    };
    tracing::info!(limit = ?config.http.drain_timeout, "stopping: running requests may finish");
    if !shutdown.run(config.http.drain_timeout).await {
        tracing::warn!("some requests did not finish in time; their uploads can be resumed");
    }
    if tokio::time::timeout(SAVE_LIMIT, registry.quiesce()).await.is_err() {
        tracing::warn!("some uploads could not be saved in time");
    }
    journal.abort();
    match tokio::time::timeout(SAVE_LIMIT, registry.trim_journal()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the next start puts back what was pushed last"),
        Err(_) => tracing::warn!("the disk is slow: the next start puts back what was pushed last"),
    }
    if let Some(traces) = traces {
        traces.finish().await;
    }
    tracing::info!("stopped");
    if lost {
        bail!("{}", database::LOST);
    }
    Ok(ExitCode::SUCCESS)
}

/// What a new user wants to know: where things are, and how to let others in.
fn announce(loaded: &Loaded, listener: &Listener, debug: Option<&Listener>, open: bool) {
    let config = &loaded.config;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "Orlop, a container registry");
    if let Some(file) = &loaded.source {
        tracing::info!(file = %file.display(), "configuration");
    } else {
        tracing::info!("no configuration file: defaults and REGISTRY_* variables");
    }
    tracing::info!(
        store = %config.storage.place,
        deletes = if config.storage.delete_enabled { "on" } else { "off" },
        read_only = config.storage.read_only,
        database = database::place(config),
        "data"
    );
    if let Some(Ok(address)) = debug.map(Listener::local_addr) {
        tracing::info!(%address, "health and metrics");
    }
    let tls = if config.http.tls.is_some() { "on" } else { "off" };
    let passwords = if open { "off" } else { "on" };
    let Ok(address) = listener.local_addr() else {
        tracing::info!(socket = %listener, tls, passwords, "listening");
        return;
    };
    tracing::info!(%address, tls, passwords, "listening");
    if address.ip().is_loopback() {
        let port = address.port();
        let how = if listener.is_inherited() {
            format!("put ListenStream={port} into the socket unit")
        } else {
            format!("set REGISTRY_HTTP_ADDR=:{port}")
        };
        let warning = if open { "; whoever can connect can then pull and push" } else { "" };
        tracing::info!(
            "only this machine can connect: docker push localhost:{port}/NAME; to let others in, \
             {how}{warning}"
        );
    }
}

fn web_config(config: &Config, access: Access, health: Health) -> anyhow::Result<web::Config> {
    let http = &config.http;
    let mut web = web::Config::new(http.host.clone(), http.relative_urls);
    web.max_catalog_entries = config.catalog_max_entries.into();
    web.max_tags = config.tags_max.into();
    web.access = access;
    web.health = health;
    web.trusted_proxies = transport::trusted_proxies(config)?;
    web.urls.prefix = Prefix::parse(&http.prefix)
        .with_context(|| format!("http.prefix: {:?} is not a path", http.prefix))?;
    for (name, value) in &http.headers {
        let name = HeaderName::try_from(name)
            .with_context(|| format!("http.headers: {name:?} is not the name of a header"))?;
        let value = HeaderValue::try_from(value)
            .with_context(|| format!("http.headers: the value of {name} is not allowed"))?;
        web.headers.append(name, value);
    }
    if config.storage.redirect {
        web.redirect = redirect(config)?;
    }
    Ok(web)
}

/// Where clients are sent for blobs.
fn redirect(config: &Config) -> anyhow::Result<Redirect> {
    let middleware = &config.storage.middleware;
    let mut redirect = Redirect::default();
    // What is kept here is kept in order to be sent from here.
    if config.storage.place.folder().is_none() && config.storage.disk_cache.is_none() {
        redirect.push_store();
    }
    for entry in middleware {
        match entry {
            StorageMiddleware::Redirect { base_url } => {
                if !redirect.push_target(base_url) {
                    bail!("middleware.storage: redirect: baseurl is no URL that can be sent");
                }
            }
            StorageMiddleware::CloudFront {
                base_url,
                private_key,
                key_pair_id,
                lifetime,
                passed_by,
            } => {
                let cannot =
                    || format!("middleware.storage: cloudfront: {}", private_key.display());
                let pem = std::fs::read(private_key).with_context(cannot)?;
                let key = PrivateKey::from_pem(&pem).with_context(cannot)?;
                let signer = Signer::new(key, key_pair_id.clone());
                let passed_by = passed_by.clone().map(amazon_networks::follow).transpose();
                let passed_by =
                    passed_by.context("middleware.storage: cloudfront: ipfilteredby")?;
                if !redirect.push_cloudfront(base_url, signer, *lifetime, passed_by) {
                    bail!("middleware.storage: cloudfront: baseurl is no URL that can be sent");
                }
            }
            StorageMiddleware::Rewrite { scheme, host, trim_path_prefix } => {
                let scheme = scheme.as_deref().map(str::parse).transpose();
                let host = host.as_deref().map(str::parse).transpose();
                redirect.push_rewrite(Rewrite {
                    scheme: scheme.context("middleware.storage: rewrite: scheme")?,
                    host: host.context("middleware.storage: rewrite: host")?,
                    trim_path_prefix: trim_path_prefix.clone(),
                });
            }
        }
    }
    if config.storage.disk_cache.is_some() && redirect.is_on() {
        tracing::warn!(
            "middleware.storage sends clients elsewhere for blobs, so that storage.cache.disk has \
             little but manifests"
        );
    }
    if !middleware.is_empty() && !redirect.is_on() {
        tracing::warn!(
            "middleware.storage: nothing makes a URL that could be rewritten; blobs are served here"
        );
    }
    Ok(redirect)
}

/// What a server is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn register() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn run_until_end(mut self, reload: &Reload<'_>) {
        let path = reload.started.source.as_deref();
        let mut file = Watch::new(path).await;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {
                    file = Watch::new(path).await;
                    reload.run();
                }
                () = file.changed() => reload.run(),
            }
        }
        // The second one does not wait.
        tokio::spawn(async move {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            std::process::exit(130);
        });
    }
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
