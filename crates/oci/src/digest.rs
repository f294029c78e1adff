//! Digests: the address of content (image spec, descriptor, "Digests").

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha512};
use sha256::Sha256;
use thiserror::Error;

use crate::Tag;
use crate::text::{excerpt, serde_as_text};

/// The digest of some content, such as `sha256:e3b0c4…`.
///
/// Orders as its text does: by algorithm, then by hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Hash);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hash {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// The hash algorithms of the image spec that every registry is expected to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

/// Why a text, or stored bytes, are not a digest that is understood here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DigestError {
    /// Not of the form `<algorithm>:<encoded>`, or not lower-case hexadecimal.
    #[error("malformed digest: {reason}")]
    Malformed { reason: String },
    /// Well-formed, but of an algorithm that is not supported.
    #[error("the digest algorithm {algorithm:?} is not supported: use sha256 or sha512")]
    UnknownAlgorithm { algorithm: String },
    /// Lengths are in hexadecimal characters.
    #[error("a {algorithm} digest has {expected} hexadecimal characters, found {found}")]
    WrongLength { algorithm: Algorithm, expected: usize, found: usize },
}

impl Digest {
    /// The SHA-256 digest of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        let mut hasher = Sha256::default();
        hasher.update(content);
        Self::from_sha256(hasher.finish())
    }

    /// The SHA-512 digest of `content`.
    pub fn sha512(content: &[u8]) -> Self {
        Self::from_sha512(Sha512::digest(content).into())
    }

    /// The digest of `content` by `algorithm`.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::sha256(content),
            Algorithm::Sha512 => Self::sha512(content),
        }
    }

    /// The digest with this raw hash; `None` if the length is not that of `algorithm`.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Option<Self> {
        Some(Self(match algorithm {
            Algorithm::Sha256 => Hash::Sha256(hash.try_into().ok()?),
            Algorithm::Sha512 => Hash::Sha512(hash.try_into().ok()?),
        }))
    }

    pub(crate) fn from_sha256(hash: [u8; 32]) -> Self {
        Self(Hash::Sha256(hash))
    }

    pub(crate) fn from_sha512(hash: [u8; 64]) -> Self {
        Self(Hash::Sha512(hash))
    }

    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Hash::Sha256(_) => Algorithm::Sha256,
            Hash::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw bytes of the hash.
    pub fn hash(&self) -> &[u8] {
        match &self.0 {
            Hash::Sha256(hash) => hash,
            Hash::Sha512(hash) => hash,
        }
    }

    /// The hash in lower-case hexadecimal.
    pub fn hex(&self) -> String {
        Hex::of(self).as_str().to_owned()
    }

    /// The form for storage: one byte for the algorithm (1 SHA-256, 2 SHA-512), then the raw hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        let hash = self.hash();
        let mut bytes = Vec::with_capacity(1 + hash.len());
        bytes.push(self.algorithm().number());
        bytes.extend_from_slice(hash);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DigestError> {
        let Some((&number, hash)) = bytes.split_first() else {
            return Err(malformed("the stored digest is empty"));
        };
        let algorithm = Algorithm::from_number(number)
            .ok_or_else(|| DigestError::UnknownAlgorithm { algorithm: format!("#{number}") })?;
        Self::from_hash(algorithm, hash)
            .ok_or_else(|| wrong_length(algorithm, hash.len().saturating_mul(2)))
    }

    /// The tag under which clients look for the referrers of this digest where the registry has no
    /// referrers API (distribution spec, "Referrers Tag Schema"): `<algorithm>-<hex>`, each part
    /// cut to its limit of 32 and 64 characters.
    pub fn referrers_tag(&self) -> Tag {
        Tag::from_valid(&format!("{}-{:.64}", self.algorithm(), self.hex()))
    }

    /// Whether `tag` is the [`referrers_tag`](Self::referrers_tag) of this digest.
    pub fn is_referrers_tag(&self, tag: &Tag) -> bool {
        self.referrers_tag() == *tag
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text
            .split_once(':')
            .ok_or_else(|| malformed("expected <algorithm>:<hexadecimal>, found no ':'"))?;
        match algorithm {
            "sha256" => parse_hash(encoded, Algorithm::Sha256).map(Self::from_sha256),
            "sha512" => parse_hash(encoded, Algorithm::Sha512).map(Self::from_sha512),
            _ if !is_algorithm(algorithm) => Err(malformed(
                "expected an algorithm of a-z and 0-9, such as sha256, before the ':'",
            )),
            _ if !is_encoded(encoded) => {
                Err(malformed("expected A-Z, a-z, 0-9, '=', '_' or '-' after the ':'"))
            }
            _ => Err(DigestError::UnknownAlgorithm { algorithm: excerpt(algorithm) }),
        }
    }
}

