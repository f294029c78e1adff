//! Hashing of content while it arrives, with a state that can be saved and restored.

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha512};
use sha256::Sha256;
use thiserror::Error;

use crate::{Algorithm, Digest};

/// An incremental hash: always SHA-256, and SHA-512 too if asked for.
///
/// An unfinished hash can be [saved](Self::save) and [restored](Self::restore) in another process,
/// so that an interrupted upload continues without reading again what was received.
#[derive(Debug, Clone)]
pub struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

/// The outcome of a [`Hasher`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    pub sha256: Digest,
    /// Present if SHA-512 was asked for.
    pub sha512: Option<Digest>,
    /// The number of bytes hashed.
    pub size: u64,
}

/// Why a saved state can not be restored. The remedy is the same for all: hash again from the
/// beginning.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HasherError {
    #[error(
        "the saved hash state has version {found}, expected {}: hash the content again",
        VERSION
    )]
    Version { found: u8 },
    #[error("the saved hash state is damaged: hash the content again")]
    Damaged,
}

/// The layout of a saved state. Increase it when the layout changes, also by a new `sha2` crate:
/// within one of its 0.x versions the serialized state is promised to be stable.
///
/// 1: version (1 byte), SHA-512 present (1 byte, 0 or 1), state of SHA-256 (104 bytes, with the
/// length in it), state of SHA-512 (208 bytes, if present).
const VERSION: u8 = 1;

/// The most bytes a saved state may claim. Their number of bits still fits in 64 bits, with room
/// to continue, so that forged states can not make the arithmetic of the hash overflow.
const MAX_LEN: u64 = 1 << 60;

impl Hasher {
    /// A hash of nothing yet. `also` asks for a second algorithm beside SHA-256.
    pub fn new(also: Option<Algorithm>) -> Self {
        let sha512 = match also {
            Some(Algorithm::Sha512) => Some(Sha512::new()),
            Some(Algorithm::Sha256) | None => None,
        };
        Self { sha256: Sha256::default(), sha512 }
    }

    /// Hashes `bytes` behind those that came before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// The number of bytes hashed so far.
    pub fn len(&self) -> u64 {
        self.sha256.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sha256.is_empty()
    }

    /// Whether the outcome will have a digest of this algorithm.
    pub fn includes(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Sha256 => true,
            Algorithm::Sha512 => self.sha512.is_some(),
        }
    }

    pub fn finish(self) -> Hashed {
        Hashed {
            size: self.len(),
            sha256: Digest::from_sha256(self.sha256.finish()),
            sha512: self.sha512.map(|state| Digest::from_sha512(state.finalize().into())),
        }
    }

    /// The state, for [`restore`](Self::restore). It contains up to 127 of the last bytes hashed.
    pub fn save(&self) -> Vec<u8> {
        let mut saved = vec![VERSION, u8::from(self.sha512.is_some())];
        saved.extend_from_slice(&self.sha256.save());
        if let Some(sha512) = &self.sha512 {
            saved.extend_from_slice(&sha512.serialize());
        }
        saved
    }

    /// Continues from what [`save`](Self::save) returned.
    ///
    /// Detects other versions and damaged structure, but can not detect every altered byte: a
    /// hash continued from such a state does not match the expected digest.
    pub fn restore(saved: &[u8]) -> Result<Self, HasherError> {
        let (&version, saved) = saved.split_first().ok_or(HasherError::Damaged)?;
        if version != VERSION {
            return Err(HasherError::Version { found: version });
        }
        Self::restore_current(saved).ok_or(HasherError::Damaged)
    }

    fn restore_current(saved: &[u8]) -> Option<Self> {
        let (&with_sha512, saved) = saved.split_first()?;
        let (sha256, saved) = saved.split_first_chunk::<{ sha256::SAVED }>()?;
        let sha256 = Sha256::restore(sha256);
        if sha256.len() > MAX_LEN {
            return None;
        }
        let (sha512, saved) = match with_sha512 {
            0 => (None, saved),
            1 => {
                let (state, rest) = restore_sha512(saved, sha256.len())?;
                (Some(state), rest)
            }
            _ => return None,
        };
        saved.is_empty().then_some(Self { sha256, sha512 })
    }
}

impl Hashed {
    /// The digest by `algorithm`, if it was computed.
    pub fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        match algorithm {
            Algorithm::Sha256 => Some(self.sha256),
            Algorithm::Sha512 => self.sha512,
        }
    }
}

