//! Pages held as they are while a save writes them: the first write to one copies it
//! aside before it opens it, into a space as large as the region, of which only what
//! is used takes memory. So there is no pool that could run out, and nobody waits for
//! anything but a copy that another thread is making.

use crate::attach;
use crate::checksum::{checksum_pages, loom_checksum_pages};
use crate::copy::copy;
use crate::errno;
use crate::mapping;
use crate::region::Region;
use crate::state::Word;
use core::hint;
use core::ptr;
use core::sync::atomic::{Ordering, fence};
use libc::{MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE};

/// Copies the pages `first..end` aside that are held and weren't yet. False while another
/// thread is about one of them: they must not be opened then. For the fault handler, too.
pub fn keep(region: &Region, first: u32, end: u32) -> bool {
    let state = &region.state;
    let is_wanted = |&page: &u32| state.is_held(page) && !state.is_kept(page);
    if let Some(first) = (first..end).find(is_wanted) {
        populate(
            region,
            first,
            (first..end).rfind(is_wanted).map_or(end, |last| last + 1),
        );
    }
    (first..end).all(|page| keep_one(region, page))
}

/// In so many pages at most there is memory for those that aren't kept, too.
const POPULATED: u32 = 256;

/// Has the kernel put memory where pages are kept in one call, where each system page of it
/// would else take a fault. It need not succeed.
fn populate(region: &Region, first: u32, end: u32) {
    let end = end.min(first + POPULATED);
    #[cfg(target_os = "linux")]
    // SAFETY: advice about memory of this region's own that keeps its content.
    unsafe {
        let length = region.offset(end - first);
        libc::madvise(
            place(region, first).cast(),
            length,
            libc::MADV_POPULATE_WRITE,
        );
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (region, first, end);
}

fn keep_one(region: &Region, page: u32) -> bool {
    let state = &region.state;
    if !state.is_held(page) {
        return true;
    }
    let keeping = state.word(Word::Keeping);
    keeping.fetch_add(1, Ordering::SeqCst);
    let safe = !state.is_held(page)
        || state.is_kept(page)
        || !state.claim(page) && {
            // SAFETY: a held page is readable, and can't be written before it is kept;
            // its place aside is as large, and only the thread with the claim writes it.
            unsafe {
                let (into, from) = (place(region, page), region.address(page).cast::<u8>());
                ptr::copy_nonoverlapping(from, into, region.page_size());
            };
            state.mark_kept(page);
            true
        };
    keeping.fetch_sub(1, Ordering::SeqCst);
    safe
}

/// Where a page is kept.
fn place(region: &Region, page: u32) -> *mut u8 {
    (region.aside + region.offset(page)) as *mut u8
}

/// Copies a page of the region as a save wants it; false where the region's memory has
/// gone, with its isolate.
///
/// # Safety
/// `into` has room for a page.
unsafe fn read(region: &Region, page: u32, into: *mut u8) -> bool {
    // SAFETY: the page lies in the region, and is readable or gone. The program may write
    // it during the copy: then it was kept first, and that is copied instead.
    unsafe {
        if !copy(into, region.address(page).cast(), region.page_size()) {
            return false;
        }
        fence(Ordering::SeqCst);
        if region.state.is_kept(page) {
            // What was kept stays as it is until the pages are let go.
            ptr::copy_nonoverlapping(place(region, page), into, region.page_size());
        }
    }
    true
}

/// How many pages are copied before they are hashed: few enough to be in the cache.
const BATCH: u32 = 16;

/// Copies `count` held pages as they were when they were held, or pages that aren't
/// held as they are, one after the other, and writes their checksums unless `sums` is
/// null. May run beside the program: it takes what was kept where the page has been
/// opened meanwhile. With `into` null nothing is copied, and the pages must not be
/// written meanwhile.
///
/// # Safety
/// `pages` has `count` pages of the region, `into` has room for them, `sums` for
/// their checksums; both are aligned. Where one is null the other isn't.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_gather(
    slot: u32,
    pages: *const u32,
    count: u32,
    into: *mut u8,
    sums: *mut u32,
) -> i32 {
    let Some(region) = Region::at(slot) else {
        return -libc::EINVAL;
    };
    let page_size = region.page_size();
    // SAFETY: the caller's promise about `pages`.
    let pages = unsafe { core::slice::from_raw_parts(pages, count as usize) };
    if !pages.iter().all(|&page| region.contains(page, 1)) {
        return -libc::EINVAL;
    }
    if into.is_null() {
        // SAFETY: the caller's promise about `sums`.
        let sums = unsafe { core::slice::from_raw_parts_mut(sums, count as usize) };
        let page = |index: usize| {
            // SAFETY: the page lies in the region, is readable, and nobody writes it now.
            unsafe {
                let words = region.address(pages[index]).cast::<u32>();
                core::slice::from_raw_parts(words, page_size / 4)
            }
        };
        checksum_pages(page, sums);
        return 0;
    }
    let mut done = 0;
    while done < count {
        let batch = (count - done).min(BATCH);
        for index in (done..done + batch).map(|index| index as usize) {
            // SAFETY: there is room for each of the pages, which nobody else knows of yet.
            let is_there = unsafe { read(&region, pages[index], into.add(index * page_size)) };
            if !is_there {
                return -libc::EFAULT;
            }
        }
        if !sums.is_null() {
            // SAFETY: these pages were just written; the caller's promise about `sums`.
            unsafe {
                let (first, sums) = (into.add(done as usize * page_size), sums.add(done as usize));
                loom_checksum_pages(first.cast(), page_size as u32 / 4, batch, sums);
            }
        }
        done += batch;
    }
    0
}

