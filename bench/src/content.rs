//! The bytes that are pushed and pulled: incompressible, different for every label, and the same
//! in every run, so that all servers get the same content.

use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::random::{GOLDEN, mix};

/// How much is made at a time; fits the level 2 cache.
const PIECE: usize = 256 * 1024;

/// A blob that is made when it is needed and never held in memory as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    seed: u64,
    length: u64,
}

impl Content {
    /// Content of `length` bytes that depends on `label` only.
    pub(crate) fn new(label: &str, length: u64) -> Self {
        let hash = Sha256::digest(label.as_bytes());
        let seed = hash.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte));
        Self { seed, length }
    }

    /// In bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Hands the whole content to `sink` in pieces of `piece.len()` bytes (the last may be
    /// shorter), made in `piece`.
    pub(crate) fn for_each_piece<E>(
        &self,
        piece: &mut [u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut offset = 0;
        while offset < self.length {
            let left = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
            let length = left.min(piece.len());
            let part = piece.get_mut(..length).unwrap_or_default();
            self.fill(offset, part);
            sink(part)?;
            offset += length as u64;
        }
        Ok(())
    }

    /// `sha256:…` of the whole.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let done: Result<(), std::convert::Infallible> =
            self.for_each_piece(&mut vec![0; PIECE], |piece| {
                hash.update(piece);
                Ok(())
            });
        match done {
            Ok(()) => name_of(hash),
        }
    }

    /// The whole content; for small ones.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(0)];
        self.fill(0, &mut bytes);
        bytes
    }

    /// What lies at `offset`, a multiple of 8.
    pub(crate) fn part(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(offset, &mut bytes);
        bytes
    }

    /// Writes the whole content to a new file.
    pub(crate) fn write_file(&self, path: &Path) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        self.for_each_piece(&mut vec![0; PIECE], |piece| file.write_all(piece))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Word number `n` is splitmix64's output number `n`, so that any place can be made directly.
    /// `offset` is a multiple of 8.
    fn fill(&self, offset: u64, target: &mut [u8]) {
        let mut state = self.seed.wrapping_add((offset / 8).wrapping_mul(GOLDEN));
        let mut words = target.chunks_exact_mut(8);
        for word in &mut words {
            state = state.wrapping_add(GOLDEN);
            word.copy_from_slice(&mix(state).to_le_bytes());
        }
        let rest = words.into_remainder();
        let last = mix(state.wrapping_add(GOLDEN)).to_le_bytes();
        for (target, byte) in rest.iter_mut().zip(last) {
            *target = byte;
        }
    }
}

/// `sha256:…` of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    name_of(Sha256::new_with_prefix(bytes))
}

/// A finished hash as a digest.
pub(crate) fn name_of(hash: Sha256) -> String {
    use std::fmt::Write as _;
    hash.finalize().iter().fold(String::from("sha256:"), |mut name, byte| {
        // Writing to a String does not fail.
        let _ = write!(name, "{byte:02x}");
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_to_the_whole() {
        let content = Content::new("pieces", 1_000_003);
        let mut joined = Vec::new();
        let done: Result<(), ()> = content.for_each_piece(&mut [0; 4096], |piece| {
            joined.extend_from_slice(piece);
            Ok(())
        });
        assert_eq!(done, Ok(()));
        assert_eq!(joined, content.bytes());
        assert_eq!(content.digest(), digest_of(&joined));
    }

    #[test]
    fn a_part_is_what_the_whole_has_there() {
        let content = Content::new("part", 4096);
        assert_eq!(content.part(1024, 100), content.bytes()[1024..1124]);
    }

    #[test]
    fn labels_make_different_content() {
        assert_ne!(Content::new("a", 64).bytes(), Content::new("b", 64).bytes());
    }
}