fn parse_hash<const N: usize>(hex: &str, algorithm: Algorithm) -> Result<[u8; N], DigestError> {
    if let Some((at, character)) =
        hex.char_indices().find(|(_, c)| !matches!(c, '0'..='9' | 'a'..='f'))
    {
        return Err(malformed(&format!(
            "expected lower-case hexadecimal, found {character:?} at offset {at} after the ':'"
        )));
    }
    if hex.len() != 2 * N {
        return Err(wrong_length(algorithm, hex.len()));
    }
    let mut hash = [0; N];
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = hex_value(*high) << 4 | hex_value(*low);
    }
    Ok(hash)
}

/// `algorithm ::= component (separator component)*` with `[+._-]` between `[a-z0-9]+`.
fn is_algorithm(text: &str) -> bool {
    text.split(['+', '.', '_', '-']).all(|component| {
        !component.is_empty() && component.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'))
    })
}

/// `encoded ::= [a-zA-Z0-9=_-]+`
fn is_encoded(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
}

/// A hash in lower-case hexadecimal. Each answer has several, so they are not worth an allocation.
struct Hex {
    digits: [[u8; 2]; 64],
    bytes: usize,
}

impl Hex {
    fn of(digest: &Digest) -> Self {
        let mut digits = [[0; 2]; 64];
        for (pair, byte) in digits.iter_mut().zip(digest.hash()) {
            *pair = [hex_digit(byte >> 4), hex_digit(byte & 15)];
        }
        Self { digits, bytes: digest.hash().len() }
    }

    fn as_str(&self) -> &str {
        let digits = self.digits.get(..self.bytes).unwrap_or_default();
        // They are ASCII.
        str::from_utf8(digits.as_flattened()).unwrap_or_default()
    }
}

/// `nibble` is below 16.
fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) }
}

/// `digit` is one of `0-9a-f`.
fn hex_value(digit: u8) -> u8 {
    if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 }
}

fn malformed(reason: &str) -> DigestError {
    DigestError::Malformed { reason: reason.to_owned() }
}

