//! SHA-256 (FIPS 180-4) whose unfinished state can be saved, as fast as the processor allows.
//!
//! Every byte that is pushed is hashed, and nothing else in a push costs as much. The libraries
//! that are fast on every processor do not hand out an unfinished hash, so padding and state are
//! done here, and only the compression of whole blocks is AWS-LC's: but for processors with AVX2
//! and without SHA instructions, for which [`avx2`] is faster.

#[cfg(target_arch = "x86_64")]
mod avx2;

use std::sync::LazyLock;

/// Bytes in a block.
pub const BLOCK: usize = 64;

/// Bytes of a [saved](Sha256::save) state.
pub const SAVED: usize = 32 + 8 + BLOCK;

/// §5.3.3 of FIPS 180-4.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// §6.2.2 of FIPS 180-4 for each block, if there is any.
type Compress = fn(&mut [u32; 8], &[[u8; BLOCK]]);

/// The fastest way that this processor knows.
static COMPRESS: LazyLock<Compress> = LazyLock::new(|| {
    #[cfg(target_arch = "x86_64")]
    if !is_x86_feature_detected!("sha")
        && let Some(compress) = avx2::compress()
    {
        return compress;
    }
    aws_lc
});

/// An unfinished hash.
#[derive(Clone, Debug)]
pub struct Sha256 {
    state: [u32; 8],
    length: u64,
    /// The bytes after the last whole block; how many is in `length`.
    partial: [u8; BLOCK],
}

impl Default for Sha256 {
    fn default() -> Self {
        Self { state: INITIAL, length: 0, partial: [0; BLOCK] }
    }
}

impl Sha256 {
    /// Hashes `bytes` behind those that came before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.update_with(*COMPRESS, bytes);
    }

    fn update_with(&mut self, compress: Compress, mut bytes: &[u8]) {
        let filled = self.filled();
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if filled > 0 {
            let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK - filled));
            copy(&mut self.partial, filled, taken);
            bytes = rest;
            if filled + taken.len() < BLOCK {
                return;
            }
            compress(&mut self.state, &[self.partial]);
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        compress(&mut self.state, blocks);
        copy(&mut self.partial, 0, rest);
    }

    /// Bytes hashed so far.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing was hashed yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The hash of all bytes: behind them come a one bit, zeros, and their length in bits at the
    /// end of a block (§5.1.1).
    pub fn finish(self) -> [u8; 32] {
        self.finish_with(*COMPRESS)
    }

    fn finish_with(mut self, compress: Compress) -> [u8; 32] {
        let bits = self.length.wrapping_mul(8);
        let filled = self.filled();
        let zeros = if filled < 56 { 55 - filled } else { 119 - filled };
        let mut padding = [0; 2 * BLOCK];
        copy(&mut padding, 0, &[0x80]);
        copy(&mut padding, 1 + zeros, &bits.to_be_bytes());
        let (padding, _) = padding.split_at(1 + zeros + 8);
        self.update_with(compress, padding);
        let mut hash = [0; 32];
        for (place, value) in hash.iter_mut().zip(self.state.iter().flat_map(|w| w.to_be_bytes())) {
            *place = value;
        }
        hash
    }

    /// What [`restore`](Self::restore) needs to go on: the state, the number of bytes, and those
    /// of the unfinished block, integers in big endian.
    pub fn save(&self) -> [u8; SAVED] {
        let mut saved = [0; SAVED];
        let state = self.state.iter().flat_map(|word| word.to_be_bytes());
        let values = state.chain(self.length.to_be_bytes()).chain(self.partial);
        for (place, value) in saved.iter_mut().zip(values) {
            *place = value;
        }
        saved
    }

    /// Goes on from what [`save`](Self::save) returned.
    pub fn restore(saved: &[u8; SAVED]) -> Self {
        let mut restored = Self::default();
        let (words, rest) = saved.split_at(32);
        let (length, partial) = rest.split_at(8);
        for (word, bytes) in restored.state.iter_mut().zip(words.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        if let Some(length) = length.first_chunk() {
            restored.length = u64::from_be_bytes(*length);
        }
        if let Some(partial) = partial.first_chunk() {
            restored.partial = *partial;
        }
        restored
    }

    /// Bytes of the unfinished block.
    #[expect(clippy::cast_possible_truncation, reason = "it is below 64")]
    fn filled(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }
}

