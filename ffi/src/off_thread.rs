//! The calls that Deno makes off the thread. Each says for whom it is: once that isolate
//! has ended, a call that waited for its turn does nothing, and what one that has begun
//! uses is there until it ends (isolate.rs): memory that was lent, that is (memory.rs).

use crate::isolate::during;
use crate::memory::twin_of;
use crate::{aside, differences, file, kernel_tracker, read_each, sync, write};

/// `loom_copied`, for a caller.
#[unsafe(no_mangle)]
pub extern "C" fn loom_copied_off_thread(
    caller: u32,
    slot: u32,
    first: u32,
    count: u32,
    bitmap: *mut u32,
) -> i32 {
    during(caller, |owner| {
        kernel_tracker::loom_copied(slot, first, count, twin_of(owner, bitmap))
    })
}

/// `loom_gather`, for a caller.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_gather_off_thread(
    caller: u32,
    slot: u32,
    pages: *const u32,
    count: u32,
    into: *mut u8,
    sums: *mut u32,
) -> i32 {
    // SAFETY: the caller's promise.
    during(caller, |owner| unsafe {
        let pages = twin_of(owner, pages.cast_mut());
        let (into, sums) = (twin_of(owner, into), twin_of(owner, sums));
        aside::loom_gather(slot, pages, count, into, sums)
    })
}

/// `loom_differences`, for a caller.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_differences_off_thread(
    caller: u32,
    slot: u32,
    questions: *mut differences::Question,
    count: u32,
    content: *const u32,
    bases: *const u32,
    into: *mut u32,
) -> i32 {
    // SAFETY: the caller's promise.
    during(caller, |owner| unsafe {
        let (content, bases) = (content.cast_mut(), bases.cast_mut());
        differences::loom_differences(
            slot,
            twin_of(owner, questions),
            count,
            twin_of(owner, content),
            twin_of(owner, bases),
            twin_of(owner, into),
        )
    })
}

/// `loom_allocate`, for a caller.
#[unsafe(no_mangle)]
pub extern "C" fn loom_allocate_off_thread(
    caller: u32,
    file: i32,
    offset: u64,
    length: u64,
) -> i32 {
    during(caller, |_| file::loom_allocate(file, offset, length))
}

/// `loom_read`, for a caller.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_read_off_thread(
    caller: u32,
    file: i32,
    into: *mut u8,
    length: u32,
    offset: u64,
) -> i32 {
    // SAFETY: the caller's promise.
    during(caller, |owner| unsafe {
        file::loom_read(file, twin_of(owner, into), length, offset)
    })
}

/// `loom_read_each`, for a caller.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_read_each_off_thread(
    caller: u32,
    file: i32,
    pieces: *const u32,
    count: u32,
    length: u32,
    into: *mut u8,
    found: *mut u8,
) -> i32 {
    // SAFETY: the caller's promise.
    during(caller, |owner| unsafe {
        let pieces = twin_of(owner, pieces.cast_mut());
        let (into, found) = (twin_of(owner, into), twin_of(owner, found));
        read_each::loom_read_each(file, pieces, count, length, into, found)
    })
}

/// `loom_write`, for a caller. The bytes may be JavaScript's: the kernel reads them, which
/// fails where they are not there any more.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_write_off_thread(
    caller: u32,
    file: i32,
    from: *const u8,
    length: u32,
    offset: u64,
    start: u32,
) -> i32 {
    // SAFETY: the caller's promise.
    during(caller, |owner| unsafe {
        let from = twin_of(owner, from.cast_mut());
        write::loom_write(file, from, length, offset, start)
    })
}

/// `loom_write_pieces`, for a caller. What was said of `loom_write` holds for the bytes.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_write_pieces_off_thread(
    caller: u32,
    file: i32,
    base: *const u8,
    pieces: *const u64,
    count: u32,
    offset: u64,
    start: u32,
) -> i32 {
    // SAFETY: the caller's promise.
    during(caller, |owner| unsafe {
        let base = twin_of(owner, base.cast_mut());
        let pieces = twin_of(owner, pieces.cast_mut());
        write::loom_write_pieces(file, base, pieces, count, offset, start)
    })
}

/// `loom_write_each`, for a caller. What was said of `loom_write` holds for the bytes.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_write_each_off_thread(
    caller: u32,
    file: i32,
    base: *const u8,
    pieces: *const u64,
    count: u32,
    start: u32,
) -> i32 {
    // SAFETY: the caller's promise.
    during(caller, |owner| unsafe {
        let base = twin_of(owner, base.cast_mut());
        let pieces = twin_of(owner, pieces.cast_mut());
        write::loom_write_each(file, base, pieces, count, start)
    })
}

/// `loom_truncate`, for a caller.
#[unsafe(no_mangle)]
pub extern "C" fn loom_truncate_off_thread(caller: u32, file: i32, size: u64) -> i32 {
    during(caller, |_| file::loom_truncate(file, size))
}

/// `loom_sync_together`, for a caller.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_sync_together_off_thread(
    caller: u32,
    files: *const i32,
    count: u32,
    is_directory_last: u32,
) -> i32 {
    // SAFETY: the caller's promise.
    during(caller, |owner| unsafe {
        sync::loom_sync_together(twin_of(owner, files.cast_mut()), count, is_directory_last)
    })
}
