//! Dense pages put into a huge one. Where all of its range is about to be written, one copy
//! takes the place of those that the kernel makes of each system page at its first write; and
//! a save protects it, or gives it back, as one entry of a page table and not as 512.

use crate::region::Region;
use crate::state::{NO_PAGE, Word};
use crate::{inspect, isolate, pagemap};
use core::sync::atomic::{AtomicBool, Ordering};

const HUGE_BYTES: usize = 2 << 20;

/// What `Word::Gathering` may say: what takes no more memory, and no more copying, than its
/// writes would;
const GATHERS_FILLED: u32 = 1;
/// or whatever is written. Anything else: nothing.
const GATHERS_ALL: u32 = 2;

static ALLOWED: AtomicBool = AtomicBool::new(false);

/// Asks whether the system has huge pages. Called when a region is attached, never by the
/// handler.
pub fn measure() {
    let setting = c"/sys/kernel/mm/transparent_hugepage/enabled";
    let mut allowed = false;
    inspect::for_each_line(setting.as_ptr(), |line| {
        allowed = !line.windows(7).any(|word| word == b"[never]");
    });
    // Tests are about what is moved where; small pages serve as well.
    ALLOWED.store(allowed || cfg!(test), Ordering::Relaxed);
}

/// Puts the content of `first..end`, where these are the range of a huge page, into one, if
/// all of them are likely to be written: they are clean but for `page`, which is written at
/// `offset`, and those just before them, or just after, were written. For the fault handler:
/// system calls only. What it can't do stays as it is.
pub fn gather(region: &Region, page: u32, offset: usize, first: u32, end: u32) {
    let state = &region.state;
    let is_range = end - first == length(region)
        && (region.base + region.offset(first)).is_multiple_of(HUGE_BYTES)
        && !state.is_gathered(first);
    // The functions that TypeScript calls change pages too, on that thread.
    let may = is_range && ALLOWED.load(Ordering::Relaxed) && isolate::is_current(region.owner);
    if !may || !pays(region, offset, first, end) {
        return;
    }
    let moving = state.word(Word::Moving);
    let (begin, failed) = (Ordering::SeqCst, Ordering::Relaxed);
    if moving
        .compare_exchange(NO_PAGE, first, begin, failed)
        .is_err()
    {
        return;
    }
    // Whoever marks a page dirty, or this one opened, from now on sees that, and waits.
    let is_quiet =
        state.are_closed(first, page) && state.are_closed(page + 1, end) && !state.is_opened(page);
    if is_quiet {
        // It is to be mapped anew when it is made clean, whether this succeeds or not.
        state.set_mapped(first, end, false);
        if replace(region, first) {
            state.set_gathered(first, end, true);
            state.add(Word::Mappings, 2);
        }
    }
    moving.store(NO_PAGE, Ordering::SeqCst);
}

/// Whether one of the pages `first..end`, which were just marked, is being put into a huge one
/// by another thread: they must not be opened then.
pub fn is_moving(region: &Region, first: u32, end: u32) -> bool {
    let moving = region.state.word(Word::Moving).load(Ordering::SeqCst);
    moving != NO_PAGE && moving < end && first < moving + length(region)
}

/// How many pages one takes the place of.
pub fn length(region: &Region) -> u32 {
    (HUGE_BYTES >> region.page_shift) as u32
}

/// Whether the writes on one side of a range are such as make it worth the while.
fn pays(region: &Region, offset: usize, first: u32, end: u32) -> bool {
    let (state, length) = (&region.state, length(region));
    let level = state.load(Word::Gathering);
    if level == GATHERS_FILLED && state.has_own(first, end) {
        return false;
    }
    let were_written = |first, end| match (level, state.has_gathered(first, end)) {
        (GATHERS_FILLED, false) => pagemap::are_filled(region, first, end),
        (GATHERS_ALL, false) => pagemap::are_copied(region, first, end),
        (GATHERS_FILLED, true) => has_changed(region, first, SPREAD, 0),
        (GATHERS_ALL, true) => has_changed(region, first, 0, offset & !7),
        _ => false,
    };
    // The guard page counts as written, and can't be looked at.
    let guard = state.load(Word::GuardPage);
    let has = |first, end| {
        state.are_writable(first, end) && !(first..end).contains(&guard) && were_written(first, end)
    };
    first >= length && has(first - length, first)
        || end + length <= state.load(Word::ImagePages) && has(end, end + length)
}

/// So many words of a range are compared, one in each of its pages of the largest size.
const SAMPLES: usize = 32;
/// Each lies so much further on in its page than the one before it.
const SPREAD: usize = 2056;

/// Whether a range is no more what the image has: of one in a huge page the page map doesn't
/// tell what of it was written.
fn has_changed(region: &Region, first: u32, spread: usize, offset: usize) -> bool {
    let changed = (0..SAMPLES).filter(|sample| {
        let at = region.offset(first) + sample * (HUGE_BYTES / SAMPLES + spread) + offset;
        let (mut was, length) = (0u64, size_of::<u64>());
        // SAFETY: the kernel writes to a local of this length, or fails. The word lies in the
        // region, aligned, and can be read: its page is open, and the file has it too.
        unsafe {
            let into = (&raw mut was).cast();
            let read = libc::pread(region.image, into, length, at as libc::off_t);
            read == length as isize && ((region.base + at) as *const u64).read_volatile() != was
        }
    });
    changed.count() > SAMPLES * 3 / 4
}

/// Moves a copy in huge memory over a range, complete.
#[cfg(target_os = "linux")]
fn replace(region: &Region, first: u32) -> bool {
    use libc::{MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE};
    let range = region.address(first);
    let (access, flags) = (
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
    );
    // SAFETY: the copy is a mapping of its own until it is moved over pages of the region
    // that nobody else writes, and to which no Rust reference points. What can't be read of
    // them is found out by the kernel first.
    unsafe {
        let copy = libc::mmap(core::ptr::null_mut(), HUGE_BYTES, access, flags, -1, 0);
        if copy == libc::MAP_FAILED {
            return false;
        }
        let done = (copy as usize).is_multiple_of(HUGE_BYTES)
            && libc::madvise(copy, HUGE_BYTES, libc::MADV_HUGEPAGE) == 0
            && libc::madvise(range, HUGE_BYTES, libc::MADV_POPULATE_READ) == 0
            && {
                core::ptr::copy_nonoverlapping(range.cast::<u8>(), copy.cast(), HUGE_BYTES);
                let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                libc::mremap(copy, HUGE_BYTES, HUGE_BYTES, how, range) != libc::MAP_FAILED
            };
        if !done {
            libc::munmap(copy, HUGE_BYTES);
        }
        done
    }
}

#[cfg(not(target_os = "linux"))]
fn replace(_: &Region, _: u32) -> bool {
    false
}
