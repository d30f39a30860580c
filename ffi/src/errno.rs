//! The C library's errno, read, and saved across the fault handler.

fn location() -> *mut i32 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: takes nothing; the result is this thread's own errno.
    unsafe {
        libc::__errno_location()
    }
    #[cfg(target_os = "macos")]
    // SAFETY: as above, under the name that macOS gives it.
    unsafe {
        libc::__error()
    }
}

/// The errno of this thread's last failed call.
pub fn last() -> i32 {
    // SAFETY: the location is valid for as long as this thread runs.
    unsafe { *location() }
}

/// Puts back an errno, so that the code a fault interrupted doesn't see ours.
pub fn restore(value: i32) {
    // SAFETY: as in `last`.
    unsafe { *location() = value }
}

/// Turns the result of a system call that says -1 for failure into 0 or -errno.
pub fn check(result: i32) -> i32 {
    if result == -1 { -last() } else { 0 }
}

/// Turns the result of a system call that says how many, or -1, into that or -errno.
pub fn count(result: isize) -> i32 {
    if result < 0 { -last() } else { result as i32 }
}