fn wrong_length(algorithm: Algorithm, found: usize) -> DigestError {
    DigestError::WrongLength { algorithm, expected: 2 * algorithm.hash_len(), found }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [self.algorithm().as_str(), ":", Hex::of(self).as_str()] {
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

serde_as_text!(Digest);

impl Algorithm {
    /// The name in a digest, such as `sha256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of a raw hash in bytes.
    pub fn hash_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The number in storage. Never reuse one.
    fn number(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(name: &str) -> Result<Self, DigestError> {
        match name {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError::UnknownAlgorithm { algorithm: excerpt(name) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const EMPTY_512: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                             47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

    fn error(text: &str) -> DigestError {
        text.parse::<Digest>().expect_err(text)
    }

    #[test]
    fn hashes_the_empty_content() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        assert_eq!(Digest::sha512(b"").to_string(), EMPTY_512);
        assert_eq!(Digest::of(Algorithm::Sha256, b"").hash().len(), 32);
        assert_eq!(Digest::of(Algorithm::Sha512, b"").hash().len(), 64);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::sha256(b""));
        assert_eq!(EMPTY_512.parse::<Digest>().unwrap(), Digest::sha512(b""));
    }

    #[test]
    fn tells_malformed_unknown_and_wrong_length_apart() {
        for text in [
            "",
            "sha256",
            ":abc",
            "SHA256:00",
            "sha256:xyz",
            "sha256:é",
            "a b:c",
            "b3:",
            "b3:!",
            "-:00",
        ] {
            assert!(matches!(error(text), DigestError::Malformed { .. }), "{text}");
        }
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        assert!(matches!(error(&upper), DigestError::Malformed { .. }));
        for (text, algorithm) in [("blake3:abc", "blake3"), ("sha256+b64u:LC-a_=", "sha256+b64u")] {
            assert_eq!(error(text), DigestError::UnknownAlgorithm { algorithm: algorithm.into() });
        }
        for text in
            ["sha256:", "sha256:abc", &format!("{EMPTY}0"), &EMPTY_512.replace("512", "256")]
        {
            assert!(matches!(error(text), DigestError::WrongLength { expected: 64, .. }), "{text}");
        }
        assert_eq!(
            error("sha512:00").to_string(),
            "a sha512 digest has 128 hexadecimal characters, found 2"
        );
    }

    #[test]
    fn messages_do_not_repeat_a_long_input() {
        assert!(error(&format!("{}:00", "a".repeat(10_000))).to_string().len() < 200);
    }

    #[test]
    fn stored_bytes_are_checked() {
        assert!(matches!(Digest::from_bytes(&[]), Err(DigestError::Malformed { .. })));
        assert!(matches!(Digest::from_bytes(&[0]), Err(DigestError::UnknownAlgorithm { .. })));
        assert!(matches!(
            Digest::from_bytes(&[1, 2, 3]),
            Err(DigestError::WrongLength { found: 4, .. })
        ));
        assert_eq!(Digest::sha256(b"").to_bytes()[..2], [1, 0xe3]);
        assert_eq!(Digest::sha512(b"").to_bytes()[..2], [2, 0xcf]);
    }

    #[test]
    fn referrers_tag_is_cut_to_the_limits_of_the_schema() {
        let digest = Digest::sha256(b"");
        assert_eq!(digest.referrers_tag().as_str(), EMPTY.replace(':', "-"));
        let long = Digest::sha512(b"");
        assert_eq!(long.referrers_tag().as_str(), &EMPTY_512.replace(':', "-")[..7 + 64]);
        assert!(digest.is_referrers_tag(&digest.referrers_tag()));
        assert!(!digest.is_referrers_tag(&long.referrers_tag()));
    }

    #[test]
    fn serde_is_a_checked_string() {
        let json = format!("\"{EMPTY}\"");
        let digest: Digest = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&digest).unwrap(), json);
        assert!(serde_json::from_str::<Digest>("\"sha256:00\"").is_err());
    }

    fn digests() -> impl Strategy<Value = Digest> {
        (any::<bool>(), any::<[u8; 8]>()).prop_map(|(long, seed)| {
            Digest::of(if long { Algorithm::Sha512 } else { Algorithm::Sha256 }, &seed)
        })
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(sha256:|sha512:|)\\PC*") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            if let Ok(digest) = Digest::from_bytes(&bytes) {
                prop_assert_eq!(digest.to_bytes(), bytes);
            }
        }

        #[test]
        fn all_forms_lead_back(digest in digests()) {
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            prop_assert_eq!(Digest::from_bytes(&digest.to_bytes()).unwrap(), digest);
            prop_assert_eq!(Digest::from_hash(digest.algorithm(), digest.hash()), Some(digest));
            prop_assert!(digest.is_referrers_tag(&digest.referrers_tag().to_string().parse().unwrap()));
        }

        #[test]
        fn orders_as_text(a in digests(), b in digests()) {
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        }
    }
}
