//! TLS: who we are, whom we let in, and how the two sides come to an agreement.

mod certificate;
mod client_auth;
mod handshake;
mod suites;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::acme::{self, Certificates};
pub use client_auth::ClientAuth;
pub use handshake::HandshakeError;

/// How soon a renewed certificate is seen.
const LOOK: Duration = Duration::from_secs(5);

/// How TLS is spoken.
#[derive(Clone, Debug)]
pub struct Config {
    /// What shows who we are.
    pub identity: Identity,
    /// The oldest version that is spoken.
    pub minimum: Version,
    /// The cipher suites that are used, by the names that Go gives them; none means all that are
    /// safe. If none of them is one of TLS 1.3, all of TLS 1.3 are used.
    pub cipher_suites: Vec<String>,
    /// Files with the certificates, as PEM, of those who vouch for clients. Without any, clients
    /// are not asked for certificates.
    pub client_authorities: Vec<PathBuf>,
    /// What is asked of clients, if there are authorities.
    pub client_auth: ClientAuth,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// Where our certificate comes from.
#[derive(Clone, Debug)]
pub enum Identity {
    /// An authority gives us certificates by itself.
    Acme(acme::Config),
    /// Files. Renewed ones are picked up.
    Files {
        /// The file with our certificate and those between it and the root, as PEM.
        certificate: PathBuf,
        /// The file with its private key, as PEM, not encrypted.
        key: PathBuf,
    },
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Version {
    /// TLS 1.2 (RFC 5246)
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446)
    Tls13,
}

/// TLS can not be spoken as configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can not be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why. (The message has it in it, so it is no `source`.)
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was expected, what was found, what to do.
        problem: String,
    },
    /// A certificate and a key that do not belong together.
    #[error(
        "the key in {} does not belong to the certificate in {}: give the key that the \
         certificate was made for; the server's own certificate comes first in its file",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// Where the certificate is.
        certificate: PathBuf,
        /// Where the key is.
        key: PathBuf,
    },
    /// A cipher suite that is not spoken.
    #[error("cipher suite {name}: expected one of {}", known.join(", "))]
    CipherSuite {
        /// Which.
        name: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// Certificates can not be got from an authority.
    #[error("{0}")]
    Acme(String),
    /// No cipher suite is left for the versions that are spoken, or the like.
    #[error("this combination of settings can not be used: {0}")]
    Settings(rustls::Error),
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Self::Settings(error)
    }
}

/// Speaks TLS on accepted connections. Clones share everything.
#[derive(Clone, Debug)]
pub struct Acceptor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// Certificates that an authority gives us.
    acme: Option<Arc<Certificates>>,
    current: RwLock<Arc<ServerConfig>>,
    /// The files as they were when they were last read.
    seen: Mutex<Vec<Option<Sight>>>,
}

/// What tells a file from the one that takes its place: inode, size, time of change in seconds
/// and nanoseconds.
type Sight = (u64, u64, i64, i64);

impl Acceptor {
    /// Reads certificates and key. From then on, renewed files are picked up by themselves. Must
    /// be called inside a Tokio runtime.
    pub fn new(config: Config) -> Result<Self, Error> {
        let seen = Mutex::new(sights(&config));
        let acme = match &config.identity {
            Identity::Acme(acme) => Some(Certificates::start(acme).map_err(Error::Acme)?),
            Identity::Files { .. } => None,
        };
        let current = RwLock::new(Arc::new(load(&config, acme.as_ref())?));
        let shared = Arc::new(Shared { config, acme, current, seen });
        tokio::spawn(watch(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Reads the files again, for connections that come from now on. If there is anything wrong
    /// with them, all stays as it is.
    pub fn reload(&self) -> Result<(), Error> {
        self.shared.reload()
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn reload(&self) -> Result<(), Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = sights(&self.config);
        let fresh = Arc::new(load(&self.config, self.acme.as_ref())?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn reload_if_changed(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if seen == sights(&self.config) {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!("TLS files have changed: new connections use them"),
            Err(error) => tracing::error!(
                %error,
                "TLS files have changed and can not be used: those from before stay in use"
            ),
        }
    }
}

/// Looks for changed files until nobody needs them any more. (Not by inotify, which says nothing
/// about mounted secrets whose links change, nor about network file systems.)
async fn watch(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // A file system can be slow; an error is a panic, which was logged.
        let _ = tokio::task::spawn_blocking(move || shared.reload_if_changed()).await;
    }
}

fn sights(config: &Config) -> Vec<Option<Sight>> {
    let sight = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    let own = match &config.identity {
        Identity::Acme(_) => Vec::new(),
        Identity::Files { certificate, key } => vec![certificate, key],
    };
    own.into_iter().chain(&config.client_authorities).map(|path| sight(path)).collect()
}

fn load(config: &Config, acme: Option<&Arc<Certificates>>) -> Result<ServerConfig, Error> {
    match (&config.identity, acme) {
        (_, Some(certificates)) => build(config, Arc::clone(certificates) as _),
        (Identity::Files { certificate, key }, None) => {
            let certified = certificate::load(certificate, key)?;
            build(config, Arc::new(SingleCertAndKey::from(certified)))
        }
        (Identity::Acme(_), None) => Err(Error::Acme("certificates were not begun".into())),
    }
}

/// For the authority that looks whether we are who we say: it has no certificate of a client.
fn challenge(answer: Arc<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AnyName(answer)));
    server.alpn_protocols = vec![acme::CHALLENGE_PROTOCOL.to_vec()];
    Ok(server)
}

/// Shows one certificate.
#[derive(Debug)]
struct AnyName(Arc<CertifiedKey>);

impl ResolvesServerCert for AnyName {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn build(config: &Config, identity: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, Error> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = suites::choose(&provider.cipher_suites, &config.cipher_suites)?;
    let provider = Arc::new(provider);
    let versions: &[_] = match config.minimum {
        Version::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        Version::Tls13 => &[&rustls::version::TLS13],
    };
    let clients = client_auth::verifier(config.client_auth, &config.client_authorities, &provider)?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(identity);
    // A new key with each configuration: no client is remembered beyond a change.
    server.ticketer = Ticketer::new()?;
    let protocols: &[&[u8]] = if config.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(server)
}
