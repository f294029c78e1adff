//! `http`: listeners, URLs, TLS.

use std::path::PathBuf;
use std::time::Duration;

use super::super::Notes;
use super::super::duration;
use super::super::error::{ConfigError, Origin};
use super::super::keys::SAFE_CIPHER_SUITES;
use super::super::kind::{self, Network};
use super::Secret;
use super::section::Section;

/// `http`: where the registry listens and what it answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    pub(crate) net: Net,
    /// With [`Net::Tcp`] `host:port`, where an empty host is every address of the machine and the
    /// port is a number; with [`Net::Unix`] the path of a socket.
    pub(crate) addr: String,
    /// What instances behind one load balancer share. `distribution` signs the state of uploads
    /// with it; Orlop keeps that state in the database.
    pub(crate) secret: Option<Secret>,
    /// `https://name[:port]`, the start of every absolute URL in an answer; no slash at the end.
    pub(crate) host: Option<String>,
    /// Starts and ends with a slash; `/` alone where none is set.
    pub(crate) prefix: String,
    /// Whether `Location` holds a path only.
    pub(crate) relative_urls: bool,
    /// Added to every answer of the API. Valid names and values, in the order of the file; a name
    /// occurs once per value.
    pub(crate) headers: Vec<(String, String)>,
    /// How long running requests may take after a SIGTERM.
    pub(crate) drain_timeout: Duration,
    /// Where health and metrics are served: `host:port`.
    pub(crate) debug_addr: Option<String>,
    /// The path of the metrics on `debug_addr`; none without `debug_addr`. Starts with `/`.
    pub(crate) prometheus_path: Option<String>,
    /// HTTP/2 over TLS.
    pub(crate) http2: bool,
    /// HTTP/2 without TLS.
    pub(crate) h2c: bool,
    pub(crate) tls: Option<Tls>,
    /// Whose `X-Forwarded-For` and `Forwarded` say where a client is. Not for URLs, which follow
    /// these headers from anyone, as in `distribution`.
    pub(crate) trusted_proxies: Vec<Network>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    Tcp,
    Unix,
}

/// `http.tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) certificate: Certificate,
    /// None: clients are not asked for a certificate.
    pub(crate) clients: Option<ClientCertificates>,
    pub(crate) minimum: TlsVersion,
    /// Go's names, all of them safe, in the order of the file; if empty, all safe ones.
    pub(crate) cipher_suites: Vec<String>,
}

/// Where the server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Certificate {
    Files { certificate: PathBuf, key: PathBuf },
    LetsEncrypt(LetsEncrypt),
}

/// `http.tls.letsencrypt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LetsEncrypt {
    /// A folder.
    pub(crate) cache: PathBuf,
    pub(crate) email: Option<String>,
    /// Not empty.
    pub(crate) hosts: Vec<String>,
    /// Another ACME server than that of Let's Encrypt.
    pub(crate) directory_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificates {
    pub(crate) mode: ClientAuth,
    /// Files of PEM certificates; not empty.
    pub(crate) authorities: Vec<PathBuf>,
}

/// What is asked of a client's certificate (Go's `tls.ClientAuthType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// It may send one, which is not verified.
    Request,
    /// It must send one, which is not verified.
    RequireAny,
    /// It may send one, which must then be good.
    VerifyIfGiven,
    /// It must send a good one.
    RequireAndVerify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    V1_2,
    V1_3,
}

pub(super) fn read(http: &Section<'_>, notes: &mut Notes) -> Result<Http, ConfigError> {
    let net = http.must("net", |text| match text.to_ascii_lowercase().as_str() {
        "tcp" => Some(Net::Tcp),
        "unix" => Some(Net::Unix),
        _ => None,
    })?;
    // The default is a port.
    if net == Net::Unix && matches!(http.origin_of("addr"), Origin::Default) {
        return Err(http.unfit("addr", "expected the path of a socket, as net is unix, found none"));
    }
    let debug_addr = http.text("debug.addr")?;
    Ok(Http {
        net,
        addr: http.must("addr", |text| {
            (net == Net::Unix || kind::is_address(text)).then(|| text.to_owned())
        })?,
        secret: http.text("secret")?.map(Secret::new),
        host: http.get("host", |text| kind::host(text).map(str::to_owned))?,
        prefix: http.text("prefix")?.map_or_else(|| "/".to_owned(), with_slash),
        relative_urls: http.is_on("relativeurls")?,
        headers: headers(http, notes),
        drain_timeout: drain_timeout(http, notes)?,
        prometheus_path: prometheus_path(http)?.filter(|_| debug_addr.is_some()),
        debug_addr,
        http2: !http.is_on("http2.disabled")?,
        h2c: http.is_on("h2c.enabled")?,
        tls: tls(&http.section("tls"), notes)?,
        trusted_proxies: http.list("trustedproxies", kind::network)?,
    })
}

/// How long an answer is and what becomes of the connection is not for a configuration to say: in
/// `distribution` it has no effect.
fn headers(http: &Section<'_>, notes: &mut Notes) -> Vec<(String, String)> {
    const NOT_OURS: [&str; 6] =
        ["connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade"];
    let mut headers = http.pairs("headers");
    headers.retain(|(name, _)| {
        let is_ours = !NOT_OURS.iter().any(|other| other.eq_ignore_ascii_case(name));
        if !is_ours {
            notes.warn(format!(
                "{}: http.headers.{name}: has no effect, as every answer says it by itself",
                http.origin_of("headers")
            ));
        }
        is_ours
    });
    headers
}

fn with_slash(mut path: String) -> String {
    if !path.ends_with('/') {
        path.push('/');
    }
    path
}

