//! The tracker that raises no signal: the kernel itself knows which pages were
//! written. Pages of a privately mapped file that were written have been copied,
//! which the page map tells; other memory is write-protected with userfaultfd in
//! its asynchronous mode (Linux 6.7), which the page map tells too.

use crate::file::loom_close;
use crate::pagemap::{self, COPIED, WRITTEN_SINCE};
use crate::region::Region;
use crate::state::Word;
#[cfg(target_os = "linux")]
use crate::{errno, inspect, isolate};

/// Marks pages of the image dirty that were written since they were last clean.
/// `kind` says which: 0 all that were copied, 1 all that were written since they were
/// armed, 2 those that the fault handler opened ahead and that were copied.
#[unsafe(no_mangle)]
pub extern "C" fn loom_scan_written(slot: u32, kind: u32) -> i32 {
    let Some(region) = Region::at(slot) else {
        return -libc::EINVAL;
    };
    let pages = region.state.load(Word::ImagePages);
    if pages == 0 {
        return 0;
    }
    let state = region.state;
    let mark = |page| {
        state.mark_dirty(page);
    };
    match kind {
        0 => pagemap::scan(&region, 0, pages, &COPIED, mark),
        1 => pagemap::scan(&region, 0, pages, &WRITTEN_SINCE, mark),
        _ => {
            let runs = state
                .opened_runs()
                .map(|(first, end)| (first, end.min(pages)));
            let runs = runs.filter(|(first, end)| first < end);
            pagemap::scan_runs(&region, runs, &COPIED, |page| {
                if state.is_writable(page) {
                    state.mark_dirty(page);
                }
            })
        }
    }
}

/// Sets the bit of every page of a run that the kernel has copied from the image, in a
/// bitmap whose first bit stands for `first`.
#[unsafe(no_mangle)]
pub extern "C" fn loom_copied(slot: u32, first: u32, count: u32, bitmap: *mut u32) -> i32 {
    let Some(region) = Region::at(slot).filter(|region| region.contains(first, count)) else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller passes a bitmap with a bit for each of the pages, as FFI
    // buffers are: aligned, alive and unshared during the call.
    let bitmap = unsafe { core::slice::from_raw_parts_mut(bitmap, count.div_ceil(32) as usize) };
    bitmap.fill(0);
    pagemap::scan(&region, first, count, &COPIED, |page| {
        bitmap[((page - first) / 32) as usize] |= 1 << ((page - first) % 32);
    })
}

/// Whether the kernel can tell written pages: 0, or -errno. Needs an attached region.
#[unsafe(no_mangle)]
pub extern "C" fn loom_can_scan(slot: u32) -> i32 {
    match Region::at(slot) {
        Some(region) => pagemap::scan(&region, 0, 1, &COPIED, |_| {}),
        None => -libc::EINVAL,
    }
}

#[cfg(target_os = "linux")]
mod userfaultfd {
    const API: u64 = 0xaa;
    const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
    const FEATURE_WP_ASYNC: u64 = 1 << 15;
    const USER_MODE_ONLY: i32 = 1;
    const MODE_WP: u64 = 2;

    const UFFDIO_API: u64 = 0xc018_aa3f;
    const UFFDIO_REGISTER: u64 = 0xc020_aa00;
    const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;

    /// A descriptor in asynchronous mode, or -errno.
    pub fn open() -> i32 {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
        // SAFETY: takes flags and returns a descriptor.
        let file = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) } as i32;
        if file < 0 {
            return -super::errno::last();
        }
        let mut api = [API, FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED, 0];
        // SAFETY: struct uffdio_api is these three words.
        let result = unsafe { libc::ioctl(file, UFFDIO_API as _, api.as_mut_ptr()) };
        if result != 0 {
            let error = -super::errno::last();
            super::inspect::close(file);
            return error;
        }
        file
    }

    /// Write-protects a range, registering it first where that wasn't done yet.
    pub fn protect(file: i32, start: usize, length: usize) -> i32 {
        let result = set_protection(file, start, length, 1);
        if result != -libc::ENOENT {
            return result;
        }
        let mut register = [start as u64, length as u64, MODE_WP, 0];
        // SAFETY: struct uffdio_register is these four words; registering changes
        // how faults are resolved and leaves content alone.
        let result = unsafe { libc::ioctl(file, UFFDIO_REGISTER as _, register.as_mut_ptr()) };
        if result != 0 {
            return -super::errno::last();
        }
        set_protection(file, start, length, 1)
    }

    /// Protects a registered range (1), or ends its protection (0).
    pub fn set_protection(file: i32, start: usize, length: usize, mode: u64) -> i32 {
        let mut protect = [start as u64, length as u64, mode];
        // SAFETY: struct uffdio_writeprotect is these three words.
        super::errno::check(unsafe {
            libc::ioctl(file, UFFDIO_WRITEPROTECT as _, protect.as_mut_ptr())
        })
    }
}

/// Opens a userfaultfd in asynchronous mode; its descriptor, or -errno.
#[unsafe(no_mangle)]
pub extern "C" fn loom_open_userfaultfd() -> i32 {
    #[cfg(target_os = "linux")]
    {
        let file = userfaultfd::open();
        if file < 0 { file } else { isolate::own(file) }
    }
    #[cfg(not(target_os = "linux"))]
    {
        -libc::ENOSYS
    }
}

/// Closes a userfaultfd, which ends all its protection.
#[unsafe(no_mangle)]
pub extern "C" fn loom_close_userfaultfd(file: i32) {
    loom_close(file);
}

/// Write-protects pages, so that the page map tells when they are written (`on`
/// is 1), or ends that (0).
#[unsafe(no_mangle)]
pub extern "C" fn loom_arm(slot: u32, file: i32, first: u32, count: u32, on: u32) -> i32 {
    let Some(region) = Region::at(slot).filter(|region| region.contains(first, count)) else {
        return -libc::EINVAL;
    };
    #[cfg(target_os = "linux")]
    {
        let (start, length) = (region.address(first) as usize, region.offset(count));
        match on {
            0 => userfaultfd::set_protection(file, start, length, 0),
            _ => userfaultfd::protect(file, start, length),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (region, file, on);
        -libc::ENOSYS
    }
}
