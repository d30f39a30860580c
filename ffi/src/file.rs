//! The file calls that Deno doesn't have: reserving space, finding holes, and
//! syncing the directory above one that is open.

use crate::errno;
use libc::{c_char, off_t};

/// Reserves space for `length` bytes at `offset` without changing the file's
/// size or content, so that writing there can't fail for want of room.
#[unsafe(no_mangle)]
pub extern "C" fn loom_allocate(file: i32, offset: u64, length: u64) -> i32 {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: takes a descriptor and numbers only.
        errno::check(unsafe {
            libc::fallocate(
                file,
                libc::FALLOC_FL_KEEP_SIZE,
                offset as off_t,
                length as off_t,
            )
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, offset, length);
        -libc::ENOTSUP
    }
}

/// Has the system begin to write out what was just written to a file, so that a
/// later sync has less to wait for. Promises nothing.
#[unsafe(no_mangle)]
pub extern "C" fn loom_start_writeback(file: i32, offset: u64, length: u64) {
    #[cfg(target_os = "linux")]
    // SAFETY: takes a descriptor and numbers only.
    unsafe {
        libc::sync_file_range(
            file,
            offset as i64,
            length as i64,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, length);
}

/// Frees the blocks of `length` bytes at `offset`: they read as zeros.
#[unsafe(no_mangle)]
pub extern "C" fn loom_punch(file: i32, offset: u64, length: u64) -> i32 {
    #[cfg(target_os = "linux")]
    {
        let mode = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
        // SAFETY: takes a descriptor and numbers only.
        errno::check(unsafe { libc::fallocate(file, mode, offset as off_t, length as off_t) })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, offset, length);
        -libc::ENOTSUP
    }
}

/// The offset of the first hole at or after `offset` (hole: 1) or of the first
/// data (hole: 0); the file's size where there is no hole before its end. A
/// negated errno, -ENXIO where there is no data any more.
#[unsafe(no_mangle)]
pub extern "C" fn loom_seek(file: i32, offset: u64, hole: u32) -> i64 {
    let whence = if hole != 0 {
        libc::SEEK_HOLE
    } else {
        libc::SEEK_DATA
    };
    // SAFETY: takes a descriptor and numbers only; all reads are positional, so the
    // descriptor's own offset is of no use to anyone.
    let found = unsafe { libc::lseek(file, offset as off_t, whence) };
    if found < 0 {
        -i64::from(errno::last())
    } else {
        found
    }
}

/// What tells a file and its state from another: its size, its number, when anything
/// about it was last changed (nanoseconds), and 1 if `path` leads to it.
///
/// # Safety
/// `path` must end in zero, and `into` have room for four words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_file_state(file: i32, path: *const c_char, into: *mut u64) -> i32 {
    // SAFETY: a stat of zeros is a valid one, and the calls fill it or fail; the caller
    // vouches for the path and for the room behind `into`.
    unsafe {
        let mut own: libc::stat = core::mem::zeroed();
        let result = errno::check(libc::fstat(file, &mut own));
        if result < 0 {
            return result;
        }
        let mut named: libc::stat = core::mem::zeroed();
        let found = libc::stat(path, &mut named) == 0;
        let same = found && named.st_ino == own.st_ino && named.st_dev == own.st_dev;
        let changed = own.st_ctime as u64 * 1_000_000_000 + own.st_ctime_nsec as u64;
        into.write(own.st_size as u64);
        into.add(1).write(own.st_ino as u64);
        into.add(2).write(changed);
        into.add(3).write(u64::from(same));
    }
    0
}

/// Syncs the directory above the one that `directory` has open, so that a
/// directory just made survives a power cut, whatever may be read by name.
#[unsafe(no_mangle)]
pub extern "C" fn loom_sync_parent(directory: i32) -> i32 {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path is a literal that ends in zero; the descriptor that openat
    // returns is synced and closed here and used by nobody else.
    unsafe {
        let parent = libc::openat(directory, c"..".as_ptr(), flags);
        if parent < 0 {
            return -errno::last();
        }
        let result = errno::check(libc::fsync(parent));
        libc::close(parent);
        result
    }
}