/// Splits the state of SHA-512 off `saved`; `None` if it is not one of `len` bytes hashed.
///
/// It records that length behind 64 bytes of chaining value: the number of full blocks of 128
/// bytes, little endian in 16 bytes, then the number of bytes in the unfinished one.
fn restore_sha512(saved: &[u8], len: u64) -> Option<(Sha512, &[u8])> {
    let (state, rest) = saved.split_at_checked(size_of::<SerializedState<Sha512>>())?;
    let blocks = u128::from(len / 128).to_le_bytes();
    let unfinished = u8::try_from(len % 128).ok()?;
    let (found, position) = state.get(64..)?.split_first_chunk::<16>()?;
    if *found != blocks || *position.first()? != unfinished {
        return None;
    }
    let state: &SerializedState<Sha512> = state.try_into().ok()?;
    Some((Sha512::deserialize(state).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_send<T: Send + Clone>() {}

    #[test]
    fn hashes_both_algorithms_on_request() {
        assert_send::<Hasher>();
        let mut hasher = Hasher::new(Some(Algorithm::Sha512));
        assert!(hasher.is_empty());
        hasher.update(b"hello");
        assert_eq!(hasher.len(), 5);
        let hashed = hasher.finish();
        assert_eq!(hashed.sha256, Digest::sha256(b"hello"));
        assert_eq!(hashed.digest(Algorithm::Sha512), Some(Digest::sha512(b"hello")));
        assert_eq!(hashed.size, 5);
        assert_eq!(Hasher::new(None).finish().sha512, None);
        assert!(!Hasher::new(Some(Algorithm::Sha256)).includes(Algorithm::Sha512));
    }

    /// A state saved by an earlier build. If this fails, states of running uploads can not be
    /// restored after an update: keep the old layout readable or increase `VERSION`.
    #[test]
    fn saved_states_stay_readable() {
        let mut hasher = Hasher::new(None);
        hasher.update(b"abc");
        let mut expected = vec![1, 0];
        for word in [
            0x6a09_e667_u32,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ] {
            expected.extend(word.to_be_bytes());
        }
        expected.extend(3_u64.to_be_bytes());
        expected.extend(b"abc");
        expected.resize(2 + 104, 0);
        assert_eq!(hasher.save(), expected);
        let restored = Hasher::restore(&expected).unwrap();
        assert_eq!(restored.finish().sha256, Digest::sha256(b"abc"));
    }

    #[test]
    fn damaged_states_are_refused() {
        let mut hasher = Hasher::new(Some(Algorithm::Sha512));
        hasher.update(&[7; 200]);
        let saved = hasher.save();
        for len in 0..saved.len() {
            assert_eq!(Hasher::restore(&saved[..len]).unwrap_err(), HasherError::Damaged, "{len}");
        }
        let longer = [&saved[..], &[0]].concat();
        assert_eq!(Hasher::restore(&longer).unwrap_err(), HasherError::Damaged);

        let altered = |at: usize, value: u8| {
            let mut altered = saved.clone();
            altered[at] = value;
            Hasher::restore(&altered).unwrap_err()
        };
        assert_eq!(altered(0, 2), HasherError::Version { found: 2 });
        assert_eq!(altered(1, 2), HasherError::Damaged);
        assert_eq!(altered(2 + 32, 255), HasherError::Damaged, "a length beyond the limit");
        assert_eq!(altered(2 + 39, 1), HasherError::Damaged, "another length");
        assert_eq!(altered(106 + 79, 255), HasherError::Damaged, "another number of blocks");
        assert_eq!(altered(106 + 80, 9), HasherError::Damaged, "another position");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn splits_and_saves_do_not_change_the_digest(
            pieces in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..300), any::<bool>()),
                0..8,
            ),
            also in prop::option::of(Just(Algorithm::Sha512)),
        ) {
            let mut hasher = Hasher::new(also);
            let mut content = Vec::new();
            for (piece, interrupted) in pieces {
                hasher.update(&piece);
                content.extend(piece);
                if interrupted {
                    let saved = hasher.save();
                    hasher = Hasher::restore(&saved).unwrap();
                    prop_assert_eq!(hasher.save(), saved);
                }
            }
            prop_assert_eq!(hasher.len(), content.len() as u64);
            let hashed = hasher.finish();
            prop_assert_eq!(hashed.sha256, Digest::sha256(&content));
            prop_assert_eq!(hashed.sha512, also.map(|_| Digest::sha512(&content)));
            prop_assert_eq!(hashed.size, content.len() as u64);
        }

        #[test]
        fn any_bytes_are_restored_or_refused(
            at in 0_usize..314,
            value in any::<u8>(),
            tail in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut hasher = Hasher::new(Some(Algorithm::Sha512));
            hasher.update(&tail);
            let mut saved = hasher.save();
            saved[at] = value;
            if let Ok(mut restored) = Hasher::restore(&saved) {
                restored.update(&tail);
                restored.finish();
            }
            let _ = Hasher::restore(&tail);
        }
    }
}
