//! Putting regions into the table, and taking them out: when they are opened and closed,
//! and when their isolate has ended without closing them.

use crate::isolate::{self, Owner};
use crate::region::{CLAIMED, FREE, Region, SLOTS, Slot, USED, Visit, system_page_size, used};
use crate::state::State;
use crate::twin::Twin;
use crate::{aside, budget, fault, huge_page, mapping};
use core::sync::atomic::Ordering;

/// Forgets a region, and gives back what the library keeps for it.
fn release(slot: &Slot) {
    let Some(region) = Region::load(slot) else {
        return;
    };
    let (seen, unseen) = (Ordering::SeqCst, Ordering::SeqCst);
    let claim = slot
        .base
        .compare_exchange(region.base, CLAIMED, seen, unseen);
    if claim.is_err() {
        return;
    }
    slot.wait_for_visitors();
    aside::unmap(&region);
    let words = Twin::from_parts(
        slot.words.load(Ordering::Relaxed),
        slot.words_original.load(Ordering::Relaxed),
        State::length(region.state.capacity()),
    );
    // SAFETY: the words of this slot, which nobody looks at and nobody finds any more.
    unsafe { words.end() };
    slot.base.store(FREE, Ordering::SeqCst);
}

/// Releases the regions whose memory has gone without a word.
fn sweep() {
    for slot in used() {
        let left = slot.left.load(Ordering::Acquire);
        if left
            && Region::load(slot)
                .is_some_and(|region| !mapping::is_mapped(region.address(0).cast()))
        {
            release(slot);
        }
    }
}

/// Forgets the files of a region: others may soon have their descriptors.
fn forget_files(slot: &Slot) {
    slot.moves_to_scratch.store(false, Ordering::SeqCst);
    slot.scratch.store(-1, Ordering::SeqCst);
    slot.image.store(-1, Ordering::SeqCst);
}

/// Notes that an isolate is about to end, or has ended: the memory of its regions may go
/// at any time, and with it all that their owner would have told. With `files_go` its
/// descriptors are closed next.
pub fn leave(owner: Owner, files_go: bool) {
    for slot in used() {
        // Until the visit ends nobody attaches another here, even if it was left before.
        let Some(visit) = Visit::begin(slot).filter(|visit| visit.owner == owner) else {
            continue;
        };
        if files_go {
            forget_files(slot);
            slot.owner.store(isolate::NOBODY, Ordering::Relaxed);
        }
        slot.left.store(true, Ordering::SeqCst);
        drop(visit);
        if files_go {
            slot.wait_for_visitors();
        }
    }
    if files_go {
        sweep();
    }
}

/// Attaches the memory at `base`: from now on faults in it are ours. `words` is memory for
/// the words that are shared: for `capacity` pages, which a memory that grows keeps. All
/// pages are dirty.
/// Returns the region's slot; -EMFILE when 64 looms are open already, -EBUSY when the
/// memory is that of one of them.
///
/// # Safety
/// `words` must be as `Twin::make` wants it, and last as long as the region or its isolate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_attach(
    base: *mut u8,
    pages: u32,
    page_size: u32,
    capacity: u32,
    words: *mut u8,
) -> i32 {
    if pages > capacity
        || !page_size.is_power_of_two()
        || base.is_null()
        || !(base as usize).is_multiple_of(system_page_size())
    {
        return -libc::EINVAL;
    }
    let installed = fault::install();
    if installed != 0 {
        return installed;
    }
    sweep();
    let (start, length) = (base as usize, pages as usize * page_size as usize);
    for slot in used() {
        if Region::load(slot).is_some_and(|other| other.overlaps(start, length)) {
            // Memory that is there twice was freed and made anew meanwhile.
            if !slot.left.load(Ordering::Acquire) {
                return -libc::EBUSY;
            }
            release(slot);
        }
    }
    mapping::keep_small(base.cast(), length);
    budget::measure();
    huge_page::measure();
    // SAFETY: the caller's promise.
    let twin = match unsafe { Twin::make(words, State::length(capacity)) } {
        Ok(twin) => twin,
        Err(error) => return error,
    };
    // SAFETY: there are as many, all zero.
    unsafe { State::new(twin.address.cast_const().cast(), capacity) }.set_up(pages);
    for (index, slot) in SLOTS.iter().enumerate() {
        let claim = slot
            .base
            .compare_exchange(FREE, CLAIMED, Ordering::AcqRel, Ordering::Relaxed);
        if claim.is_err() {
            continue;
        }
        slot.pages.store(pages, Ordering::Relaxed);
        slot.capacity.store(capacity, Ordering::Relaxed);
        slot.page_shift
            .store(page_size.trailing_zeros(), Ordering::Relaxed);
        slot.image.store(-1, Ordering::Relaxed);
        slot.opens_clean.store(false, Ordering::Relaxed);
        slot.scratch.store(-1, Ordering::Relaxed);
        slot.moves_to_scratch.store(false, Ordering::Relaxed);
        slot.aside.store(0, Ordering::Relaxed);
        slot.words.store(twin.address, Ordering::Relaxed);
        slot.words_original.store(words, Ordering::Relaxed);
        slot.owner.store(isolate::current(), Ordering::Relaxed);
        slot.left.store(false, Ordering::Relaxed);
        slot.base.store(start, Ordering::SeqCst);
        USED.fetch_max(index + 1, Ordering::AcqRel);
        return index as i32;
    }
    // SAFETY: made above, and known to nobody.
    unsafe { twin.end() };
    -libc::EMFILE
}

