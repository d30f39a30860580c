//! The checksums of eight pages at a time, with AVX2: a lane of the vector for each page.
//! Eight words of each are loaded at once and turned around, so that a vector holds the
//! words of one step, and need not be put together word by word.

use core::arch::x86_64::*;
use core::array::from_fn;

const LANES: usize = 8;

/// How far ahead memory is asked for, in words: the processor looks no further than the
/// end of a system page by itself.
const AHEAD: usize = 64;
/// Words that come from memory together.
const LINE: usize = 16;

/// The hashes of eight pages of equal length, a multiple of eight words, before they are
/// finished.
#[target_feature(enable = "avx2")]
pub fn hash_eight(pages: [&[u32]; LANES], seed: u32) -> [u32; LANES] {
    let words = pages[0].len();
    let pages = pages.map(|page| &page[..words]);
    let mut hash = _mm256_set1_epi32(seed as i32);
    for at in (0..words).step_by(LANES) {
        if at.is_multiple_of(LINE) {
            for page in pages {
                let next = page.as_ptr().wrapping_add(at + AHEAD);
                _mm_prefetch::<_MM_HINT_T0>(next.cast());
            }
        }
        let rows = pages.map(|page| {
            let row = &page[at..at + LANES];
            // SAFETY: the row has the eight words that are read.
            unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
        });
        for column in transpose(rows) {
            hash = step(hash, column);
        }
    }
    // SAFETY: both are 32 bytes, of which every value is a valid one.
    unsafe { core::mem::transmute(hash) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn step(hash: __m256i, word: __m256i) -> __m256i {
    let word = _mm256_mullo_epi32(word, _mm256_set1_epi32(0xcc9e_2d51_u32 as i32));
    let word = _mm256_or_si256(_mm256_slli_epi32::<15>(word), _mm256_srli_epi32::<17>(word));
    let word = _mm256_mullo_epi32(word, _mm256_set1_epi32(0x1b87_3593));
    let hash = _mm256_xor_si256(hash, word);
    let hash = _mm256_or_si256(_mm256_slli_epi32::<13>(hash), _mm256_srli_epi32::<19>(hash));
    let five = _mm256_add_epi32(hash, _mm256_slli_epi32::<2>(hash));
    _mm256_add_epi32(five, _mm256_set1_epi32(0xe654_6b64_u32 as i32))
}

/// Makes rows columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; LANES]) -> [__m256i; LANES] {
    let pairs: [_; LANES] = from_fn(|at| {
        let (upper, lower) = (rows[at & !1], rows[at | 1]);
        match at & 1 {
            0 => _mm256_unpacklo_epi32(upper, lower),
            _ => _mm256_unpackhi_epi32(upper, lower),
        }
    });
    let fours: [_; LANES] = from_fn(|at| {
        let from = (at & 4) + (at & 2) / 2;
        let (upper, lower) = (pairs[from], pairs[from + 2]);
        match at & 1 {
            0 => _mm256_unpacklo_epi64(upper, lower),
            _ => _mm256_unpackhi_epi64(upper, lower),
        }
    });
    from_fn(|at| {
        let (upper, lower) = (fours[at & 3], fours[(at & 3) + 4]);
        match at & 4 {
            0 => _mm256_permute2x128_si256::<0x20>(upper, lower),
            _ => _mm256_permute2x128_si256::<0x31>(upper, lower),
        }
    })
}
