//! `orlop serve`: start, run, stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use http::{HeaderName, HeaderValue};
use net::Listener;
use registry::{Adoption, AdoptionProgress, Registry};
use tokio::signal::unix::{SignalKind, signal};
use web::server::{Protocols, Shutdown, serve, serve_debug};
use web::{Debug, Metrics, Service};

use crate::config::{Authenticator, Config, Formatter, IndexChildren, Loaded, Net, UploadPurging};
use crate::store;

/// How long uploads that were cut off have to save what they received.
const SAVE_LIMIT: Duration = Duration::from_secs(5);

/// Repositories that are adopted at once behind the requests: few, so that these come first.
const ADOPT_AT_ONCE: usize = 4;

/// How often a running adoption says how far it is.
const ADOPTION_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// When an adoption that could not read everything is tried again.
const ADOPTION_RETRY: Duration = Duration::from_mins(1);

/// Findings that are logged; the rest is counted.
const MAX_LOGGED_FINDINGS: usize = 100;

/// `import`: whether repositories of registry:2 in the data folder are taken over.
pub(crate) async fn run(loaded: &Loaded, import: bool) -> anyhow::Result<ExitCode> {
    let config = &loaded.config;
    if let Some(what) = not_wired(config) {
        bail!("{what} comes with a later version of Orlop; this one does not start with it");
    }
    raise_file_limit();

    // Sockets first: a port in use is found out before any data is touched.
    let listener = Listener::bind(&config.http.addr)?;
    let debug_listener = config.http.debug_addr.as_deref().map(Listener::bind).transpose()?;
    let store = store::open(config).await?;
    let registry = &store.registry;

    announce(loaded, &listener, debug_listener.as_ref())?;
    adopt(registry, import).await?;

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
    match config.storage.upload_purging {
        Some(purging) if purging.dry_run => tracing::warn!(
            "uploadpurging.dryrun: uploads that nobody goes on with are kept, not listed"
        ),
        Some(purging) => drop(tokio::spawn(purge_uploads(registry.clone(), purging))),
        None => {}
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

/// Takes over what registry:2 has left in the data folder: each repository at the first request
/// for it, the rest in the background.
async fn adopt(registry: &Registry, import: bool) -> anyhow::Result<()> {
    if !import {
        if registry.skip_adoption().await? {
            tracing::warn!(
                "the data folder has repositories of registry:2, which are not served (--no-import)"
            );
        }
        return Ok(());
    }
    match registry.begin_adoption(false).await? {
        Adoption::Nothing | Adoption::Done(_) => return Ok(()),
        Adoption::LinksGone => bail!("{}", store::LINKS_GONE),
        Adoption::Begun { resumed } => tracing::info!(
            resumed,
            "found repositories of registry:2 in the data folder: they are served from now on, and \
             their links are read into the database"
        ),
    }
    tokio::spawn(adopt_in_background(registry.clone()));
    Ok(())
}

async fn adopt_in_background(registry: Registry) {
    let progress = Arc::new(AdoptionProgress::default());
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    loop {
        let log = |message| {
            tracing::info!(
                repositories = count(&progress.repositories),
                of = count(&progress.expected),
                manifests = count(&progress.manifests),
                blobs = count(&progress.blobs),
                tags = count(&progress.tags),
                "{message}"
            );
        };
        let adopting = registry.adopt_all(ADOPT_AT_ONCE, &progress);
        tokio::pin!(adopting);
        let mut due = tokio::time::interval(ADOPTION_LOG_INTERVAL);
        due.tick().await;
        let adopted = loop {
            tokio::select! {
                adopted = &mut adopting => break adopted,
                _ = due.tick() => log("import under way"),
            }
        };
        match adopted {
            Ok(()) => {
                log("import done");
                break;
            }
            Err(error) => {
                tracing::error!(%error, retry = ?ADOPTION_RETRY, "the import is not complete");
                tokio::time::sleep(ADOPTION_RETRY).await;
            }
        }
    }
    if count(&progress.uploads) > 0 {
        tracing::info!(uploads = count(&progress.uploads), "uploads in progress were left out");
    }
    log_findings(&registry).await;
}

/// Says what was odd, the first few in full.
async fn log_findings(registry: &Registry) {
    let Ok(findings) = registry.adoption_findings(0, MAX_LOGGED_FINDINGS as u64 + 1).await else {
        return;
    };
    for (_, finding) in findings.iter().take(MAX_LOGGED_FINDINGS) {
        tracing::warn!(repository = %finding.place, "import: {}", finding.problem);
    }
    if findings.len() > MAX_LOGGED_FINDINGS {
        tracing::warn!(
            "import: there is more; `orlop import` lists it when this server is stopped"
        );
    }
}

/// What the configuration asks for and this file does not do yet: a registry that is open by
/// mistake is the worst that could happen.
pub(crate) fn not_wired(config: &Config) -> Option<&'static str> {
    let Config { log, http, storage, auth, health, validation, .. } = config;
    let urls = validation.urls.as_ref();
    [
        (auth.authenticator != Authenticator::None, "auth"),
        (!auth.rules.is_empty(), "auth.rules"),
        (http.tls.is_some(), "http.tls"),
        (http.net == Net::Unix, "http.net: unix"),
        (http.prefix != "/", "http.prefix"),
        (http.h2c, "http.h2c"),
        (!http.trusted_proxies.is_empty(), "http.trustedproxies"),
        (storage.read_only, "storage.maintenance.readonly"),
        (!storage.middleware.is_empty(), "middleware.storage"),
        (!health.files.is_empty(), "health.file"),
        (!health.http.is_empty(), "health.http"),
        (!health.tcp.is_empty(), "health.tcp"),
        (log.formatter == Formatter::Logstash, "log.formatter: logstash"),
        (log.report_caller, "log.reportcaller"),
        (urls.is_some_and(|urls| !urls.allow.is_empty()), "validation.manifests.urls.allow"),
        (urls.is_some_and(|urls| !urls.deny.is_empty()), "validation.manifests.urls.deny"),
        (
            matches!(validation.index_children, IndexChildren::Platforms(_)),
            "validation.manifests.indexes.platforms: list",
        ),
        (!config.repository_classes.is_empty(), "policy.repository.classes"),
    ]
    .into_iter()
    .find_map(|(asked, what)| asked.then_some(what))
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
async fn purge_uploads(registry: Registry, purging: UploadPurging) {
    let mut due = tokio::time::interval(purging.interval.max(Duration::from_secs(1)));
    loop {
        due.tick().await;
        match registry.purge_uploads(purging.age.as_secs()).await {
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