/// Sees to it that there is space to keep pages in. Called before any page is held.
#[unsafe(no_mangle)]
pub extern "C" fn loom_reserve_aside(slot: u32) -> i32 {
    let Some(region) = Region::at(slot) else {
        return -libc::EINVAL;
    };
    if region.aside != 0 {
        return 0;
    }
    let (length, access) = (
        region.offset(region.state.capacity()),
        PROT_READ | PROT_WRITE,
    );
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: a new mapping, wherever there is room.
    let base = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return -errno::last();
    }
    // A page kept here and there must not take a huge page each.
    mapping::keep_small(base, length);
    attach::set_aside(slot, base as usize);
    0
}

/// Gives the space back, when a region is detached.
pub fn unmap(region: &Region) {
    if region.aside != 0 {
        // SAFETY: mapped by `loom_reserve_aside` in this length, and used no more.
        unsafe {
            libc::munmap(
                region.aside as *mut _,
                region.offset(region.state.capacity()),
            )
        };
    }
}

/// So many pages are kept at a time: their places are still in the cache when they are copied.
const KEPT_TOGETHER: usize = 16;

/// Copies those of `count` pages aside that are held, because they are about to
/// change in some other way than by a fault.
#[unsafe(no_mangle)]
pub extern "C" fn loom_keep(slot: u32, first: u32, count: u32) -> i32 {
    let Some(region) = Region::at(slot).filter(|region| region.contains(first, count)) else {
        return -libc::EINVAL;
    };
    let end = first + count;
    for page in (first..end).step_by(KEPT_TOGETHER) {
        while !keep(&region, page, end.min(page + KEPT_TOGETHER as u32)) {
            hint::spin_loop();
        }
    }
    0
}

/// Whether a page that was kept is still, or again, what it was: 1 or 0.
#[unsafe(no_mangle)]
pub extern "C" fn loom_is_as_kept(slot: u32, page: u32) -> i32 {
    let Some(region) = Region::at(slot).filter(|region| region.contains(page, 1)) else {
        return -libc::EINVAL;
    };
    let kept = region.state.is_kept(page);
    // SAFETY: both are a page long and readable.
    (kept
        && unsafe {
            libc::memcmp(
                region.address(page),
                place(&region, page).cast(),
                region.page_size(),
            ) == 0
        }) as i32
}

/// Says of pages, a byte for each, whether they are what a copy has of them, one after the
/// other: 1 or 0.
///
/// # Safety
/// `pages` and `same` have `count` entries, `copies` as many pages; nobody writes the pages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_same(
    slot: u32,
    pages: *const u32,
    count: u32,
    copies: *const u8,
    same: *mut u8,
) -> i32 {
    let Some(region) = Region::at(slot) else {
        return -libc::EINVAL;
    };
    let (length, count) = (region.page_size(), count as usize);
    // SAFETY: the caller's promise.
    let (pages, same) = unsafe {
        (
            core::slice::from_raw_parts(pages, count),
            core::slice::from_raw_parts_mut(same, count),
        )
    };
    if !pages.iter().all(|&page| region.contains(page, 1)) {
        return -libc::EINVAL;
    }
    for (index, (&page, same)) in pages.iter().zip(same).enumerate() {
        // SAFETY: a page of the region, which is readable, and the caller's promise.
        let difference = unsafe {
            let copy = copies.add(index * length);
            libc::memcmp(region.address(page), copy.cast(), length)
        };
        *same = u8::from(difference == 0);
    }
    0
}

/// Holds no page any more, and forgets what was kept.
#[unsafe(no_mangle)]
pub extern "C" fn loom_let_go(slot: u32) -> i32 {
    let Some(region) = Region::at(slot).filter(|region| region.aside != 0) else {
        return 0;
    };
    region.state.hold_none();
    // Whoever saw a page held just before has finished with it after this.
    while region.state.word(Word::Keeping).load(Ordering::SeqCst) != 0 {
        hint::spin_loop();
    }
    region.state.forget_kept();
    // SAFETY: the space is this region's own, and nothing in it is wanted any more.
    errno::check(unsafe {
        libc::madvise(
            region.aside as *mut _,
            region.offset(region.state.capacity()),
            libc::MADV_DONTNEED,
        )
    })
}
