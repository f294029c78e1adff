//! The compression function for processors with AVX2 and BMI2, but without SHA instructions.
//!
//! The message schedules of two blocks are computed side by side in the two halves of wide
//! registers (S. Gueron and V. Krasnov, "Simultaneous hashing of multiple messages", 2012), spread
//! between the rounds of the first block, where the processor has room for it. No compiler keeps
//! to such an order, hence the assembly: it takes 0.92 × the time of AWS-LC's code.

use std::arch::asm;
use std::arch::x86_64::{
    __m128i, __m256i, _mm256_add_epi32, _mm256_set_epi64x, _mm256_set_m128i, _mm256_shuffle_epi8,
};
use std::mem::transmute;

use crate::{BLOCK, Compress};

/// The function, if this processor can run it.
pub(crate) fn compress() -> Option<Compress> {
    let able = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2");
    able.then_some(call as Compress)
}

fn call(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
    // SAFETY: this function is reachable only through `compress`, which returns it only where the
    // processor has all that `compress_blocks` was compiled for.
    unsafe { compress_blocks(state, blocks) }
}

/// Four words of one schedule, then four of another.
type Row = [u32; 8];

/// The words of two schedules, with their constants added.
type Words = [Row; 16];

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn compress_blocks(state: &mut [u32; 8], blocks: &[[u8; BLOCK]]) {
    let mut words = Words::default();
    let (pairs, rest) = blocks.as_chunks::<2>();
    for [first, second] in pairs {
        schedule_and_first(state, first, second, &mut words);
        second_block(state, &words);
    }
    for block in rest {
        schedule_and_first(state, block, block, &mut words);
    }
}

/// One round (§6.2.2 of FIPS 180-4, step 3) with eight other instructions spread over it. `$x` has
/// b ^ c, and `$y` gets a ^ b, which the next round needs for it.
macro_rules! round {
    ($w:literal $x:literal $y:literal:
     $a:literal $b:literal $d:literal $e:literal $f:literal $g:literal $h:literal;
     $i0:literal $i1:literal $i2:literal $i3:literal
     $i4:literal $i5:literal $i6:literal $i7:literal) => {
        concat!(
            "add {",
            $h,
            ":e}, [{p} + {row} + ",
            $w,
            "]\n",
            "mov {",
            $y,
            ":e}, {",
            $e,
            ":e}\n",
            "rorx {s:e}, {",
            $e,
            ":e}, 25\n",
            $i0,
            "\n",
            "rorx {t:e}, {",
            $e,
            ":e}, 11\n",
            "and {",
            $y,
            ":e}, {",
            $f,
            ":e}\n",
            "add {",
            $h,
            ":e}, {",
            $y,
            ":e}\n",
            $i1,
            "\n",
            "andn {",
            $y,
            ":e}, {",
            $e,
            ":e}, {",
            $g,
            ":e}\n",
            "xor {s:e}, {t:e}\n",
            "rorx {t:e}, {",
            $e,
            ":e}, 6\n",
            $i2,
            "\n",
            "add {",
            $h,
            ":e}, {",
            $y,
            ":e}\n",
            "xor {s:e}, {t:e}\n",
            "mov {",
            $y,
            ":e}, {",
            $a,
            ":e}\n",
            $i3,
            "\n",
            "rorx {t:e}, {",
            $a,
            ":e}, 22\n",
            "add {",
            $h,
            ":e}, {s:e}\n",
            "xor {",
            $y,
            ":e}, {",
            $b,
            ":e}\n",
            $i4,
            "\n",
            "rorx {s:e}, {",
            $a,
            ":e}, 13\n",
            "add {",
            $d,
            ":e}, {",
            $h,
            ":e}\n",
            "and {",
            $x,
            ":e}, {",
            $y,
            ":e}\n",
            $i5,
            "\n",
            "xor {t:e}, {s:e}\n",
            "rorx {s:e}, {",
            $a,
            ":e}, 2\n",
            "xor {",
            $x,
            ":e}, {",
            $b,
            ":e}\n",
            $i6,
            "\n",
            "xor {t:e}, {s:e}\n",
            "add {",
            $h,
            ":e}, {",
            $x,
            ":e}\n",
            "add {",
            $h,
            ":e}, {t:e}\n",
            $i7
        )
    };
}

