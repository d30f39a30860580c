//! MurmurHash3_x86_32 (Austin Appleby, public domain) of whole pages, eight at a
//! time: eight independent chains fill the vector unit. src/checksum.ts has the same
//! in TypeScript, for everything that isn't a batch of pages.

#[cfg(target_arch = "x86_64")]
use crate::checksum_avx2::hash_eight as hash_eight_avx2;

const SEED: u32 = 0xcafe_babe;
const LANES: usize = 8;
#[inline(always)]
fn step(hash: u32, word: u32) -> u32 {
    let word = word
        .wrapping_mul(0xcc9e_2d51)
        .rotate_left(15)
        .wrapping_mul(0x1b87_3593);
    (hash ^ word)
        .rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64)
}

#[inline(always)]
fn finish(hash: u32, length: u32) -> u32 {
    let hash = hash ^ length;
    let hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn hash_eight(pages: [&[u32]; LANES]) -> [u32; LANES] {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { hash_eight_avx2(pages, SEED) };
    }
    hash_together(pages)
}

/// Several pages at a time: their steps don't wait for each other.
fn hash_together<const PAGES: usize>(pages: [&[u32]; PAGES]) -> [u32; PAGES] {
    let words = pages[0].len();
    let pages = pages.map(|page| &page[..words]);
    let mut hashes = [SEED; PAGES];
    for at in 0..words {
        for (hash, page) in hashes.iter_mut().zip(pages) {
            *hash = step(*hash, page[at].to_le());
        }
    }
    hashes
}

/// Writes the checksums of pages, wherever each of them lies.
pub fn checksum_pages<'a>(page: impl Fn(usize) -> &'a [u32], sums: &mut [u32]) {
    let last = sums.len().saturating_sub(1);
    for (batch, sums) in sums.chunks_mut(LANES).enumerate() {
        let first = batch * LANES;
        let length = page(first).len() as u32 * 4;
        // Lanes that are left over hash the last page again.
        let lane = |lane: usize| page(last.min(first + lane));
        match sums.len() {
            1 => sums.copy_from_slice(&hash_together([lane(0)])),
            2 => sums.copy_from_slice(&hash_together([lane(0), lane(1)])),
            count => sums.copy_from_slice(&hash_eight(core::array::from_fn(lane))[..count]),
        }
        for sum in sums {
            *sum = finish(*sum, length);
        }
    }
}

/// Whether processor and system support AVX2.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use core::sync::atomic::{AtomicU32, Ordering};
    const OSXSAVE_AND_AVX: u32 = 1 << 27 | 1 << 28;
    const AVX2: u32 = 1 << 5;
    const VECTOR_STATE: u64 = 0b110;
    static KNOWN: AtomicU32 = AtomicU32::new(0);

    #[target_feature(enable = "xsave")]
    fn saves_vectors() -> bool {
        // SAFETY: called only where OSXSAVE says that the instruction is there.
        unsafe { _xgetbv(0) & VECTOR_STATE == VECTOR_STATE }
    }

    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let found = __cpuid(0).eax >= 7
                && __cpuid(1).ecx & OSXSAVE_AND_AVX == OSXSAVE_AND_AVX
                && __cpuid_count(7, 0).ebx & AVX2 != 0
                // SAFETY: OSXSAVE, just seen, implies the feature that this needs.
                && unsafe { saves_vectors() };
            KNOWN.store(1 + u32::from(found), Ordering::Relaxed);
            found
        }
        known => known == 2,
    }
}

/// Writes the checksums of `count` consecutive pages of `page_words` words each.
///
/// # Safety
/// `words` holds that many pages and `sums` has room for as many words; both are
/// aligned and not written meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_checksum_pages(
    words: *const u32,
    page_words: u32,
    count: u32,
    sums: *mut u32,
) {
    let (page_words, count) = (page_words as usize, count as usize);
    // SAFETY: the caller's promise.
    let (words, sums) = unsafe {
        (
            core::slice::from_raw_parts(words, page_words * count),
            core::slice::from_raw_parts_mut(sums, count),
        )
    };
    checksum_pages(
        |page| &words[page * page_words..(page + 1) * page_words],
        sums,
    );
}
