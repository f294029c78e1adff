//! Certificates from an authority that gives them to whoever answers at the name (ACME, RFC 8555),
//! as Let's Encrypt does.
//!
//! The authority's question comes to our own listener (TLS-ALPN-01, RFC 8737), so nothing else has
//! to be reachable than the registry itself, on port 443.

mod folder;
mod order;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use rustls::pki_types::DnsName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::client::with_causes;
use folder::Folder;

/// The protocol that the authority asks for when it looks whether we are who we say.
pub(crate) const CHALLENGE_PROTOCOL: &[u8] = b"acme-tls/1";

/// Where certificates come from unless another authority is configured.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How long before its end a certificate is renewed; one that lives for less than three months,
/// when a third of its life is left.
const RENEWAL: Duration = Duration::from_hours(30 * 24);

/// How often it is looked whether a certificate has to be renewed.
const LOOK: Duration = Duration::from_hours(12);

/// After a failure, the first pause and the longest. Let's Encrypt allows five failures of a host
/// an hour.
const FIRST_PAUSE: Duration = Duration::from_mins(2);
const LONGEST_PAUSE: Duration = Duration::from_hours(6);

/// How often a certificate is tried to get without a pause.
const ATTEMPTS: usize = 5;

/// What certificates are wanted, and of whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder where certificates, keys and the account are kept. Certificates that Go's
    /// autocert has kept there are used.
    pub cache: PathBuf,
    /// Where the authority can write to about a certificate.
    pub email: Option<String>,
    /// The names of this server. There are certificates for these and for no others.
    pub hosts: Vec<String>,
    /// The authority's directory; without it, Let's Encrypt.
    pub directory: Option<String>,
}

/// The certificates of this server and what its authority wants to see.
pub(crate) struct Certificates {
    config: Config,
    folder: Folder,
    current: RwLock<HashMap<String, Kept>>,
    challenges: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

#[derive(Clone)]
struct Kept {
    certified: Arc<CertifiedKey>,
    renewal: SystemTime,
}

/// A certificate did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the certificate authority: {}", with_causes(.0))]
    Authority(#[from] instant_acme::Error),
    #[error("{}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Unusable(String),
}

/// Whether certificates can be had for it: the name of a host, not an address and no wildcard.
pub fn is_host(text: &str) -> bool {
    DnsName::try_from(text).is_ok()
}

impl Certificates {
    /// Reads what is in the folder and gets what is missing, now and whenever it is time, until
    /// this is dropped.
    pub(crate) fn start(config: &Config) -> Result<Arc<Self>, String> {
        let mut config = config.clone();
        if config.hosts.is_empty() {
            return Err("expected the names that clients use for this server, found none".into());
        }
        for host in &mut config.hosts {
            *host = host.to_ascii_lowercase();
            // Also keeps it from being a path.
            if !is_host(host) {
                return Err(format!("{host:?}: expected the name of a host"));
            }
        }
        let folder = Folder::open(&config.cache).map_err(|error| error.to_string())?;
        let certificates = Arc::new(Self {
            folder,
            current: RwLock::default(),
            challenges: RwLock::default(),
            config,
        });
        certificates.read_folder();
        tokio::spawn(keep_fresh(Arc::downgrade(&certificates)));
        Ok(certificates)
    }

    fn read_folder(&self) {
        for host in &self.config.hosts {
            match self
                .folder
                .read_certificate(host)
                .and_then(|pem| pem.as_deref().map(kept).transpose())
            {
                Ok(Some(kept)) => self.install(host, kept),
                Ok(None) => {}
                Err(error) => tracing::warn!(%host, %error, "a kept certificate can not be used"),
            }
        }
    }

    /// Gets what is due. False if something failed.
    async fn renew(&self) -> bool {
        let mut all = true;
        for host in &self.config.hosts {
            let kept = read(&self.current).get(host).cloned();
            if kept.is_some_and(|kept| SystemTime::now() < kept.renewal) {
                continue;
            }
            tracing::info!(%host, "getting a certificate");
            match self.obtain_patiently(host).await {
                Ok(kept) => {
                    self.install(host, kept);
                    tracing::info!(%host, "there is a new certificate");
                }
                Err(error) => {
                    tracing::error!(%host, %error, "no certificate; it is tried again later");
                    all = false;
                }
            }
        }
        all
    }

    /// A number that is used once can be taken away by anything that happens at the authority; it
    /// asks us to begin again then (RFC 8555 §6.5).
    async fn obtain_patiently(&self, host: &str) -> Result<Kept, Error> {
        for _ in 1..ATTEMPTS {
            match self.obtain(host).await {
                Err(error) if error.is_bad_nonce() => {}
                other => return other,
            }
        }
        self.obtain(host).await
    }

