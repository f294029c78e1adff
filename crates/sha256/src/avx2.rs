//! The compression function for processors with AVX2 and BMI, but without SHA instructions: the
//! message schedules of two blocks are computed side by side in the two halves of wide registers
//! (S. Gueron and V. Krasnov, "Simultaneous hashing of multiple messages", 2012).

use crate::Compress;

/// The function, if this processor can run it.
pub(crate) fn compress() -> Option<Compress> {
    #[cfg(target_arch = "x86_64")]
    {
        let able = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2");
        able.then_some(x86_64::call as Compress)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_alignr_epi8, _mm256_extract_epi64, _mm256_or_si256,
        _mm256_set_epi64x, _mm256_shuffle_epi8, _mm256_shuffle_epi32, _mm256_slli_epi32,
        _mm256_srli_epi32, _mm256_srli_epi64, _mm256_xor_si256,
    };

    use crate::BLOCK;

    /// §4.2.2 of FIPS 180-4, four to a row, four rows at a time.
    const K: [[[u32; 4]; 4]; 4] = [
        [
            [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
            [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
            [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
            [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        ],
        [
            [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
            [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
            [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
            [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        ],
        [
            [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
            [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
            [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
            [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        ],
        [
            [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
            [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
            [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
            [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
        ],
    ];

    /// The words of a schedule with their constants added: four of the first block, then four of
    /// the second, in each row.
    type Schedule = [[[u32; 8]; 4]; 4];

    pub(super) fn call(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
        // SAFETY: this function is reachable only through `avx2::compress`, which returns it only
        // where the processor has avx2, bmi1 and bmi2, all that `compress` was compiled for. It
        // works on references and values alone.
        unsafe { compress(state, blocks) }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn compress(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
        let mut words = Schedule::default();
        let (pairs, rest) = blocks.as_chunks::<2>();
        for [first, second] in pairs {
            schedule_and_first(state, first, second, &mut words);
            second_block(state, &words);
        }
        for block in rest {
            schedule_and_first(state, block, block, &mut words);
        }
    }

    /// §6.2.2, step 3, with the word of the schedule and its constant already added.
    macro_rules! round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $w:expr) => {
            let sum = $e.rotate_right(6) ^ $e.rotate_right(11) ^ $e.rotate_right(25);
            let choice = ($e & $f).wrapping_add(!$e & $g);
            let t1 = $h.wrapping_add($w).wrapping_add(choice).wrapping_add(sum);
            $d = $d.wrapping_add(t1);
            let sum = $a.rotate_right(2) ^ $a.rotate_right(13) ^ $a.rotate_right(22);
            let majority = (($a ^ $b) & ($b ^ $c)) ^ $b;
            $h = t1.wrapping_add(sum).wrapping_add(majority);
        };
    }

    /// Four rounds; the letters stand as after that many.
    macro_rules! four_rounds {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $words:expr) => {
            let [w0, w1, w2, w3] = $words;
            round!($a $b $c $d $e $f $g $h, w0);
            round!($h $a $b $c $d $e $f $g, w1);
            round!($g $h $a $b $c $d $e $f, w2);
            round!($f $g $h $a $b $c $d $e, w3);
        };
    }

    /// §6.2.2: step 1 for both blocks, the other steps for the first. While a round waits for the
    /// one before it, the processor has the words of the next rows to work on.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[expect(clippy::many_single_char_names, reason = "the standard's own names")]
    fn schedule_and_first(
        state: &mut [u32; 8],
        first: &[u8; BLOCK],
        second: &[u8; BLOCK],
        words: &mut Schedule,
    ) {
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        let mut w0 = load(first, second, 0);
        let mut w1 = load(first, second, 1);
        let mut w2 = load(first, second, 2);
        let mut w3 = load(first, second, 3);
        let [early @ .., last] = words;
        let [early_k @ .., last_k] = &K;
        for ([r0, r1, r2, r3], [k0, k1, k2, k3]) in early.iter_mut().zip(early_k) {
            *r0 = plus(w0, k0);
            w0 = next(w0, w1, w2, w3);
            four_rounds!(a b c d e f g h, half::<0>(r0));
            *r1 = plus(w1, k1);
            w1 = next(w1, w2, w3, w0);
            four_rounds!(e f g h a b c d, half::<0>(r1));
            *r2 = plus(w2, k2);
            w2 = next(w2, w3, w0, w1);
            four_rounds!(a b c d e f g h, half::<0>(r2));
            *r3 = plus(w3, k3);
            w3 = next(w3, w0, w1, w2);
            four_rounds!(e f g h a b c d, half::<0>(r3));
        }
        let ([r0, r1, r2, r3], [k0, k1, k2, k3]) = (last, last_k);
        *r0 = plus(w0, k0);
        *r1 = plus(w1, k1);
        *r2 = plus(w2, k2);
        *r3 = plus(w3, k3);
        four_rounds!(a b c d e f g h, half::<0>(r0));
        four_rounds!(e f g h a b c d, half::<0>(r1));
        four_rounds!(a b c d e f g h, half::<0>(r2));
        four_rounds!(e f g h a b c d, half::<0>(r3));
        add(state, [a, b, c, d, e, f, g, h]);
    }

    /// §6.2.2, steps 2 to 4, for the second block.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    #[expect(clippy::many_single_char_names, reason = "the standard's own names")]
    fn second_block(state: &mut [u32; 8], words: &Schedule) {
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        for [r0, r1, r2, r3] in words {
            four_rounds!(a b c d e f g h, half::<4>(r0));
            four_rounds!(e f g h a b c d, half::<4>(r1));
            four_rounds!(a b c d e f g h, half::<4>(r2));
            four_rounds!(e f g h a b c d, half::<4>(r3));
        }
        add(state, [a, b, c, d, e, f, g, h]);
    }

    /// The words of one block in a row: those from the place `FROM`.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "constant places in an array of known size")]
    fn half<const FROM: usize>(row: &[u32; 8]) -> [u32; 4] {
        [row[FROM], row[FROM + 1], row[FROM + 2], row[FROM + 3]]
    }

    /// §6.2.2, step 4.
    #[inline]
    fn add(state: &mut [u32; 8], values: [u32; 8]) {
        for (word, value) in state.iter_mut().zip(values) {
            *word = word.wrapping_add(value);
        }
    }

    /// The four words of each block's schedule that follow the sixteen given.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn next(w0: __m256i, w1: __m256i, w2: __m256i, w3: __m256i) -> __m256i {
        // Moves the σ1 of two words, each computed in 64 bits, to the lower or upper half.
        let to_low = both(0x0b0a_0908_0302_0100, -1);
        let to_high = both(-1, 0x0b0a_0908_0302_0100);
        let minus_15 = _mm256_alignr_epi8::<4>(w1, w0);
        let minus_7 = _mm256_alignr_epi8::<4>(w3, w2);
        let sum = _mm256_add_epi32(_mm256_add_epi32(w0, sigma_0(minus_15)), minus_7);
        let low = _mm256_shuffle_epi8(sigma_1::<0b11_11_10_10>(w3), to_low);
        let sum = _mm256_add_epi32(sum, low);
        let high = _mm256_shuffle_epi8(sigma_1::<0b01_01_00_00>(sum), to_high);
        _mm256_add_epi32(sum, high)
    }

    /// §4.1.2, (4.6) for four words of each block.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn sigma_0(w: __m256i) -> __m256i {
        let by_7 = _mm256_or_si256(_mm256_srli_epi32::<7>(w), _mm256_slli_epi32::<25>(w));
        let by_18 = _mm256_or_si256(_mm256_srli_epi32::<18>(w), _mm256_slli_epi32::<14>(w));
        _mm256_xor_si256(_mm256_xor_si256(by_7, by_18), _mm256_srli_epi32::<3>(w))
    }

    /// §4.1.2, (4.7) for two words of each block, which `TWICE` spreads so that each stands twice
    /// in 64 bits: a shift of those rotates the word.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn sigma_1<const TWICE: i32>(w: __m256i) -> __m256i {
        let w = _mm256_shuffle_epi32::<TWICE>(w);
        let rotated = _mm256_xor_si256(_mm256_srli_epi64::<17>(w), _mm256_srli_epi64::<19>(w));
        _mm256_xor_si256(rotated, _mm256_srli_epi32::<10>(w))
    }

    /// Four words of each block from the place `t`, which are in big endian there.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn load(first: &[u8; BLOCK], second: &[u8; BLOCK], t: usize) -> __m256i {
        let swap = both(0x0405_0607_0001_0203, 0x0c0d_0e0f_0809_0a0b);
        let part = |block: &[u8; BLOCK], n: usize| {
            block.as_chunks::<8>().0.get(n).map_or(0, |bytes| i64::from_le_bytes(*bytes))
        };
        let words = _mm256_set_epi64x(
            part(second, 2 * t + 1),
            part(second, 2 * t),
            part(first, 2 * t + 1),
            part(first, 2 * t),
        );
        _mm256_shuffle_epi8(words, swap)
    }

    /// The words with their constants added.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn plus(words: __m256i, constants: &[u32; 4]) -> [u32; 8] {
        let [k0, k1, k2, k3] = *constants;
        let pair = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)).cast_signed();
        let sum = _mm256_add_epi32(words, both(pair(k0, k1), pair(k2, k3)));
        let quarters = [
            _mm256_extract_epi64::<0>(sum),
            _mm256_extract_epi64::<1>(sum),
            _mm256_extract_epi64::<2>(sum),
            _mm256_extract_epi64::<3>(sum),
        ];
        let mut row = [0; 8];
        for (places, quarter) in row.as_chunks_mut::<2>().0.iter_mut().zip(quarters) {
            let quarter = quarter.cast_unsigned();
            #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
            let low = quarter as u32;
            *places = [low, (quarter >> 32) as u32];
        }
        row
    }

    /// The same 128 bits in both halves.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn both(low: i64, high: i64) -> __m256i {
        _mm256_set_epi64x(high, low, high, low)
    }
}
