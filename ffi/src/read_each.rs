//! Reading pieces of a file that are in memory: where the disk would have to be waited for
//! nothing is read.

use core::slice;
use libc::off_t;

/// The number of no piece.
const NONE: u32 = u32::MAX;

/// Reads pieces of a file of `length` bytes each, which are numbered from its beginning, one
/// after the other into memory, and says in `found`, a byte for each, which could be read
/// without waiting: 1 or 0. What lies beyond the end of the file is zeros. Where a number is
/// `NONE` nothing is read.
///
/// # Safety
/// `pieces` and `found` must have `count` entries, and `into` room for as many pieces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_read_each(
    file: i32,
    pieces: *const u32,
    count: u32,
    length: u32,
    into: *mut u8,
    found: *mut u8,
) -> i32 {
    let (count, length) = (count as usize, length as usize);
    // SAFETY: the caller's promise.
    let (pieces, into, found) = unsafe {
        (
            slice::from_raw_parts(pieces, count),
            slice::from_raw_parts_mut(into, count * length),
            slice::from_raw_parts_mut(found, count),
        )
    };
    let mut first = 0;
    while first < count {
        if pieces[first] == NONE {
            found[first] = 0;
            first += 1;
            continue;
        }
        let follows =
            |index: usize| pieces[index] == pieces[index - 1] + 1 && pieces[index] != NONE;
        let end = (first + 1..count)
            .find(|&index| !follows(index))
            .unwrap_or(count);
        let place = pieces[first] as off_t * length as off_t;
        let read = read(file, &mut into[first * length..end * length], place);
        for (index, found) in found[first..end].iter_mut().enumerate() {
            *found = u8::from((index + 1) * length <= read);
        }
        first = end;
    }
    0
}

/// Reads what is in memory, up to the first byte that isn't; says how many bytes.
fn read(file: i32, into: &mut [u8], place: off_t) -> usize {
    let mut done = 0;
    while done < into.len() {
        match read_some(file, &mut into[done..], place + done as off_t) {
            count if count > 0 => done += count as usize,
            0 => {
                into[done..].fill(0);
                done = into.len();
            }
            _ => break,
        }
    }
    done
}

/// pread(2) that doesn't wait, where the file system can do that; negative where it fails.
fn read_some(file: i32, into: &mut [u8], place: off_t) -> isize {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    {
        let list = libc::iovec {
            iov_base: into.as_mut_ptr().cast(),
            iov_len: into.len(),
        };
        let (call, most, high) = (libc::SYS_preadv2, 1, 0);
        // SAFETY: the list names memory that may be written. preadv2, asked of the kernel:
        // glibc has had it only since 2.26.
        let count = unsafe {
            libc::syscall(
                call,
                file,
                &raw const list,
                most,
                place,
                high,
                libc::RWF_NOWAIT,
            )
        };
        if count >= 0 || crate::errno::last() != libc::EOPNOTSUPP {
            return count as isize;
        }
    }
    // SAFETY: memory that may be written, of so many bytes.
    unsafe { libc::pread(file, into.as_mut_ptr().cast(), into.len(), place) }
}
