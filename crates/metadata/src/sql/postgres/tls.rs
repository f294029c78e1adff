//! TLS on the way to PostgreSQL, by libpq's names for how much of it is asked for.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use super::address::wrong;
use super::client_certificate::ClientCertificate;
use crate::{Error, ErrorKind};

/// What is asked of the server's certificate, if there is TLS.
#[derive(Clone, Debug)]
pub(super) enum Tls {
    /// Nothing.
    Unverified,
    /// That one of these authorities has signed it.
    Authority(Authorities),
    /// That it is of the host, too.
    Full(Authorities),
}

/// Who may sign certificates.
#[derive(Clone, Debug)]
pub(super) enum Authorities {
    System,
    /// A PEM file.
    File(PathBuf),
}

impl Tls {
    /// What `sslmode` and `sslrootcert` ask for.
    pub(super) fn new(mode: Option<&str>, authorities: Option<Authorities>) -> Result<Self, Error> {
        match (mode, authorities) {
            (None | Some("verify-full"), Some(Authorities::System)) => {
                Ok(Self::Full(Authorities::System))
            }
            (_, Some(Authorities::System)) => {
                Err(wrong("sslmode=verify-full with sslrootcert=system"))
            }
            (Some("verify-full"), authorities) => {
                Ok(Self::Full(authorities.unwrap_or(Authorities::System)))
            }
            (Some("verify-ca"), authorities) => {
                Ok(Self::Authority(authorities.unwrap_or(Authorities::System)))
            }
            // So does libpq, for old times' sake.
            (Some("require"), Some(authorities)) => Ok(Self::Authority(authorities)),
            (None | Some("disable" | "allow" | "prefer" | "require"), _) => Ok(Self::Unverified),
            _ => Err(wrong("sslmode is disable, prefer, require, verify-ca or verify-full")),
        }
    }

    /// With what is shown to servers that want to know who connects.
    pub(super) fn connector(
        &self,
        client_certificate: Option<&ClientCertificate>,
    ) -> Result<MakeTls, Error> {
        let failed = |error: rustls::Error| Error::new(ErrorKind::Other, format!("TLS: {error}"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::Unverified => Arc::new(Lenient { inner: None, provider: Arc::clone(&provider) }),
            Self::Authority(authorities) => {
                let inner = Some(authorities.verifier(&provider)?);
                Arc::new(Lenient { inner, provider: Arc::clone(&provider) })
            }
            Self::Full(authorities) => authorities.verifier(&provider)?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match client_certificate {
            Some(files) => config.with_client_cert_resolver(files.open()?),
            None => config.with_no_client_auth(),
        };
        Ok(MakeTls(TlsConnector::from(Arc::new(config))))
    }
}

impl Authorities {
    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let other = |message: String| Error::new(ErrorKind::Other, message);
        match self {
            Self::System => {
                let verifier = Verifier::new(Arc::clone(provider));
                Ok(Arc::new(verifier.map_err(|error| other(format!("TLS: {error}")))?))
            }
            Self::File(path) => {
                let roots = read_roots(path)
                    .map_err(|reason| other(format!("sslrootcert {}: {reason}", path.display())))?;
                let builder = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(provider),
                );
                Ok(builder.build().map_err(|error| other(format!("TLS: {error}")))?)
            }
        }
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("expected certificates as PEM, found none".to_owned());
    }
    Ok(roots)
}

/// Asks less than the usual: any name, or, without `inner`, any certificate.
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<dyn ServerCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last.
        match inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Makes TLS on connections of `tokio-postgres`.
#[derive(Clone)]
pub(super) struct MakeTls(TlsConnector);

/// TLS to one host.
pub(super) struct ToHost {
    connector: TlsConnector,
    host: ServerName<'static>,
}

/// A connection with TLS on it.
pub(super) struct Encrypted<S>(client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for MakeTls {
    type Stream = Encrypted<S>;
    type TlsConnect = ToHost;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<ToHost> {
        // Where there will be no TLS, as on a socket of this machine, there is no name.
        let host = if host.is_empty() { "localhost" } else { host };
        let host = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(ToHost { connector: self.0.clone(), host })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for ToHost {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { Ok(Encrypted(self.connector.connect(self.host, stream).await?)) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
