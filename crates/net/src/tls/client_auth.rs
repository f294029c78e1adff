//! Clients that show a certificate.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::Error;
use super::certificate::{problem, read_certificates};

/// What is asked of clients, by the names and with the meaning of Go.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientAuth {
    /// Asked for a certificate; none is fine, and so is any.
    Request,
    /// Must have a certificate; any is fine.
    RequireAny,
    /// Asked for a certificate; none is fine, one that nobody vouches for is not.
    VerifyIfGiven,
    /// Must have a certificate that an authority vouches for.
    #[default]
    RequireAndVerify,
}

impl ClientAuth {
    /// The names in configurations.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("request-client-cert", Self::Request),
        ("require-any-client-cert", Self::RequireAny),
        ("verify-client-cert-if-given", Self::VerifyIfGiven),
        ("require-and-verify-client-cert", Self::RequireAndVerify),
    ];
}

/// What judges the certificates of clients.
pub(super) fn verifier(
    mode: ClientAuth,
    authorities: &[PathBuf],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let Some(first) = authorities.first() else {
        return Ok(Arc::new(NoClientAuth));
    };
    let mut roots = RootCertStore::empty();
    for path in authorities {
        let (added, _) = roots.add_parsable_certificates(read_certificates(path)?);
        if added == 0 {
            let message = "none of its certificates can be used for verifying clients";
            return Err(problem(path, message.to_owned()));
        }
    }
    let any = |mandatory| {
        let provider = Arc::clone(provider);
        Arc::new(AnyCertificate { mandatory, hints: roots.subjects(), provider })
    };
    let known =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(provider));
    let verifier = match mode {
        ClientAuth::Request => return Ok(any(false)),
        ClientAuth::RequireAny => return Ok(any(true)),
        ClientAuth::VerifyIfGiven => known.allow_unauthenticated().build(),
        ClientAuth::RequireAndVerify => known.build(),
    };
    verifier.map_err(|error| problem(first, error.to_string()))
}

/// Takes any certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate {
    mandatory: bool,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
