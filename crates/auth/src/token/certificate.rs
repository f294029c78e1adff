//! X.509 certificates: those that are trusted, and chains that lead to them.

use std::time::Duration;

use data_encoding::{BASE32_NOPAD, BASE64};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_cert::Certificate;
use x509_cert::der::asn1::UintRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::key::{Curve, Key};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// Certificates of a chain, at most.
const MAX_CHAIN: usize = 8;

/// A certificate that the configuration trusts.
#[derive(Debug)]
pub(crate) struct Trusted {
    der: CertificateDer<'static>,
    /// Whether it may speak for other certificates, and not only for its own key.
    is_authority: bool,
    /// From and to, since the epoch.
    valid: (Duration, Duration),
    pub(crate) key: Key,
    /// The key's name in tokens of registry:2 (libtrust's `ABCD:EFGH:…`).
    pub(crate) fingerprint: String,
}

impl Trusted {
    fn is_valid(&self, now: Duration) -> bool {
        (self.valid.0..=self.valid.1).contains(&now)
    }
}

/// The certificates of a bundle in PEM.
pub(crate) fn parse_bundle(content: &[u8]) -> Result<Vec<Trusted>, String> {
    let mut trusted = Vec::new();
    for (index, der) in CertificateDer::pem_slice_iter(content).enumerate() {
        let number = index + 1;
        let der = der.map_err(|error| match error {
            // The library shows the mark as numbers.
            pem::Error::MissingSectionEnd { .. } => {
                format!("certificate {number}: the file ends in the middle of it")
            }
            _ => format!("certificate {number}: {error}"),
        })?;
        let der = der.into_owned();
        trusted.push(parse(der).map_err(|error| format!("certificate {number}: {error}"))?);
    }
    if trusted.is_empty() {
        return Err("expected certificates in PEM, found none".to_owned());
    }
    Ok(trusted)
}

fn parse(der: CertificateDer<'static>) -> Result<Trusted, String> {
    let parsed = Certificate::from_der(&der).map_err(|error| error.to_string())?;
    let body = parsed.tbs_certificate();
    let constraints =
        body.get_extension::<BasicConstraints>().map_err(|error| error.to_string())?;
    let validity = body.validity();
    let info = body.subject_public_key_info();
    Ok(Trusted {
        is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
        valid: (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration()),
        key: key(info)?,
        fingerprint: fingerprint(info)?,
        der,
    })
}

/// The key of the first certificate of `chain` (DER in base64, as `x5c` holds it, RFC 7515
/// §4.1.6), if the chain leads to a trusted one at `now` (since the epoch). Certificates may be for any use.
pub(crate) fn verified_key(chain: &[String], trusted: &[Trusted], now: Duration) -> Option<Key> {
    if chain.len() > MAX_CHAIN {
        return None;
    }
    let decode = |text: &String| BASE64.decode(text.as_bytes()).ok().map(CertificateDer::from);
    let chain = chain.iter().map(decode).collect::<Option<Vec<_>>>()?;
    let (leaf, intermediates) = chain.split_first()?;
    let parsed = Certificate::from_der(leaf).ok()?;
    let key = key(parsed.tbs_certificate().subject_public_key_info()).ok()?;
    if trusted.iter().any(|trusted| trusted.der == *leaf && trusted.is_valid(now)) {
        return Some(key);
    }
    let anchors = trusted
        .iter()
        .filter(|trusted| trusted.is_authority && trusted.is_valid(now))
        .filter_map(|trusted| webpki::anchor_from_trusted_cert(&trusted.der).ok())
        .collect::<Vec<_>>();
    let certificate = EndEntityCert::try_from(leaf).ok()?;
    let verified = certificate.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        intermediates,
        UnixTime::since_unix_epoch(now),
        AnyUsage,
        None,
        None,
    );
    verified.is_ok().then_some(key)
}

struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// A public key as certificates hold it (RFC 5280 §4.1.2.7, RFC 3279, RFC 5480, RFC 8410).
fn key(info: &SubjectPublicKeyInfoOwned) -> Result<Key, String> {
    let odd = || "the certificate's key can not be read".to_owned();
    let bytes = info.subject_public_key.as_bytes().ok_or_else(odd)?;
    match info.algorithm.oid {
        RSA => {
            let (n, e) = rsa_numbers(bytes).map_err(|_| odd())?;
            Ok(Key::Rsa { n, e })
        }
        EC => {
            let parameters = info.algorithm.parameters.as_ref().ok_or_else(odd)?;
            let curve = match parameters.decode_as::<ObjectIdentifier>().map_err(|_| odd())? {
                P256 => Curve::P256,
                P384 => Curve::P384,
                P521 => Curve::P521,
                other => return Err(format!("the curve {other} is not understood")),
            };
            let coordinates = bytes.strip_prefix(&[4]).ok_or_else(odd)?;
            if coordinates.len() != 2 * curve.size() {
                return Err(odd());
            }
            let (x, y) = coordinates.split_at(curve.size());
            Ok(Key::Ec { curve, x: x.to_owned(), y: y.to_owned() })
        }
        ED25519 => Ok(Key::Ed25519(bytes.to_owned())),
        other => Err(format!("keys of the kind {other} are not understood")),
    }
}

/// `RSAPublicKey` (RFC 8017 §A.1.1).
pub(super) fn rsa_numbers(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>), x509_cert::der::Error> {
    SliceReader::new(der)?.sequence(|reader| {
        let n = UintRef::decode(reader)?;
        let e = UintRef::decode(reader)?;
        Ok((n.as_bytes().to_owned(), e.as_bytes().to_owned()))
    })
}

/// libtrust's name of a key: 240 bits of the SHA-256 of its `SubjectPublicKeyInfo`, in base32,
/// in groups of four.
fn fingerprint(info: &SubjectPublicKeyInfoOwned) -> Result<String, String> {
    let der = info.to_der().map_err(|error| error.to_string())?;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let first = hash.as_ref().get(..30).unwrap_or_default();
    let text = BASE32_NOPAD.encode(first);
    let groups = text.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>();
    Ok(groups.join(":"))
}