/// Forgets a region: faults in it are no longer ours, and its shared words are gone.
#[unsafe(no_mangle)]
pub extern "C" fn loom_detach(slot: u32) -> i32 {
    match SLOTS.get(slot as usize) {
        Some(slot) if Region::load(slot).is_some() => {
            release(slot);
            0
        }
        _ => -libc::EINVAL,
    }
}

/// Forgets the files of a region that stays although its loom is closed. Returns when no
/// fault handler uses them any more.
#[unsafe(no_mangle)]
pub extern "C" fn loom_forget_files(slot: u32) -> i32 {
    match SLOTS.get(slot as usize) {
        Some(slot) => {
            forget_files(slot);
            slot.wait_for_visitors();
            0
        }
        None => -libc::EINVAL,
    }
}

/// Says how many pages a region has from now on: its memory has grown in place.
#[unsafe(no_mangle)]
pub extern "C" fn loom_resize(slot: u32, pages: u32) -> i32 {
    match SLOTS.get(slot as usize) {
        Some(slot) if pages <= slot.capacity.load(Ordering::Relaxed) => {
            let old = slot.pages.swap(pages, Ordering::AcqRel);
            if let Some(region) = Region::load(slot).filter(|_| pages > old) {
                mapping::keep_small(region.address(old), region.offset(pages - old));
            }
            0
        }
        _ => -libc::EINVAL,
    }
}

/// Whether the region in `slot` still lies at `base`: 1 or 0. A memory that was
/// grown by being moved does not.
#[unsafe(no_mangle)]
pub extern "C" fn loom_is_at(slot: u32, base: *const u8) -> i32 {
    Region::at(slot).is_some_and(|region| region.base == base as usize) as i32
}

/// Notes which file a region's clean pages are mapped from, and whether they can be
/// written there.
pub fn set_image(slot: u32, descriptor: i32, writable: bool) {
    if let Some(slot) = SLOTS.get(slot as usize) {
        slot.opens_clean.store(writable, Ordering::Relaxed);
        slot.image.store(descriptor, Ordering::Release);
    }
}

/// Notes where a region's pages are kept.
pub fn set_aside(slot: u32, base: usize) {
    if let Some(slot) = SLOTS.get(slot as usize) {
        slot.aside.store(base, Ordering::Release);
    }
}

/// Gives a region its scratch file. `moves` is 1 where a first write moves its
/// page there, 0 where all pages lie there already.
#[unsafe(no_mangle)]
pub extern "C" fn loom_set_scratch(slot: u32, descriptor: i32, moves: u32) -> i32 {
    match SLOTS.get(slot as usize) {
        Some(slot) => {
            slot.moves_to_scratch.store(moves != 0, Ordering::Relaxed);
            slot.scratch.store(descriptor, Ordering::Release);
            0
        }
        None => -libc::EINVAL,
    }
}
