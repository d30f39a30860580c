//! Which of a few words differ from what they were.

/// So many words are looked at together.
pub const STRIDE: usize = 16;

/// A bit for each word that differs.
#[cfg(target_arch = "x86_64")]
pub fn differing(new: &[u32; STRIDE], old: &[u32; STRIDE]) -> u64 {
    use core::arch::x86_64::*;
    // SAFETY: each load is of four of the sixteen words; every such processor has SSE2.
    unsafe {
        let equal = |at: usize| {
            let new = _mm_loadu_si128(new.as_ptr().add(at).cast());
            let old = _mm_loadu_si128(old.as_ptr().add(at).cast());
            _mm_cmpeq_epi32(new, old)
        };
        // Of four bytes for each word one is kept, in their order.
        let low = _mm_packs_epi32(equal(0), equal(4));
        let high = _mm_packs_epi32(equal(8), equal(12));
        let same = _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u16;
        u64::from(!same)
    }
}

/// A bit for each word that differs. No branch for a word, since they may be any.
#[cfg(any(test, not(target_arch = "x86_64")))]
pub fn differing_anywhere(new: &[u32; STRIDE], old: &[u32; STRIDE]) -> u64 {
    if new == old {
        return 0;
    }
    (0..STRIDE).fold(0, |mask, at| mask | u64::from(new[at] != old[at]) << at)
}

#[cfg(not(target_arch = "x86_64"))]
pub use differing_anywhere as differing;
