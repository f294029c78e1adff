//! What a server wants from its clients, TLS or who they are, and what these need for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;

use crate::seed::READ;

/// How a server is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Setup {
    /// By HTTP, and everybody may do everything.
    #[default]
    Open,
    /// By TLS 1.3, and everybody may do everything.
    Tls,
    /// By HTTP with name and password, which an htpasswd file has.
    Password,
    /// By HTTP with a token of a token server.
    Token,
    /// By HTTP; so many servers on one folder and one PostgreSQL.
    Replicas(usize),
    /// One on PostgreSQL that may answer from memory for a second (`database.staleness`).
    Stale,
    /// By HTTP; the content is in a bucket and goes through the server. Orlop's facts are in
    /// PostgreSQL.
    Bucket,
    /// The same, and clients are sent to the bucket.
    Redirects,
}

impl Setup {
    /// How many servers there are.
    pub(crate) fn replicas(self) -> usize {
        if let Self::Replicas(count) = self { count } else { 1 }
    }

    pub(crate) fn has_database(self) -> bool {
        matches!(self, Self::Replicas(_) | Self::Stale | Self::Bucket | Self::Redirects)
    }

    pub(crate) fn has_bucket(self) -> bool {
        matches!(self, Self::Bucket | Self::Redirects)
    }
}

pub(crate) const REALM: &str = "https://token.example.org/token";
pub(crate) const SERVICE: &str = "bench";
pub(crate) const ISSUER: &str = "token.example.org";

/// The user `bench` with the password `bench`, as `htpasswd -B` writes it (cost 5).
const HTPASSWD: &str = "bench:$2y$05$52yr5/5F4FPJ91KUgZra4uhDHlxEEe0/NwtxBm7qHCFWXdnB/GKgC\n";
const PASSWORD: &str = "bench:bench";
/// No run takes longer.
const TOKEN_SECONDS: u64 = 24 * 3600;

/// The keys of a run. One key of P-256 serves TLS and signs the token.
pub(crate) struct Keys {
    /// Of the servers, and what signatures of tokens lead to; a PEM file.
    pub(crate) certificate: PathBuf,
    /// A PEM file.
    pub(crate) key: PathBuf,
    pub(crate) htpasswd: PathBuf,
    /// Trusts the certificate.
    pub(crate) client: Arc<ClientConfig>,
    basic: String,
    bearer: String,
}

impl Keys {
    /// New keys, in files of `folder`.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())?;
        let signer = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref())?;
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(document.as_ref()))?;
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)?.self_signed(&pair)?;

        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(path)
        };
        Ok(Self {
            certificate: file("certificate.pem", &certificate.pem())?,
            key: file("key.pem", &pair.serialize_pem())?,
            htpasswd: file("htpasswd", HTPASSWD)?,
            client: client(certificate.der())?,
            basic: format!("Basic {}", BASE64.encode(PASSWORD.as_bytes())),
            bearer: format!("Bearer {}", token(&signer, certificate.der())?),
        })
    }

    /// The header `Authorization` that a server wants.
    pub(crate) fn authorization(&self, setup: Setup) -> Option<&str> {
        match setup {
            Setup::Password => Some(&self.basic),
            Setup::Token => Some(&self.bearer),
            _ => None,
        }
    }
}

fn client(certificate: &CertificateDer<'_>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.clone().into_owned())?;
    // One cipher for all servers: what Go's clients, so most that pull, ask for first.
    let provider = CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A token for pulling what the rows pull, signed with the key of the certificate that it carries.
fn token(signer: &EcdsaKeyPair, certificate: &[u8]) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [BASE64.encode(certificate)] });
    let claims = json!({
        "iss": ISSUER,
        "sub": "bench",
        "aud": SERVICE,
        "iat": now,
        "nbf": now.saturating_sub(60),
        "exp": now + TOKEN_SECONDS,
        "jti": "bench",
        "access": [{ "type": "repository", "name": READ, "actions": ["pull"] }],
    });
    let part = |value: serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = signer.sign(&SystemRandom::new(), signed.as_bytes())?;
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref())))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, KeyPair as _, UnparsedPublicKey};

    use super::*;

    #[test]
    fn tokens_are_signed() {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let signer = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).unwrap();
        let token = token(&signer, b"certificate").unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, signer.public_key())
            .verify(signed.as_bytes(), &signature)
            .unwrap();
    }

    #[test]
    fn each_way_in_has_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::make(folder.path()).unwrap();
        assert_eq!(keys.authorization(Setup::Tls), None);
        assert_eq!(keys.authorization(Setup::Password), Some("Basic YmVuY2g6YmVuY2g="));
        assert!(keys.authorization(Setup::Token).unwrap().starts_with("Bearer ey"));
    }
}
