//! How many pages a fault opens: a matter of speed, and of mappings. The kernel allows
//! a process vm.max_map_count mappings (65,530 by default), and every isolated page
//! that is opened splits one into three. Faults therefore open larger and larger
//! aligned runs as the budget is used up, long before mprotect would fail and before
//! the rest of the process could be refused a mapping.

use crate::huge_page;
use crate::region::Region;
use crate::state::{State, Word};
use core::sync::atomic::{AtomicU32, Ordering};

static AVAILABLE: AtomicU32 = AtomicU32::new(u32::MAX);

/// Measures how many mappings the process may still make. Called when a region
/// is attached, never by the handler.
pub fn measure() {
    let in_use: u32 = Region::all()
        .map(|region| region.state.load(Word::Mappings))
        .sum();
    if let Some(limit) = crate::inspect::map_limit() {
        let others = crate::inspect::count_mappings().saturating_sub(in_use);
        AVAILABLE.store(limit.saturating_sub(others), Ordering::Relaxed);
    }
}

/// So many faults between two saves open one page each, whatever happens.
const PRECISE_FAULTS: u32 = 64;
/// Dirty pages in an aligned run that make it likely that all will be written.
const DENSE: u32 = 2;
/// The same where a save needs some of them as they are, which are all copied aside then.
const DENSE_IF_HELD: u32 = 8;

/// The run of `length` pages, a power of two, that a page of the image lies in, as far as
/// that goes. Runs are aligned in memory, as huge pages are.
pub fn run_around(region: &Region, page: u32, length: u32) -> (u32, u32) {
    let image_pages = region.state.load(Word::ImagePages);
    if length >= image_pages {
        return (0, image_pages);
    }
    let start = (region.base >> region.page_shift) as u32;
    let before = start.wrapping_add(page) % length;
    let end = page + (length - before);
    (page.saturating_sub(before), end.min(image_pages))
}

/// Whether all of the run of `most` pages around one is likely to be written.
fn is_dense(region: &Region, page: u32, most: u32) -> bool {
    let state = &region.state;
    if most <= 1 {
        return false;
    }
    let (first, end) = run_around(region, page, most);
    // What has memory of its own was all written before the last save.
    let is_likely = state.has_own(first, end);
    if !is_likely && state.load(Word::RecentFaults) <= PRECISE_FAULTS {
        return false;
    }
    let enough = if state.has_held(first, end) {
        DENSE_IF_HELD
    } else {
        DENSE
    };
    // The guard page counts as dirty, and was not written.
    let guarded = (first..end).contains(&state.load(Word::GuardPage));
    state.count_dirty(first, end) >= enough + u32::from(guarded)
}

/// How many pages, in such a run, are likely to be written from this one on: as many as
/// can be written already just before it, or just after it, and no more than a huge page
/// takes the place of. 1 where it is in no such place.
fn sequence_length(region: &Region, page: u32, most: u32) -> u32 {
    let state = &region.state;
    if most <= 1 || state.load(Word::RecentFaults) <= PRECISE_FAULTS {
        return 1;
    }
    let image_pages = state.load(Word::ImagePages);
    let mut length = huge_page::length(region);
    while length >= most {
        let (first, end) = run_around(region, page, length);
        let is_upwards =
            page == first && first >= length && state.are_writable(first - length, first);
        let is_downwards =
            page + 1 == end && end + length <= image_pages && state.are_writable(end, end + length);
        if (is_upwards || is_downwards) && !state.has_held(first, end) {
            return length;
        }
        length /= 2;
    }
    1
}

/// How many pages the fault in `page`, which is marked dirty already, opens: 1 while
/// faults are few and mappings many.
///
/// A signal costs far more than the write that raised it. As in the Internet
/// Computer's memory tracker, pages are opened ahead where writes are dense, if it
/// can be told later which of them were written (TypeScript sets `MostAhead` then).
pub fn run_length(region: &Region, page: u32) -> u32 {
    let state = &region.state;
    let most = state.load(Word::MostAhead);
    let ahead = if is_dense(region, page, most) {
        most
    } else {
        sequence_length(region, page, most)
    };
    let available = u64::from(AVAILABLE.load(Ordering::Relaxed));
    let in_use: u64 = Region::all()
        .map(|region| u64::from(region.state.load(Word::Mappings)))
        .sum();
    match in_use * 16 {
        used if used < available * 8 => ahead,
        used if used < available * 10 => ahead.max(32),
        used if used < available * 12 => 1024,
        _ => u32::MAX,
    }
}

/// Counts what opening the run `first..end` does to the number of mappings, as an
/// upper bound: a run joins at most one neighbour, since pages that were written
/// apart don't merge into one mapping when the gap between them is closed.
pub fn account(state: &State, first: u32, end: u32) {
    let image_pages = state.load(Word::ImagePages);
    let left = first > 0 && state.is_writable(first - 1);
    let right = end < image_pages && state.is_writable(end);
    let mappings = state.word(Word::Mappings);
    match (left, right) {
        (false, false) => {
            mappings.fetch_add(2, Ordering::Relaxed);
        }
        (true, true) => {
            let _ = mappings.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                Some(count.saturating_sub(1))
            });
        }
        _ => {}
    }
}
