//! Files by their descriptors, which mapping needs and Deno's own files don't tell:
//! opening them, reading in places, reserving space, finding holes. node:fs has descriptors
//! too, but loading it takes most of the time that a start takes.

use crate::{errno, isolate};
use libc::{c_char, c_int, off_t};

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

/// The directory that paths are relative to, which Deno tells only those that may read it.
/// Says how long its path is.
///
/// # Safety
/// `into` must have room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_working_directory(into: *mut u8, length: u32) -> i32 {
    // SAFETY: the caller vouches for the room; what the call fills ends in zero.
    unsafe {
        if libc::getcwd(into.cast(), length as usize).is_null() {
            return -errno::last();
        }
        libc::strlen(into.cast()) as i32
    }
}

/// How `loom_open` opens a file.
const MODES: [c_int; 3] = [
    libc::O_RDONLY,
    libc::O_RDWR,
    libc::O_RDONLY | libc::O_DIRECTORY,
];
const UPDATE: u32 = 1;

/// Opens a file for reading (mode 0) or for reading and writing (1), or a directory
/// (2). Returns the descriptor.
///
/// A file to be written is locked (flock(2)), -EAGAIN where another descriptor has it so:
/// the calls of a Worker that is terminated may still be running when the lock of its
/// directory is gone, but not when its descriptors are.
///
/// # Safety
/// `path` must end in zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_open(path: *const c_char, mode: u32) -> i32 {
    let Some(flags) = MODES.get(mode as usize) else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller vouches for the path.
    let file = errno::count(unsafe { libc::open(path, flags | libc::O_CLOEXEC) } as isize);
    let file = if file < 0 { file } else { isolate::own(file) };
    if file >= 0 && mode == UPDATE {
        // SAFETY: takes a descriptor and flags only.
        let locked = errno::check(unsafe { libc::flock(file, libc::LOCK_EX | libc::LOCK_NB) });
        if locked < 0 {
            loom_close(file);
            return locked;
        }
    }
    file
}

/// Closes a descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn loom_close(file: i32) -> i32 {
    isolate::disown(file);
    unlock(file);
    // SAFETY: takes a descriptor only; its owner uses it no more.
    errno::check(unsafe { libc::close(file) })
}

/// Lets go of a file's lock, which else lasts as long as anything is mapped from it.
pub fn unlock(file: i32) {
    // SAFETY: takes a descriptor and flags only; one that has no lock stays as it is.
    unsafe { libc::flock(file, libc::LOCK_UN) };
}

/// Reads at `offset`; says how many bytes, fewer than asked for at the end of the file.
///
/// # Safety
/// `into` must have room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_read(file: i32, into: *mut u8, length: u32, offset: u64) -> i32 {
    let length = length.min(MOST_BYTES) as usize;
    // SAFETY: the caller vouches for the room.
    errno::count(unsafe { libc::pread(file, into.cast(), length, offset as off_t) })
}

/// So that a count fits an i32: Linux transfers no more in one call either.
pub const MOST_BYTES: u32 = 0x7fff_f000;

/// Makes a file `size` bytes long.
#[unsafe(no_mangle)]
pub extern "C" fn loom_truncate(file: i32, size: u64) -> i32 {
    // SAFETY: takes a descriptor and a number only.
    errno::check(unsafe { libc::ftruncate(file, size as off_t) })
}

/// What a file is, in four words: its size; its number on its file system; whether `path`
/// leads to it, or any path at all where it is null (1 or 0); and when it was made, in
/// nanoseconds, 0 where that isn't known.
///
/// Its other times are not asked for: where the kernel gives them out, it marks every file
/// that is written afterwards with a time of its own, which the file system then has to
/// note at each write (multigrain timestamps, Linux 6.13).
///
/// # Safety
/// `path` must be null or end in zero, and `into` have room for four words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_file_state(file: i32, path: *const c_char, into: *mut u64) -> i32 {
    // SAFETY: the caller vouches for the path and for the room behind `into`.
    unsafe {
        let own = match Place::of(file, c"".as_ptr()) {
            Ok(own) => own,
            Err(error) => return error,
        };
        into.write(own.size);
        into.add(1).write(own.number);
        let is_named = match path.is_null() {
            true => own.has_name,
            false => Place::of(libc::AT_FDCWD, path).is_ok_and(|named| named.is(&own)),
        };
        into.add(2).write(u64::from(is_named));
        into.add(3).write(own.born);
    }
    0
}

