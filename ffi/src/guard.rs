//! The guard page: one inaccessible page in the free space between the low and
//! the high watermark. When it is hit, heap or stack has outgrown what the
//! program last said; it moves to the middle of what is left, and when nothing
//! is left the memory is exhausted, which is recorded for TypeScript to report.
//!
//! Seed: _ce_ward_post, _ce_ward_clip, u3e_ward.

use crate::region::Region;
use crate::state::{FLAG_EXHAUSTED, NO_PAGE, Word};
use crate::{huge_page, mapping, pagemap};
use core::sync::atomic::Ordering;

/// Handles a fault in the guard page.
pub fn hit(region: &Region, page: u32) -> bool {
    let state = &region.state;
    let target = next_place(region, page);
    // Whoever reads held pages must not find a guard there: none is posted for now.
    let held = target != NO_PAGE && state.is_held(target);
    let next = if held { NO_PAGE } else { target };
    let guard = state.word(Word::GuardPage);
    if guard
        .compare_exchange(page, next, Ordering::AcqRel, Ordering::Acquire)
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
    } else if !held {
        // The guard is never a clean page: what it covers counts as written.
        state.mark_dirty(target);
        let is_moving = huge_page::is_moving(region, target, target + 1);
        if is_moving || !mapping::protect(region, target, target + 1, libc::PROT_NONE) {
            state.store(Word::GuardPage, NO_PAGE);
        }
    }
    state.mark_dirty(page);
    mapping::make_writable(region, page, page + 1)
}

/// Where the guard goes from here: the middle of what is left of the free space,
/// or nowhere. The watermarks may be older than the fault: the side on which the
/// guard's neighbour is in use has grown up to the guard. Where that doesn't tell,
/// it is the side that leaves more room, unless its middle is in use already.
fn next_place(region: &Region, guard: u32) -> u32 {
    let low = region.state.load(Word::LowPage);
    let high = region.state.load(Word::HighPage);
    let middle = |low: u32, high: u32| {
        if high <= low + 1 {
            NO_PAGE
        } else {
            low + (high - low) / 2
        }
    };
    if low >= guard || high <= guard {
        return middle(low, high);
    }
    let (above, below) = (middle(guard, high), middle(low, guard));
    let heap_grew = is_in_use(region, guard - 1);
    let stack_grew = guard + 1 < region.pages && is_in_use(region, guard + 1);
    if heap_grew != stack_grew {
        return if heap_grew { above } else { below };
    }
    let larger_first = if high - guard >= guard - low {
        [above, below]
    } else {
        [below, above]
    };
    let is_free = |page: &u32| *page != NO_PAGE && !is_in_use(region, *page);
    larger_first.into_iter().find(is_free).unwrap_or(NO_PAGE)
}

/// Whether a page of the free space was written. One that still belongs to the
/// image may be in memory though nobody wrote it.
fn is_in_use(region: &Region, page: u32) -> bool {
    if page < region.state.load(Word::ImagePages) {
        return region.state.is_writable(page);
    }
    pagemap::is_touched(region, page).unwrap_or_else(|| mapping::is_resident(region, page))
}
