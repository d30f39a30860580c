//! The native half of Loom: what TypeScript can't do itself. It maps files and
//! anonymous memory over a region that JavaScript owns, sets page protection,
//! and handles the faults by which a first write to a page is noticed. It
//! knows no file format and takes no decision that can wait for TypeScript.
//!
//! Every exported function returns zero or a count when it succeeds and a
//! negated errno when it doesn't. Pages are loom pages, counted from the start
//! of the region, unless a name says system page.
#![cfg_attr(not(test), no_std)]

mod aside;
mod attach;
mod budget;
mod checksum;
#[cfg(target_arch = "x86_64")]
mod checksum_avx2;
mod copy;
mod differences;
mod differing;
mod errno;
mod fault;
mod file;
mod guard;
mod huge_page;
mod inspect;
mod isolate;
mod kernel_tracker;
mod lost_page;
mod mapping;
mod memory;
mod off_thread;
mod pagemap;
mod read_each;
mod region;
mod renew;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod twin;
mod write;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: abort takes nothing and never returns.
    unsafe { libc::abort() }
}

/// The prebuilt core library names this symbol, and nothing ever calls it: a
/// panic aborts here.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