    async fn obtain(&self, host: &str) -> Result<Kept, Error> {
        let account = order::account(&self.folder, &self.config).await?;
        let pem = order::certificate(&account, host, |answer| {
            let mut challenges = self.challenges.write().unwrap_or_else(PoisonError::into_inner);
            challenges.insert(host.to_owned(), answer);
        })
        .await;
        self.challenges.write().unwrap_or_else(PoisonError::into_inner).remove(host);
        let pem = pem?;
        let kept = kept(&pem)?;
        self.folder.write_certificate(host, &pem)?;
        Ok(kept)
    }

    fn install(&self, host: &str, kept: Kept) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.insert(host.to_owned(), kept);
    }

    /// The answer to the authority's question about a host.
    pub(crate) fn challenge(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        read(&self.challenges).get(&host.to_ascii_lowercase()).cloned()
    }
}

impl Error {
    fn is_bad_nonce(&self) -> bool {
        let Self::Authority(instant_acme::Error::Api(problem)) = self else {
            return false;
        };
        problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:badNonce")
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

async fn keep_fresh(certificates: Weak<Certificates>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(certificates) = certificates.upgrade() else {
            return;
        };
        let wait = if certificates.renew().await {
            pause = FIRST_PAUSE;
            LOOK
        } else {
            let wait = pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
            wait
        };
        drop(certificates);
        tokio::time::sleep(wait).await;
    }
}

/// A key and certificates, as PEM in one text.
fn kept(pem: &str) -> Result<Kept, Error> {
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use x509_cert::der::Decode;

    let unusable = |error: &dyn fmt::Display| Error::Unusable(error.to_string());
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(&error))?;
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&error))?;
    let own = chain.first().ok_or_else(|| unusable(&"there is no certificate"))?;
    let own = x509_cert::Certificate::from_der(own).map_err(|error| unusable(&error))?;
    let validity = own.tbs_certificate().validity();
    let end = validity.not_after.to_unix_duration();
    let life = end.saturating_sub(validity.not_before.to_unix_duration());
    let renewal = SystemTime::UNIX_EPOCH + end.saturating_sub(RENEWAL.min(life / 3));
    let provider = aws_lc_rs::default_provider();
    let certified =
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| unusable(&error))?;
    Ok(Kept { certified: Arc::new(certified), renewal })
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name()?.to_ascii_lowercase();
        read(&self.current).get(&host).map(|kept| Arc::clone(&kept.certified))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Config {
    fn directory(&self) -> &str {
        self.directory.as_deref().filter(|url| !url.is_empty()).unwrap_or(LETS_ENCRYPT)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn pem(end: (i32, u8, u8)) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["orlop.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(end.0, end.1, end.2);
        key.serialize_pem() + &params.self_signed(&key).unwrap().pem()
    }

    fn days_to_renewal(pem: &str) -> u64 {
        const BEGIN: u64 = 1_767_225_600; // 2026-01-01
        let renewal = kept(pem).unwrap().renewal;
        let since = renewal.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        (since.as_secs() - BEGIN) / 86_400
    }

    #[test]
    fn a_certificate_is_renewed_before_its_end() {
        assert_eq!(days_to_renewal(&pem((2026, 5, 1))), 120 - 30);
        assert_eq!(days_to_renewal(&pem((2026, 1, 7))), 4);
    }

    #[test]
    fn what_is_no_key_and_certificate_is_not_used() {
        let good = pem((2026, 5, 1));
        let (key, certificate) = good.split_at(good.find("-----BEGIN CERTIFICATE").unwrap());
        let other = KeyPair::generate().unwrap().serialize_pem();
        for bad in ["", key, certificate, &(other + certificate)] {
            assert!(kept(bad).is_err(), "{bad}");
        }
    }

    fn config(folder: &tempfile::TempDir, hosts: &[&str]) -> Config {
        Config {
            cache: folder.path().to_owned(),
            email: None,
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            directory: Some("https://127.0.0.1:1/directory".to_owned()),
        }
    }

    #[tokio::test]
    async fn what_is_in_the_folder_is_used() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("orlop.test"), pem((2999, 1, 1))).unwrap();
        std::fs::write(folder.path().join("other.test"), pem((2999, 1, 1))).unwrap();
        let certificates = Certificates::start(&config(&folder, &["Orlop.test"])).unwrap();
        assert_eq!(read(&certificates.current).keys().collect::<Vec<_>>(), ["orlop.test"]);
        assert!(certificates.renew().await, "nothing is asked of the authority");
    }

    #[tokio::test]
    async fn hosts_are_names() {
        let folder = tempfile::tempdir().unwrap();
        for hosts in [&[][..], &[""], &["../etc"], &["*.test"], &["a b"], &["https://a.test"]] {
            assert!(Certificates::start(&config(&folder, hosts)).is_err(), "{hosts:?}");
        }
    }
}
