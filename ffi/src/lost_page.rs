//! A system page that its file can't map. One thread at a time puts memory in its place, and
//! looks first whether another has: what that one has written there since would be lost.
//! All of it runs in the fault handler.

use crate::region::{Region, system_page_size};
use crate::state::{FLAG_IMAGE_LOST, FLAG_SCRATCH_LOST, Word};
#[cfg(target_os = "linux")]
use crate::{errno, inspect};
use core::sync::atomic::{AtomicBool, Ordering};
use libc::{MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE, c_int, c_void, off_t};

/// Whether some thread is putting memory in a page's place.
static IS_CLAIMED: AtomicBool = AtomicBool::new(false);

/// Sees to the system page at `address`; false when it can't be done. A page that can be
/// read all the same found no room on disk (a shared file wants some for each hole that is
/// written, tmpfs even for one that is read), and ordinary memory serves. Anything else is
/// a loss, recorded and survived: it becomes zeros, and the loom refuses to save.
pub fn replace(region: &Region, page: u32, address: usize) -> bool {
    if IS_CLAIMED.swap(true, Ordering::Acquire) {
        // Its access is tried again, and comes here again if it must.
        // SAFETY: takes nothing; who is waited for may need this processor.
        unsafe { libc::sched_yield() };
        return true;
    }
    let length = system_page_size();
    let start = address & !(length - 1);
    let done = is_usable(start, length) || put_memory(region, page, start, length);
    IS_CLAIMED.store(false, Ordering::Release);
    done
}

/// Whether a system page has been seen to since the fault, or its disk has room again.
#[cfg(target_os = "linux")]
fn is_usable(start: usize, length: usize) -> bool {
    let address = start as *mut c_void;
    // SAFETY: the kernel has the page read, then written, as an access would, and leaves
    // its content alone.
    unsafe {
        if libc::madvise(address, length, libc::MADV_POPULATE_READ) == 0 {
            // Any other refusal is no matter of the file: an access would say so itself.
            return libc::madvise(address, length, libc::MADV_POPULATE_WRITE) == 0
                || errno::last() != libc::EFAULT;
        }
    }
    // Linux before 5.14 doesn't know these advices.
    errno::last() == libc::EINVAL && is_anonymous(start, length)
}

#[cfg(not(target_os = "linux"))]
fn is_usable(_: usize, _: usize) -> bool {
    false
}

/// Whether a system page is ordinary memory with content, as the page map has it.
#[cfg(target_os = "linux")]
pub fn is_anonymous(start: usize, length: usize) -> bool {
    const PRESENT_OR_SWAPPED: u64 = 3 << 62;
    const OF_A_FILE: u64 = 1 << 61;
    let file = inspect::open(c"/proc/self/pagemap".as_ptr());
    if file < 0 {
        return false;
    }
    let (mut entry, size) = (0u64, size_of::<u64>());
    // SAFETY: there is room for an entry, of which the page map has one for each page.
    let read = unsafe {
        let offset = (start / length * size) as off_t;
        libc::pread(file, (&raw mut entry).cast(), size, offset)
    };
    inspect::close(file);
    read == size as isize && entry & PRESENT_OR_SWAPPED != 0 && entry & OF_A_FILE == 0
}

fn put_memory(region: &Region, page: u32, start: usize, length: usize) -> bool {
    let state = &region.state;
    let in_image = page < state.load(Word::ImagePages);
    let in_scratch =
        region.scratch >= 0 && (!in_image || !region.moves_to_scratch || state.is_dirty(page));
    let file = if in_scratch {
        region.scratch
    } else {
        region.image
    };
    let protection = if in_image && !region.opens_clean && !state.is_writable(page) {
        PROT_READ
    } else {
        PROT_READ | PROT_WRITE
    };
    state.set_mapped(page, page + 1, false);
    if put_copy(
        (start, length),
        file,
        (start - region.base) as off_t,
        protection,
    ) {
        if in_scratch {
            state.add(Word::ScratchFailures, 1);
        }
        return true;
    }
    // Said before anybody can read the zeros, and save them.
    state.mark_dirty(page);
    state.store(Word::LostPage, page);
    let flag = if in_scratch {
        FLAG_SCRATCH_LOST
    } else {
        FLAG_IMAGE_LOST
    };
    state.word(Word::Flags).fetch_or(flag, Ordering::AcqRel);
    put_zeros(start, length)
}

/// Puts ordinary memory with a file's content in place of a system page: one that can be
/// read but, for want of room, not mapped. False where the file doesn't have all of it.
#[cfg(target_os = "linux")]
fn put_copy(
    (start, length): (usize, usize),
    file: c_int,
    offset: off_t,
    protection: c_int,
) -> bool {
    let (writable, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    // SAFETY: the copy is a mapping of its own until it is moved, complete, over one
    // system page of the region, which no Rust reference points to.
    unsafe {
        let copy = libc::mmap(core::ptr::null_mut(), length, writable, flags, -1, 0);
        if copy == libc::MAP_FAILED {
            return false;
        }
        let whole = libc::pread(file, copy, length, offset) == length as isize
            && libc::mprotect(copy, length, protection) == 0
            && libc::mremap(
                copy,
                length,
                length,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                start as *mut c_void,
            ) != libc::MAP_FAILED;
        if !whole {
            libc::munmap(copy, length);
        }
        whole
    }
}

#[cfg(not(target_os = "linux"))]
fn put_copy(_: (usize, usize), _: c_int, _: off_t, _: c_int) -> bool {
    false
}

/// Puts ordinary memory, all zeros, in place of a system page.
fn put_zeros(start: usize, length: usize) -> bool {
    let (access, flags) = (
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
    );
    // SAFETY: a system page of a region, all of which are plain bytes that JavaScript owns;
    // no Rust reference points there.
    let result = unsafe { libc::mmap(start as *mut c_void, length, access, flags, -1, 0) };
    result != libc::MAP_FAILED
}