fn drain_timeout(http: &Section<'_>, notes: &mut Notes) -> Result<Duration, ConfigError> {
    const KEY: &str = "draintimeout";
    if let Some(number @ 1..1_000_000) =
        http.get(KEY, |text| Some(duration::bare_number(text)))?.flatten()
    {
        notes.warn(format!(
            "{}: http.{KEY}: {number} without a unit means {number} nanoseconds; write {number}s \
             for seconds",
            http.origin_of(KEY)
        ));
    }
    http.must_duration(KEY)
}

/// Our own default: whoever opens the debug address gets metrics without asking twice.
fn prometheus_path(http: &Section<'_>) -> Result<Option<String>, ConfigError> {
    let path = http.must_text("debug.prometheus.path")?;
    let enabled = http.get("debug.prometheus.enabled", kind::boolean)?;
    Ok((enabled != Some(false)).then_some(path))
}

fn tls(tls: &Section<'_>, notes: &mut Notes) -> Result<Option<Tls>, ConfigError> {
    let Some(certificate) = certificate(tls)? else {
        return Ok(None);
    };
    let minimum = minimum(tls, notes)?;
    Ok(Some(Tls {
        certificate,
        clients: clients(tls)?,
        minimum,
        cipher_suites: cipher_suites(tls, minimum, notes)?,
    }))
}

/// Half a certificate would mean plain HTTP in `distribution`; here it is an error.
fn certificate(tls: &Section<'_>) -> Result<Option<Certificate>, ConfigError> {
    let acme = tls.section("letsencrypt");
    let hosts = acme.texts("hosts")?;
    match (tls.path("certificate")?, tls.path("key")?, acme.path("cachefile")?) {
        (Some(_), _, Some(_)) => Err(acme.unfit("cachefile", "not together with tls.certificate")),
        (Some(certificate), Some(key), None) => Ok(Some(Certificate::Files { certificate, key })),
        (Some(_), None, None) => Err(tls.unfit("certificate", "needs http.tls.key beside it")),
        (None, Some(_), None) => Err(tls.unfit("key", "needs http.tls.certificate beside it")),
        (None, _, Some(_)) if hosts.is_empty() => {
            Err(acme.unfit("cachefile", "needs http.tls.letsencrypt.hosts, the names to serve"))
        }
        (None, _, Some(cache)) => Ok(Some(Certificate::LetsEncrypt(LetsEncrypt {
            cache,
            email: acme.text("email")?,
            hosts,
            directory_url: acme.text("directoryurl")?,
        }))),
        (None, None, None) => {
            let email = acme.text("email")?;
            if !hosts.is_empty() || email.is_some() || acme.text("directoryurl")?.is_some() {
                let missing = "needs a cachefile, the folder where certificates are kept";
                return Err(tls.unfit("letsencrypt", missing));
            }
            if !tls.texts("clientcas")?.is_empty() {
                let missing = "needs http.tls.certificate and http.tls.key: without TLS no client \
                               has a certificate";
                return Err(tls.unfit("clientcas", missing));
            }
            Ok(None)
        }
    }
}

fn clients(tls: &Section<'_>) -> Result<Option<ClientCertificates>, ConfigError> {
    let authorities = tls.list("clientcas", |text| Some(PathBuf::from(text)))?;
    let mode = tls.get("clientauth", |text| match text.to_ascii_lowercase().as_str() {
        "request-client-cert" => Some(ClientAuth::Request),
        "require-any-client-cert" => Some(ClientAuth::RequireAny),
        "verify-client-cert-if-given" => Some(ClientAuth::VerifyIfGiven),
        "require-and-verify-client-cert" => Some(ClientAuth::RequireAndVerify),
        _ => None,
    })?;
    match (mode, authorities.is_empty()) {
        (None, true) => Ok(None),
        // `distribution` passes over it, and whoever wrote it believes the registry is closed.
        (Some(_), true) => Err(tls.unfit("clientauth", "needs http.tls.clientcas beside it")),
        (mode, false) => {
            let mode = mode.unwrap_or(ClientAuth::RequireAndVerify);
            Ok(Some(ClientCertificates { mode, authorities }))
        }
    }
}

fn minimum(tls: &Section<'_>, notes: &mut Notes) -> Result<TlsVersion, ConfigError> {
    const KEY: &str = "minimumtls";
    let written = tls.text(KEY)?.unwrap_or_default().to_ascii_lowercase();
    if matches!(written.as_str(), "tls1.0" | "tls1.1") {
        notes.warn(format!(
            "{}: http.tls.{KEY}: {written} is broken and not offered; the minimum is tls1.2",
            tls.origin_of(KEY)
        ));
    }
    Ok(if written == "tls1.3" { TlsVersion::V1_3 } else { TlsVersion::V1_2 })
}

fn cipher_suites(
    tls: &Section<'_>,
    minimum: TlsVersion,
    notes: &mut Notes,
) -> Result<Vec<String>, ConfigError> {
    const KEY: &str = "ciphersuites";
    let (safe, broken): (Vec<_>, Vec<_>) = tls
        .list(KEY, |text| Some(text.to_ascii_uppercase()))?
        .into_iter()
        .partition(|suite| SAFE_CIPHER_SUITES.contains(&suite.as_str()));
    if !broken.is_empty() && safe.is_empty() && minimum == TlsVersion::V1_2 {
        return Err(tls.unfit(KEY, "all of these are broken; leave it out for the safe ones"));
    }
    if !broken.is_empty() {
        notes.warn(format!(
            "{}: http.tls.{KEY}: not offered, because broken: {}",
            tls.origin_of(KEY),
            broken.join(", ")
        ));
    }
    Ok(safe)
}