/// Which file something is.
struct Place {
    size: u64,
    number: u64,
    device: u64,
    has_name: bool,
    born: u64,
}

impl Place {
    fn is(&self, other: &Place) -> bool {
        self.number == other.number && self.device == other.device
    }

    /// # Safety
    /// `path` must end in zero; where it is empty, `file` is meant.
    #[cfg(target_os = "linux")]
    unsafe fn of(file: i32, path: *const c_char) -> Result<Place, i32> {
        let mask = libc::STATX_SIZE | libc::STATX_INO | libc::STATX_NLINK | libc::STATX_BTIME;
        // SAFETY: the caller vouches for the path.
        let found = unsafe { look(file, path, mask)? };
        Ok(Place {
            size: found.stx_size,
            number: found.stx_ino,
            device: u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor),
            has_name: found.stx_nlink > 0,
            born: match found.stx_mask & libc::STATX_BTIME {
                0 => 0,
                _ => {
                    (found.stx_btime.tv_sec * NANOSECONDS) as u64
                        + u64::from(found.stx_btime.tv_nsec)
                }
            },
        })
    }

    /// # Safety
    /// As above.
    #[cfg(not(target_os = "linux"))]
    unsafe fn of(file: i32, path: *const c_char) -> Result<Place, i32> {
        // SAFETY: a stat of zeros is a valid one, and the calls fill it or fail; the
        // caller vouches for the path.
        unsafe {
            let mut found: libc::stat = core::mem::zeroed();
            let result = if *path == 0 {
                libc::fstat(file, &mut found)
            } else {
                libc::stat(path, &mut found)
            };
            if result != 0 {
                return Err(-errno::last());
            }
            Ok(Place {
                size: found.st_size as u64,
                number: found.st_ino as u64,
                device: found.st_dev as u64,
                has_name: found.st_nlink > 0,
                born: 0,
            })
        }
    }
}

/// statx(2), asked of the kernel: glibc has had it only since 2.28, and Deno runs on older.
///
/// # Safety
/// `path` must end in zero; where it is empty, `file` is meant.
#[cfg(target_os = "linux")]
unsafe fn look(file: i32, path: *const c_char, mask: u32) -> Result<libc::statx, i32> {
    // SAFETY: a statx of zeros is a valid one, and the call fills it or fails; the caller
    // vouches for the path.
    unsafe {
        let mut found: libc::statx = core::mem::zeroed();
        let (flags, into) = (libc::AT_EMPTY_PATH, &raw mut found);
        match libc::syscall(libc::SYS_statx, file, path, flags, mask, into) {
            0 => Ok(found),
            _ => Err(-errno::last()),
        }
    }
}

/// When anything about a file was last changed, in nanoseconds.
#[unsafe(no_mangle)]
pub extern "C" fn loom_last_change(file: i32) -> i64 {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the path is a literal that ends in zero.
        match unsafe { look(file, c"".as_ptr(), libc::STATX_CTIME) } {
            Ok(found) => found.stx_ctime.tv_sec * NANOSECONDS + i64::from(found.stx_ctime.tv_nsec),
            Err(error) => i64::from(error),
        }
    }
    #[cfg(not(target_os = "linux"))]
    // SAFETY: a stat of zeros is a valid one, and the call fills it or fails.
    unsafe {
        let mut found: libc::stat = core::mem::zeroed();
        if libc::fstat(file, &mut found) != 0 {
            return -i64::from(errno::last());
        }
        found.st_ctime as i64 * NANOSECONDS + found.st_ctime_nsec as i64
    }
}

/// In a second.
const NANOSECONDS: i64 = 1_000_000_000;

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
