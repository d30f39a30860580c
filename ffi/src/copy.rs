//! Copying out of memory that may go meanwhile: that of an isolate that ends while a call
//! off the thread reads it. The fault handler then ends the copy (as the kernel does with
//! copies from user space that fault), and it fails.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod recoverable {
    use core::arch::global_asm;
    use libc::{c_void, ucontext_t};

    // Copies rdx bytes from rsi to rdi; returns how many are left. It can only fault in the
    // instruction that copies, which keeps count in rcx.
    global_asm!(
        ".pushsection .text.loom_copy, \"ax\"",
        ".hidden loom_copy",
        ".hidden loom_copy_faults",
        ".hidden loom_copy_ends",
        ".globl loom_copy",
        ".globl loom_copy_faults",
        ".globl loom_copy_ends",
        "loom_copy:",
        "mov rcx, rdx",
        "loom_copy_faults:",
        "rep movsb",
        "loom_copy_ends:",
        "mov rax, rcx",
        "ret",
        ".popsection",
    );

    unsafe extern "C" {
        fn loom_copy(into: *mut u8, from: *const u8, length: usize) -> usize;
        static loom_copy_faults: u8;
        static loom_copy_ends: u8;
    }

    /// Copies `length` bytes; false where some are not there any more.
    ///
    /// # Safety
    /// `into` has room for them; `from` is memory that is readable or not there.
    pub unsafe fn copy(into: *mut u8, from: *const u8, length: usize) -> bool {
        // SAFETY: the caller's promise; a fault ends the copy.
        unsafe { loom_copy(into, from, length) == 0 }
    }

    /// Ends the copy that a fault interrupted; false if it was none. For the fault handler.
    ///
    /// # Safety
    /// `context` is what the kernel passes to a SA_SIGINFO handler.
    pub unsafe fn end(context: *mut c_void) -> bool {
        // SAFETY: the caller's promise; the two labels are only looked at for where they are.
        unsafe {
            let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
            let at = &mut registers[libc::REG_RIP as usize];
            if *at != (&raw const loom_copy_faults) as i64 {
                return false;
            }
            *at = (&raw const loom_copy_ends) as i64;
            true
        }
    }
}

/// Where this can't be had: an isolate had better not end before its calls.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod recoverable {
    /// # Safety
    /// `into` has room for `length` bytes, and `from` is readable.
    pub unsafe fn copy(into: *mut u8, from: *const u8, length: usize) -> bool {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(from, into, length) };
        true
    }

    /// # Safety
    /// None is needed.
    pub unsafe fn end(_: *mut libc::c_void) -> bool {
        false
    }
}

pub use recoverable::{copy, end};
