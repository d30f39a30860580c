//! Mappings and protection of a region's pages: what the handler needs, and the
//! same for TypeScript. Seed: _ce_loom_mapf, _ce_loom_mapf_ephemeral,
//! _ce_loom_protect, _ce_flaw_mmap, _ce_toss_pages.

use crate::errno;
use crate::region::{Region, SLOTS};
use crate::state::Word;
use crate::{aside, budget, fault};
use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ,
    PROT_WRITE, c_int, c_void, off_t,
};

/// Sets the protection of `first..end`.
pub fn protect(region: &Region, first: u32, end: u32, protection: c_int) -> bool {
    // SAFETY: callers pass pages of the region, which JavaScript keeps mapped until
    // it is detached. Changing their protection leaves their content alone.
    unsafe {
        libc::mprotect(
            region.address(first),
            region.offset(end - first),
            protection,
        ) == 0
    }
}

/// Makes `first..end` readable and writable.
pub fn make_writable(region: &Region, first: u32, end: u32) -> bool {
    protect(region, first, end, PROT_READ | PROT_WRITE)
}

/// Maps something else over `first..end`.
pub fn map(
    region: &Region,
    first: u32,
    end: u32,
    protection: c_int,
    flags: c_int,
    file: c_int,
) -> bool {
    let (address, length) = (region.address(first), region.offset(end - first));
    let offset = if file < 0 {
        0
    } else {
        region.offset(first) as off_t
    };
    region.state.set_mapped(first, end, false);
    region.state.set_gathered(first, end, false);
    // SAFETY: MAP_FIXED replaces pages of the region only, which is memory that
    // JavaScript reads and writes as plain bytes; no Rust reference points there.
    let result =
        unsafe { libc::mmap(address, length, protection, flags | MAP_FIXED, file, offset) };
    if result == libc::MAP_FAILED {
        return false;
    }
    if file >= 0 && flags & MAP_PRIVATE != 0 {
        region.state.set_mapped(first, end, true);
    }
    if file < 0 {
        keep_small(address, length);
    }
    true
}

/// Asks for small pages in anonymous memory: huge ones would make one touched byte look like
/// 512 touched system pages.
pub fn keep_small(address: *mut c_void, length: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: advice about memory of the caller's; where it is unknown it fails and nothing
    // changes.
    unsafe {
        libc::madvise(address, length, libc::MADV_NOHUGEPAGE)
    };
    #[cfg(not(target_os = "linux"))]
    let _ = (address, length);
}

/// Makes `first..end` fresh anonymous memory, all zeros.
pub fn replace_with_zeros(region: &Region, first: u32, end: u32) -> bool {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    map(region, first, end, PROT_READ | PROT_WRITE, flags, -1)
}

/// Moves one page into the scratch file, content first, so that no reader ever
/// sees it without. The write reads the page where it lies: no buffer is needed.
pub fn move_to_scratch(region: &Region, page: u32) -> bool {
    let (address, length) = (region.address(page), region.page_size());
    let mut done = 0;
    while done < length {
        // SAFETY: the page is readable, and `done` stays below its length.
        let written = unsafe {
            let from = address.byte_add(done);
            let offset = (region.offset(page) + done) as off_t;
            libc::pwrite(region.scratch, from, length - done, offset)
        };
        match written {
            0 => return false,
            -1 if errno::last() == libc::EINTR => {}
            -1 => return false,
            count => done += count as usize,
        }
    }
    map(
        region,
        page,
        page + 1,
        PROT_READ | PROT_WRITE,
        MAP_SHARED,
        region.scratch,
    )
}

/// Whether any part of a page is in memory, as mincore says.
pub fn is_resident(region: &Region, page: u32) -> bool {
    // A loom page is at most 64 KiB: 16 system pages of 4 KiB.
    let mut vector = [0 as libc::c_uchar; 16];
    // SAFETY: the page lies in the region, and the vector has room for the most
    // system pages that a loom page can have.
    let result = unsafe {
        libc::mincore(
            region.address(page),
            region.page_size(),
            vector.as_mut_ptr().cast(),
        )
    };
    result == 0 && vector.iter().any(|byte| byte & 1 != 0)
}

/// Whether there is anything at all at the beginning of a system page.
pub fn is_mapped(address: *const u8) -> bool {
    let mut vector = [0 as libc::c_uchar; 1];
    let length = crate::region::system_page_size();
    // SAFETY: mincore looks at no memory, and the vector has room for one system page.
    unsafe {
        libc::mincore(
            address.cast_mut().cast(),
            length,
            vector.as_mut_ptr().cast(),
        ) == 0
    }
}

