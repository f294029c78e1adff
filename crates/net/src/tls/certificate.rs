//! Certificates and keys in files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};

use super::Error;

/// A file that has more is none of ours. Bundles of all public authorities have 200 KiB.
const LIMIT: u64 = 4 << 20;

/// A certificate and its key, which belong together.
pub(super) fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, Error> {
    let chain = read_certificates(certificate)?;
    let private = read_key(key)?;
    CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()).map_err(|error| {
        match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Error::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            TlsError::InvalidCertificate(_) => {
                problem(certificate, format!("the first certificate can not be used: {error}"))
            }
            _ => problem(key, format!("the key can not be used (RSA of 2048 bits or more, ECDSA and Ed25519 can): {error}")),
        }
    })
}

/// All certificates in a file, at least one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| problem(path, format!("expected certificates as PEM: {}", why(&error))))?;
    if certificates.is_empty() {
        let expected = "expected a certificate (-----BEGIN CERTIFICATE-----), found none";
        return Err(problem(path, expected.to_owned()));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(path)?;
    if is_encrypted(&text) {
        let message = "the key is encrypted, and nobody is there to type its password: write it \
                       without one (openssl pkey -in encrypted.key -out plain.key)";
        return Err(problem(path, message.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => problem(
            path,
            "expected a private key (-----BEGIN PRIVATE KEY-----), found none".to_owned(),
        ),
        _ => problem(path, format!("expected a private key as PEM: {}", why(&error))),
    })
}

/// What is wrong with a PEM file. The library shows marks as numbers.
fn why(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let label = String::from_utf8_lossy(end_marker);
            format!("the file ends before -----END {label}-----: it may be half written")
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("{:?} begins nothing", String::from_utf8_lossy(line))
        }
        _ => error.to_string(),
    }
}

fn is_encrypted(text: &[u8]) -> bool {
    let has = |mark: &[u8]| text.windows(mark.len()).any(|window| window == mark);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |error| Error::Unreadable { path: path.to_owned(), error };
    let mut text = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LIMIT + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LIMIT {
        return Err(problem(path, format!("expected PEM of at most {LIMIT} bytes, found more")));
    }
    Ok(text)
}

pub(super) fn problem(path: &Path, problem: String) -> Error {
    Error::File { path: path.to_owned(), problem }
}