fn aws_lc(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
    // Its assembly reads a block before it looks whether there is one.
    if blocks.is_empty() {
        return;
    }
    // SAFETY: the function reads `blocks.len()` blocks of 64 bytes, of which there must be one,
    // from the one pointer, and reads and writes eight words at the other; both come from
    // references to exactly that much, which do not overlap, and it keeps neither.
    unsafe {
        aws_lc_sys::SHA256_TransformBlocks(
            state.as_mut_ptr(),
            blocks.as_ptr().cast(),
            blocks.len(),
        );
    }
}

/// Copies `from` to the place `at`, as far as there is room.
fn copy(to: &mut [u8], at: usize, from: &[u8]) {
    for (place, byte) in to.iter_mut().skip(at).zip(from) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::Digest;

    use super::*;

    /// Every way that this machine can go.
    fn ways() -> Vec<Compress> {
        #[cfg(target_arch = "x86_64")]
        let other = avx2::compress();
        #[cfg(not(target_arch = "x86_64"))]
        let other = None;
        [aws_lc as Compress].into_iter().chain(other).collect()
    }

    fn hash(compress: Compress, bytes: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::default();
        hasher.update_with(compress, bytes);
        hasher.finish_with(compress)
    }

    #[test]
    fn the_standards_own_examples() {
        let abc = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae,
            0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61,
            0xf2, 0x00, 0x15, 0xad,
        ];
        let two_blocks = [
            0x24, 0x8d, 0x6a, 0x61, 0xd2, 0x06, 0x38, 0xb8, 0xe5, 0xc0, 0x26, 0x93, 0x0c, 0x3e,
            0x60, 0x39, 0xa3, 0x3c, 0xe4, 0x59, 0x64, 0xff, 0x21, 0x67, 0xf6, 0xec, 0xed, 0xd4,
            0x19, 0xdb, 0x06, 0xc1,
        ];
        let long = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        for way in ways() {
            assert_eq!(hash(way, b"abc"), abc);
            assert_eq!(hash(way, long), two_blocks);
        }
    }

    #[test]
    fn every_length_around_the_block() {
        let bytes: Vec<u8> = (0..=255).cycle().take(520).collect();
        for length in 0..bytes.len() {
            let expected: [u8; 32] = sha2::Sha256::digest(&bytes[..length]).into();
            for way in ways() {
                assert_eq!(hash(way, &bytes[..length]), expected, "{length} bytes");
            }
        }
    }

    #[test]
    fn every_way_is_the_same() {
        let mut seed = 1_u64;
        let mut random = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_be_bytes()
        });
        let blocks: Vec<[u8; 8]> = random.by_ref().take(8 * 4096).collect();
        let (blocks, _) = blocks.as_flattened().as_chunks::<BLOCK>();
        let results = ways().into_iter().map(|way| {
            let mut state = INITIAL;
            way(&mut state, blocks);
            state
        });
        let results: Vec<_> = results.collect();
        assert!(results.windows(2).all(|two| two[0] == two[1]));
    }

    #[test]
    fn no_blocks_change_nothing() {
        for way in ways() {
            let mut state = INITIAL;
            way(&mut state, &[]);
            assert_eq!(state, INITIAL);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_split_and_any_save_is_the_hash_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            cuts in (0..2000_usize, 0..2000_usize),
        ) {
            let expected: [u8; 32] = sha2::Sha256::digest(&bytes).into();
            let first = cuts.0.min(bytes.len());
            let second = cuts.1.clamp(first, bytes.len());
            let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            let mut hasher = Sha256::default();
            hasher.update(parts[0]);
            let mut hasher = Sha256::restore(&hasher.save());
            hasher.update(parts[1]);
            let mut hasher = Sha256::restore(&hasher.save());
            hasher.update(parts[2]);
            prop_assert_eq!(hasher.len(), bytes.len() as u64);
            prop_assert_eq!(hasher.finish(), expected);
        }
    }
}