/// Four rounds with the words at `$p + $row`. The letters stand as after that many.
macro_rules! four_rounds {
    ($p:ident + $row:literal, $x:ident: $a:ident $b:ident $c:ident $d:ident
     $e:ident $f:ident $g:ident $h:ident) => {
        // SAFETY: it reads the words of a row, which the caller has, and changes only the
        // registers that it names.
        unsafe {
            asm!(
                round!("0" "x" "y": "a" "b" "d" "e" "f" "g" "h"; "" "" "" "" "" "" "" ""),
                round!("4" "y" "x": "h" "a" "c" "d" "e" "f" "g"; "" "" "" "" "" "" "" ""),
                round!("8" "x" "y": "g" "h" "b" "c" "d" "e" "f"; "" "" "" "" "" "" "" ""),
                round!("12" "y" "x": "f" "g" "a" "b" "c" "d" "e"; "" "" "" "" "" "" "" ""),
                p = in(reg) $p, row = const $row,
                a = inout(reg) $a, b = inout(reg) $b, c = inout(reg) $c, d = inout(reg) $d,
                e = inout(reg) $e, f = inout(reg) $f, g = inout(reg) $g, h = inout(reg) $h,
                x = inout(reg) $x, y = out(reg) _, s = out(reg) _, t = out(reg) _,
                options(pure, readonly, nostack),
            );
        }
    };
}

/// The same, and the four words of both schedules that follow the sixteen in `$w0` to `$w3`: they
/// take the place of `$w0`, and with the constants at `$k + $row` that of the row four further on.
macro_rules! four_rounds_and_next {
    ($p:ident + $row:literal, $k:ident $low:ident $high:ident,
     $w0:ident $w1:ident $w2:ident $w3:ident,
     $x:ident: $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        // SAFETY: it reads the words of a row and the constants of one, and writes the words of
        // the row four further on; the caller has them all. Else it changes only the registers
        // that it names.
        unsafe {
            asm!(
                // w0 + w[t-7] + σ0(w[t-15]); a rotation is two shifts.
                round!("0" "x" "y": "a" "b" "d" "e" "f" "g" "h";
                    "vpalignr {u}, {w1}, {w0}, 4"
                    "vpalignr {v}, {w3}, {w2}, 4"
                    "vpsrld {q}, {u}, 7"
                    "vpaddd {w0}, {w0}, {v}"
                    "vpslld {r}, {u}, 25"
                    "vpsrld {v}, {u}, 18"
                    "vpxor {q}, {q}, {r}"
                    "vpslld {r}, {u}, 14"),
                round!("4" "y" "x": "h" "a" "c" "d" "e" "f" "g";
                    "vpxor {q}, {q}, {v}"
                    "vpsrld {u}, {u}, 3"
                    "vpxor {q}, {q}, {r}"
                    "vpshufd {r}, {w3}, 0xfa"
                    "vpxor {q}, {q}, {u}"
                    "vpsrld {u}, {r}, 10"
                    "vpaddd {w0}, {w0}, {q}"
                    "vpsrlq {r}, {r}, 17"),
                // σ1 of two words at a time, as it needs those before; each stands twice in 64
                // bits, so that one shift rotates it.
                round!("8" "x" "y": "g" "h" "b" "c" "d" "e" "f";
                    "vpxor {u}, {u}, {r}"
                    "vpsrlq {r}, {r}, 2"
                    "vpxor {u}, {u}, {r}"
                    "vpshufb {u}, {u}, {low}"
                    "vpaddd {w0}, {w0}, {u}"
                    "vpshufd {r}, {w0}, 0x50"
                    "vpsrld {u}, {r}, 10"
                    "vpsrlq {r}, {r}, 17"),
                round!("12" "y" "x": "f" "g" "a" "b" "c" "d" "e";
                    "vpxor {u}, {u}, {r}"
                    "vpsrlq {r}, {r}, 2"
                    "vpxor {u}, {u}, {r}"
                    "vpshufb {u}, {u}, {high}"
                    "vpaddd {w0}, {w0}, {u}"
                    "vpaddd {u}, {w0}, [{k} + {row}]"
                    ""
                    "vmovdqu [{p} + {row} + 128], {u}"),
                p = in(reg) $p, k = in(reg) $k, row = const $row,
                a = inout(reg) $a, b = inout(reg) $b, c = inout(reg) $c, d = inout(reg) $d,
                e = inout(reg) $e, f = inout(reg) $f, g = inout(reg) $g, h = inout(reg) $h,
                x = inout(reg) $x, y = out(reg) _, s = out(reg) _, t = out(reg) _,
                w0 = inout(ymm_reg) $w0,
                w1 = in(ymm_reg) $w1, w2 = in(ymm_reg) $w2, w3 = in(ymm_reg) $w3,
                low = in(ymm_reg) $low, high = in(ymm_reg) $high,
                q = out(ymm_reg) _, r = out(ymm_reg) _, u = out(ymm_reg) _, v = out(ymm_reg) _,
                options(nostack),
            );
        }
    };
}

