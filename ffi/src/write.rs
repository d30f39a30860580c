//! Writing to a file: in one place, one piece after the other, or each piece in its own place.

use crate::errno;
use crate::file::MOST_BYTES;
use libc::{c_int, off_t};

/// Writes at `offset`; says how many bytes. With `start` not zero the system begins to
/// write out what was written to the file so far.
///
/// # Safety
/// `from` must hold `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_write(
    file: i32,
    from: *const u8,
    length: u32,
    offset: u64,
    start: u32,
) -> i32 {
    let length = length.min(MOST_BYTES) as usize;
    let mut done = 0;
    while done < length {
        let piece = PIECE_BYTES.min(length - done);
        let at = offset as off_t + done as off_t;
        // SAFETY: the caller vouches for the bytes.
        let written = unsafe { libc::pwrite(file, from.add(done).cast(), piece, at) };
        if written < 0 && done == 0 {
            return -errno::last();
        }
        done += written.max(0) as usize;
        if written < piece as isize {
            break;
        }
    }
    if start != 0 {
        start_writeback(file);
    }
    done as i32
}

/// Writes pieces of memory at `offset`, one after the other: a file that is always written
/// whole is best kept in large pieces. `pieces` are pairs of words: where each begins, in
/// bytes from `base`, and how long it is. Says how many bytes; `start` is as above.
///
/// # Safety
/// `pieces` must have `count` pairs, and the memory that they name be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_write_pieces(
    file: i32,
    base: *const u8,
    pieces: *const u64,
    count: u32,
    offset: u64,
    start: u32,
) -> i32 {
    // SAFETY: the caller's promise.
    let pieces = unsafe { core::slice::from_raw_parts(pieces.cast::<[u64; 2]>(), count as usize) };
    let mut done = 0;
    for group in pieces.chunks(PIECES) {
        let mut list = [NOTHING; PIECES];
        let mut length = 0;
        for (entry, &[from, bytes]) in list.iter_mut().zip(group) {
            entry.iov_base = base.wrapping_add(from as usize).cast_mut().cast();
            entry.iov_len = (bytes as usize).min(MOST_BYTES as usize - done - length);
            length += entry.iov_len;
        }
        let at = offset as off_t + done as off_t;
        // SAFETY: the caller vouches for the memory; the list has an entry for each piece.
        let written = unsafe { libc::pwritev(file, list.as_ptr(), group.len() as c_int, at) };
        if written < 0 && done == 0 {
            return -errno::last();
        }
        done += written.max(0) as usize;
        if written < length as isize || done == MOST_BYTES as usize {
            break;
        }
    }
    if start != 0 {
        start_writeback(file);
    }
    done as i32
}

/// Writes pieces of memory, each in its own place. `pieces` are three words each: where it
/// begins, in bytes from `base`, how long it is, and its offset in the file. Says how many were
/// written whole, up to the first that wasn't; `start` is as above.
///
/// # Safety
/// `pieces` must have `count` entries, and the memory that they name be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_write_each(
    file: i32,
    base: *const u8,
    pieces: *const u64,
    count: u32,
    start: u32,
) -> i32 {
    // SAFETY: the caller's promise.
    let pieces = unsafe { core::slice::from_raw_parts(pieces.cast::<[u64; 3]>(), count as usize) };
    let mut done = 0;
    for &[from, length, offset] in pieces {
        let from = base.wrapping_add(from as usize);
        // SAFETY: the caller vouches for the memory.
        let written = unsafe { loom_write(file, from, length as u32, offset, 0) };
        if written < 0 && done == 0 {
            return written;
        }
        if written as u64 != length {
            break;
        }
        done += 1;
    }
    if start != 0 {
        start_writeback(file);
    }
    done
}

/// How many pieces are written in one call of the system.
const PIECES: usize = 64;

const NOTHING: libc::iovec = libc::iovec {
    iov_base: core::ptr::null_mut(),
    iov_len: 0,
};

/// Linux keeps a file in pieces as large as those that it was written in, and ext4 goes
/// through all blocks of one at each write to it: pages of an image that was written in
/// pieces of megabytes take five times as long to be written again.
const PIECE_BYTES: usize = 64 << 10;

/// Has the system begin to write out what was written to a file, so that a later sync
/// has less to wait for. Promises nothing.
pub fn start_writeback(file: i32) {
    #[cfg(target_os = "linux")]
    // SAFETY: takes a descriptor and numbers only; a length of 0 is all of the file.
    unsafe {
        libc::sync_file_range(file, 0, 0, libc::SYNC_FILE_RANGE_WRITE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}
