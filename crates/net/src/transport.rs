//! Connections to other servers, over HTTP/1.1 with TLS or without, kept for the next request.
//!
//! Requests and answers stream. Time limits are whoever's business who sends them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

pub use hyper_util::client::legacy::Error;

/// How long a connection is kept for the next request.
const KEEP: Duration = Duration::from_secs(30);

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Sends requests. Clones share connections.
#[derive(Clone, Debug)]
pub struct Transport<B> {
    inner: legacy::Client<HttpsConnector<HttpConnector>, B>,
}

/// Whose certificates are good.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'a> {
    /// A PEM file of authorities, beside those that the system trusts (`SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` can say who that is).
    pub authorities: Option<&'a Path>,
    /// Takes any certificate, whoever made it for whomever: whoever is on the way can read and
    /// change what is said.
    pub anybody: bool,
}

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of certificates can not be used.
    #[error("{}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There can be no TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl<B> Transport<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Connections to servers that are trusted so.
    pub fn new(trust: &Trust<'_>) -> Result<Self, TrustError> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP));
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(trust)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP)
            .build(connector);
        Ok(Self { inner })
    }

    /// Sends a request to the absolute URL that it names. The answer is that of the server,
    /// whatever its status; no redirect is followed.
    pub async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, Error> {
        self.inner.request(request).await
    }
}

/// A machine without authorities can still ask who needs none.
fn tls(trust: &Trust<'_>) -> Result<ClientConfig, TrustError> {
    let extra = trust.authorities.map(read_certificates).transpose()?.unwrap_or_default();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    if trust.anybody {
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let anybody = Arc::new(Anybody { schemes });
        let builder = builder.dangerous().with_custom_certificate_verifier(anybody);
        return Ok(builder.with_no_client_auth());
    }
    let builder = match Verifier::new_with_extra_roots(extra, provider) {
        // "Dangerous" because it is not said which verifier is set: it is the system's.
        Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        Err(error) => {
            tracing::warn!(%error, "no server can be trusted: its certificate can not be checked");
            builder.with_root_certificates(RootCertStore::empty())
        }
    };
    Ok(builder.with_no_client_auth())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let failed = |reason: String| TrustError::Authorities { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("expected certificates in PEM, found none".to_owned()));
    }
    Ok(certificates)
}

/// Believes every certificate, as an operator has asked for in so many words.
#[derive(Debug)]
struct Anybody {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
