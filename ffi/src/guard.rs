//! The guard page: one inaccessible page in the free space between the low and
//! the high watermark. When it is hit, heap or stack has outgrown what the
//! program last said; it moves to the middle of what is left, and when nothing
//! is left the memory is exhausted, which is recorded for TypeScript to report.
//!
//! Seed: _ce_ward_post, _ce_ward_clip, u3e_ward.

use crate::mapping;
use crate::region::Region;
use crate::state::{FLAG_EXHAUSTED, NO_PAGE, Word};
use core::sync::atomic::Ordering;

/// Handles a fault in the guard page.
pub fn hit(region: &Region, page: u32) -> bool {
    let state = &region.state;
    let (low, high) = free_space(region, page);
    let target = if high <= low + 1 {
        NO_PAGE
    } else {
        low + (high - low) / 2
    };
    let guard = state.word(Word::GuardPage);
    if guard
        .compare_exchange(page, target, Ordering::AcqRel, Ordering::Acquire)
        .is_err()
    {
        // Another thread moved it: the page is, or is about to be, ordinary.
        return mapping::make_writable(region, page, page + 1);
    }
    state.add(Word::GuardHits, 1);
    if target == NO_PAGE {
        state
            .word(Word::Flags)
            .fetch_or(FLAG_EXHAUSTED, Ordering::AcqRel);
    } else {
        // The guard is never a clean page: what it covers counts as written.
        state.mark_dirty(target);
        if !mapping::protect(region, target, target + 1, libc::PROT_NONE) {
            state.store(Word::GuardPage, NO_PAGE);
        }
    }
    state.mark_dirty(page);
    mapping::make_writable(region, page, page + 1)
}

/// The pages between which the free space now lies. The watermarks may be older
/// than the fault: the side on which the guard's neighbour is in use has grown
/// up to the guard, or, where that doesn't tell, the side that leaves more room.
fn free_space(region: &Region, guard: u32) -> (u32, u32) {
    let low = region.state.load(Word::LowPage);
    let high = region.state.load(Word::HighPage);
    if low >= guard || high <= guard {
        return (low, high);
    }
    let below = mapping::is_resident(region, guard - 1);
    let above = guard + 1 < region.pages && mapping::is_resident(region, guard + 1);
    let heap_grew = match (below, above) {
        (true, false) => true,
        (false, true) => false,
        _ => high - guard >= guard - low,
    };
    if heap_grew {
        (guard, high)
    } else {
        (low, guard)
    }
}
