//! The certificate by which PostgreSQL knows who connects (`sslcert`, `sslkey`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::{Error, ErrorKind};

/// PEM files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ClientCertificate {
    /// With those that lead to an authority behind it, if the server needs them.
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl ClientCertificate {
    /// What is shown to servers: what the files have when a connection is made, as certificates end
    /// and are replaced.
    pub(super) fn open(&self) -> Result<Arc<dyn ResolvesClientCert>, Error> {
        let read = self.read().map_err(|reason| Error::new(ErrorKind::Other, reason))?;
        Ok(Arc::new(Current { files: self.clone(), last: Mutex::new(Arc::new(read)) }))
    }

    fn read(&self) -> Result<CertifiedKey, String> {
        let Self { certificate, key } = self;
        let of_certificate =
            |reason: String| format!("sslcert {}: {reason}", certificate.display());
        let of_key = |reason: String| format!("sslkey {}: {reason}", key.display());
        let text = read(certificate).map_err(of_certificate)?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| of_certificate(error.to_string()))?;
        if chain.is_empty() {
            return Err(of_certificate("expected a certificate as PEM, found none".to_owned()));
        }
        let text = read(key).map_err(of_key)?;
        if String::from_utf8_lossy(&text).contains("ENCRYPTED") {
            let reason = "the key is encrypted, and nobody is there to type its password: write it \
                          without one (openssl pkey -in encrypted.key -out plain.key)";
            return Err(of_key(reason.to_owned()));
        }
        let private = PrivateKeyDer::from_pem_slice(&text);
        let private =
            private.map_err(|error| of_key(format!("expected a private key as PEM: {error}")))?;
        CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider())
            .map_err(|error| of_key(format!("it does not go with the certificate: {error}")))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| error.to_string())
}

/// What the files have, or had when they could be read.
#[derive(Debug)]
struct Current {
    files: ClientCertificate,
    last: Mutex<Arc<CertifiedKey>>,
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.files.read() {
            Ok(read) => *last = Arc::new(read),
            Err(error) => tracing::warn!(error, "PostgreSQL is shown the certificate of before"),
        }
        Some(Arc::clone(&last))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_files_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let signed = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let (certificate, key) = (file("c", &signed.pem()), file("k", &key.serialize_pem()));
        let other = file("o", &rcgen::KeyPair::generate().unwrap().serialize_pem());
        let locked =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let locked = file("l", locked);
        let missing = folder.path().join("m");
        let open = |certificate: &PathBuf, key: &PathBuf| {
            let files = ClientCertificate { certificate: certificate.clone(), key: key.clone() };
            files.open().map(drop).map_err(|error| error.to_string())
        };
        open(&certificate, &key).unwrap();
        for (certificate, key, expected) in [
            (&missing, &key, "sslcert "),
            (&key, &key, "expected a certificate as PEM, found none"),
            (&certificate, &missing, "sslkey "),
            (&certificate, &certificate, "expected a private key as PEM"),
            (&certificate, &other, "it does not go with the certificate"),
            (&certificate, &locked, "the key is encrypted"),
        ] {
            let error = open(certificate, key).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn files_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let files = ClientCertificate {
            certificate: folder.path().join("c"),
            key: folder.path().join("k"),
        };
        let renew = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let signed = rcgen::CertificateParams::default().self_signed(&key).unwrap();
            fs::write(&files.certificate, signed.pem()).unwrap();
            fs::write(&files.key, key.serialize_pem()).unwrap();
            signed.der().clone()
        };
        let first = renew();
        let current = files.open().unwrap();
        let shown = || current.resolve(&[], &[]).unwrap().cert.clone();
        assert_eq!(shown(), [first]);
        let second = renew();
        assert_eq!(shown(), std::slice::from_ref(&second));
        fs::remove_file(&files.key).unwrap();
        assert_eq!(shown(), [second]);
    }
}