/// Whether a page can be read, as the kernel finds when it tries. For the fault handler,
/// too: system calls only.
#[cfg(target_os = "linux")]
pub fn is_readable(region: &Region, page: u32) -> bool {
    let (mut byte, page) = (0u8, region.address(page));
    let range = |iov_base| libc::iovec {
        iov_base,
        iov_len: 1,
    };
    let (into, from) = (range((&raw mut byte).cast()), range(page));
    // SAFETY: this process; the kernel reads the byte into a local, and fails where that
    // can't be done.
    let count = unsafe { libc::process_vm_readv(libc::getpid(), &into, 1, &from, 1, 0) };
    match count {
        1 => true,
        _ if errno::last() == libc::EFAULT => false,
        // A sandbox may forbid the call.
        _ => is_readable_into_pipe(page),
    }
}

#[cfg(not(target_os = "linux"))]
pub fn is_readable(region: &Region, page: u32) -> bool {
    is_readable_into_pipe(region.address(page))
}

/// The same, with two descriptors that the process must have left.
fn is_readable_into_pipe(page: *const c_void) -> bool {
    let mut ends = [-1; 2];
    // SAFETY: the pipe's ends are this call's own. The kernel reads the byte, and fails
    // where that can't be done.
    unsafe {
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            return false;
        }
        let readable = libc::write(ends[1], page, 1) == 1;
        libc::close(ends[0]);
        libc::close(ends[1]);
        readable
    }
}

fn with_pages(slot: u32, first: u32, count: u32, act: impl FnOnce(&Region) -> bool) -> i32 {
    match Region::at(slot) {
        Some(region) if region.contains(first, count) => {
            if count == 0 || act(&region) {
                0
            } else {
                -errno::last()
            }
        }
        _ => -libc::EINVAL,
    }
}

/// Maps pages of the scratch file, shared and writable.
#[unsafe(no_mangle)]
pub extern "C" fn loom_map_scratch(slot: u32, file: i32, first: u32, count: u32) -> i32 {
    with_pages(slot, first, count, |region| {
        map(
            region,
            first,
            first + count,
            PROT_READ | PROT_WRITE,
            MAP_SHARED,
            file,
        )
    })
}

/// Makes pages fresh anonymous memory, all zeros and writable.
#[unsafe(no_mangle)]
pub extern "C" fn loom_map_anonymous(slot: u32, first: u32, count: u32) -> i32 {
    with_pages(slot, first, count, |region| {
        replace_with_zeros(region, first, first + count)
    })
}

/// What may be done with pages besides: nothing (0), or to read them (1).
const WRITE: u32 = 2;

pub fn protection(access: u32) -> c_int {
    match access {
        0 => PROT_NONE,
        1 => PROT_READ,
        _ => PROT_READ | PROT_WRITE,
    }
}

/// Makes pages inaccessible (0), readable (1) or writable too (2). Where other threads write
/// to them the caller has changed the bits before, held pages and clean ones.
#[unsafe(no_mangle)]
pub extern "C" fn loom_protect(slot: u32, first: u32, count: u32, access: u32) -> i32 {
    with_pages(slot, first, count, |region| {
        if access < WRITE {
            // A handler that has looked at a page before the caller changed what is said of
            // it may be about to open it. Those that come now see the change.
            SLOTS[slot as usize].wait_for_visitors();
        }
        protect(region, first, first + count, protection(access))
    })
}

/// Does for every clean page of a run what a fault in it would do, so that the
/// kernel can write there.
#[unsafe(no_mangle)]
pub extern "C" fn loom_touch(slot: u32, first: u32, count: u32) -> i32 {
    aside::loom_keep(slot, first, count);
    with_pages(slot, first, count, |region| {
        let image_pages = region.state.load(Word::ImagePages);
        let end = first + count;
        let guarded = (first..end).contains(&region.state.load(Word::GuardPage));
        if !region.moves_to_scratch && count > 1 && end <= image_pages && !guarded {
            budget::account(&region.state, first, end);
            // The bits go first: some may be open when it fails.
            region.state.set_dirty(first, end);
            return make_writable(region, first, end);
        }
        (first..end)
            .filter(|&page| page < image_pages && !region.state.is_dirty(page))
            .all(|page| fault::open(region, page, 0))
    })
}

/// Hands the memory of pages back to the system; they read as zeros from then on
/// (anonymous memory), or as their file does (mapped pages).
#[unsafe(no_mangle)]
pub extern "C" fn loom_discard(slot: u32, first: u32, count: u32) -> i32 {
    with_pages(slot, first, count, |region| {
        #[cfg(target_os = "linux")]
        {
            let (address, length) = (region.address(first), region.offset(count));
            // SAFETY: the region's own pages, whose content the caller gives up.
            unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) == 0 }
        }
        // MADV_DONTNEED is only a hint elsewhere: a new mapping does what it says.
        #[cfg(not(target_os = "linux"))]
        replace_with_zeros(region, first, first + count)
    })
}