/// §6.2.2: step 1 for both blocks, the other steps for the first.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[expect(clippy::many_single_char_names, reason = "the standard's own names")]
fn schedule_and_first(
    state: &mut [u32; 8],
    first: &[u8; BLOCK],
    second: &[u8; BLOCK],
    words: &mut Words,
) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    let mut x = b ^ c;
    // Move the σ1 of two words to the lower or the upper half.
    let low = both(0x0b0a_0908_0302_0100, -1);
    let high = both(-1, 0x0b0a_0908_0302_0100);
    let [mut w0, mut w1, mut w2, mut w3] = load(first, second);
    let (begin, _) = words.split_at_mut(4);
    for ((row, w), k) in begin.iter_mut().zip([w0, w1, w2, w3]).zip(&K) {
        *row = plus(w, k);
    }
    // The first twelve rows, four at a time, with the constants of the four after them.
    for four in 0..3 {
        // In raw pointers, as the row that is read and the one that is written are of one array:
        // the last that is written is row 4 × 2 + 3 + 4, the last of sixteen.
        let p = words.as_mut_ptr().wrapping_add(4 * four);
        let k = K.as_ptr().wrapping_add(4 * four + 4);
        four_rounds_and_next!(p + 0, k low high, w0 w1 w2 w3, x: a b c d e f g h);
        four_rounds_and_next!(p + 32, k low high, w1 w2 w3 w0, x: e f g h a b c d);
        four_rounds_and_next!(p + 64, k low high, w2 w3 w0 w1, x: a b c d e f g h);
        four_rounds_and_next!(p + 96, k low high, w3 w0 w1 w2, x: e f g h a b c d);
    }
    let p = words.as_ptr().wrapping_add(12);
    four_rounds!(p + 0, x: a b c d e f g h);
    four_rounds!(p + 32, x: e f g h a b c d);
    four_rounds!(p + 64, x: a b c d e f g h);
    four_rounds!(p + 96, x: e f g h a b c d);
    let _ = x;
    add(state, [a, b, c, d, e, f, g, h]);
}

/// §6.2.2, steps 2 to 4, for the second block.
#[target_feature(enable = "avx2,bmi1,bmi2")]
#[expect(clippy::many_single_char_names, reason = "the standard's own names")]
fn second_block(state: &mut [u32; 8], words: &Words) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    let mut x = b ^ c;
    for rows in words.as_chunks::<4>().0 {
        let p = rows.as_ptr();
        four_rounds!(p + 16, x: a b c d e f g h);
        four_rounds!(p + 48, x: e f g h a b c d);
        four_rounds!(p + 80, x: a b c d e f g h);
        four_rounds!(p + 112, x: e f g h a b c d);
    }
    let _ = x;
    add(state, [a, b, c, d, e, f, g, h]);
}

/// §6.2.2, step 4.
fn add(state: &mut [u32; 8], values: [u32; 8]) {
    for (word, value) in state.iter_mut().zip(values) {
        *word = word.wrapping_add(value);
    }
}

/// The sixteen words of each block, which are in big endian there.
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn load(first: &[u8; BLOCK], second: &[u8; BLOCK]) -> [__m256i; 4] {
    let swap = both(0x0405_0607_0001_0203, 0x0c0d_0e0f_0809_0a0b);
    // SAFETY: both types have 64 bytes, and any value of the one is one of the other.
    let [first, second] =
        [first, second].map(|block| unsafe { transmute::<[u8; BLOCK], [__m128i; 4]>(*block) });
    let mut words = [both(0, 0); 4];
    for ((row, first), second) in words.iter_mut().zip(first).zip(second) {
        *row = _mm256_shuffle_epi8(_mm256_set_m128i(second, first), swap);
    }
    words
}

/// The words with their constants added.
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn plus(words: __m256i, constants: &Row) -> Row {
    // SAFETY: both types have 32 bytes, and any value of the one is one of the other.
    unsafe {
        let constants = transmute::<Row, __m256i>(*constants);
        transmute::<__m256i, Row>(_mm256_add_epi32(words, constants))
    }
}

/// The same 128 bits in both halves.
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn both(low: i64, high: i64) -> __m256i {
    _mm256_set_epi64x(high, low, high, low)
}

/// §4.2.2, as rows for two schedules.
static K: Words = [
    twice([0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5]),
    twice([0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5]),
    twice([0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3]),
    twice([0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174]),
    twice([0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc]),
    twice([0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da]),
    twice([0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7]),
    twice([0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967]),
    twice([0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13]),
    twice([0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85]),
    twice([0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3]),
    twice([0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070]),
    twice([0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5]),
    twice([0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3]),
    twice([0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208]),
    twice([0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2]),
];

const fn twice([a, b, c, d]: [u32; 4]) -> Row {
    [a, b, c, d, a, b, c, d]
}
