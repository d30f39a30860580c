//! The fault handler. It runs on the signal stack of whichever thread wrote to a
//! protected page, so it allocates nothing, locks nothing and calls only what is
//! safe in a signal handler: system calls.
//! It decides by address alone, but for a copy that may fault (copy.rs); every fault that
//! isn't in an attached region goes to the handler that was there before.
//!
//! Seed: u3e_fault, _ce_flaw_mprotect, _ce_flaw_mmap.

use crate::region::Region;
use crate::state::{NO_PAGE, Word};
use crate::{aside, budget, copy, errno, guard, huge_page, lost_page, mapping};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering};
use libc::{c_int, c_void, sigaction, siginfo_t};

/// The actions that were there before ours. Written once, before ours is installed.
struct Previous(UnsafeCell<[MaybeUninit<sigaction>; 2]>);

// SAFETY: `install` is the only writer; it has finished with an entry before the
// handler that reads it can run.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(UnsafeCell::new([const { MaybeUninit::uninit() }; 2]));
static INSTALLATION: AtomicU32 = AtomicU32::new(ABSENT);

/// How far the installation is.
const ABSENT: u32 = 0;
const BEGUN: u32 = 1;
const DONE: u32 = 2;

const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Installs the handler, once in the life of the process.
pub fn install() -> i32 {
    once(&INSTALLATION, install_all)
}

/// Does something that only one thread may do, and whose end all others wait for; again if
/// it failed.
pub fn once(progress: &AtomicU32, act: impl FnOnce() -> i32) -> i32 {
    let (seen, unseen) = (Ordering::AcqRel, Ordering::Acquire);
    loop {
        match progress.compare_exchange(ABSENT, BEGUN, seen, unseen) {
            Ok(_) => break,
            Err(DONE) => return 0,
            // SAFETY: takes nothing; who is waited for may need this processor.
            Err(_) => _ = unsafe { libc::sched_yield() },
        }
    }
    let result = act();
    let reached = if result == 0 { DONE } else { ABSENT };
    progress.store(reached, Ordering::Release);
    result
}

fn install_all() -> i32 {
    for (index, signal) in SIGNALS.iter().enumerate() {
        // SAFETY: PREVIOUS is written here only, by one thread, and each entry before the
        // handler that reads it is installed; `action` is fully initialised, zero being a
        // valid value of every field that is not set.
        let result = unsafe {
            let previous = (*PREVIOUS.0.get())[index].as_mut_ptr();
            if libc::sigaction(*signal, core::ptr::null(), previous) != 0 {
                -1
            } else {
                let mut action: sigaction = core::mem::zeroed();
                action.sa_sigaction = handle as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
                libc::sigaction(*signal, &action, core::ptr::null_mut())
            }
        };
        if result != 0 {
            return -errno::last();
        }
    }
    0
}

extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let saved = errno::last();
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler.
    let (address, code) = unsafe { ((*info).si_addr() as usize, (*info).si_code) };
    // A code of zero or below was sent by a process, not raised by an access.
    let is_raised = code > 0;
    // SAFETY: the kernel passes a valid context to a SA_SIGINFO handler.
    let is_copy = is_raised && signal == libc::SIGSEGV && unsafe { copy::end(context) };
    let handled = is_copy
        || is_raised
            && Region::find(address).is_some_and(|(region, page)| {
                if !region.is_there(page) {
                    false
                } else if is_lost_file(signal, code) {
                    lost_page::replace(&region, page, address)
                } else {
                    let offset = address % region.page_size();
                    is_protected(signal) && open(&region, page, offset)
                }
            });
    if !handled {
        delegate(signal, info, context);
    }
    errno::restore(saved);
}

/// Whether the fault says that a file behind a mapping has no such page.
fn is_lost_file(signal: c_int, code: i32) -> bool {
    const BUS_ADRERR: i32 = 2;
    // On macOS SIGBUS is how a protection fault is reported.
    cfg!(target_os = "linux") && signal == libc::SIGBUS && code == BUS_ADRERR
}

/// Whether the fault says that a page is protected, and not that the memory itself has failed.
fn is_protected(signal: c_int) -> bool {
    signal == libc::SIGSEGV || cfg!(not(target_os = "linux"))
}

/// Hands a fault that isn't ours to the handler that was there before.
fn delegate(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let index = if signal == SIGNALS[0] { 0 } else { 1 };
    // SAFETY: `install` filled the entry in before this handler could run. The old
    // handler is called as its own flags say it wants to be called.
    unsafe {
        let previous = (*PREVIOUS.0.get())[index].assume_init_ref();
        let is_sent = (*info).si_code <= 0;
        match previous.sa_sigaction {
            libc::SIG_IGN if is_sent => {}
            // Ignoring a fault would repeat it for ever; the system kills instead.
            libc::SIG_DFL | libc::SIG_IGN => {
                let mut default: sigaction = core::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, core::ptr::null_mut());
                if is_sent {
                    libc::raise(signal);
                }
            }
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    core::mem::transmute(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler: extern "C" fn(c_int) = core::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}

/// Makes a page writable and marks it dirty, where it is written at some offset; false when
/// it can't be done.
pub fn open(region: &Region, page: u32, offset: usize) -> bool {
    let state = &region.state;
    if page == state.load(Word::GuardPage) {
        return guard::hit(region, page);
    }
    if !aside::keep(region, page, page + 1) {
        // Another thread is copying it: the write is tried again.
        return true;
    }
    if region.moves_to_scratch && page < state.load(Word::ImagePages) {
        return open_in_scratch(region, page, offset);
    }
    let was_dirty = state.mark_dirty(page);
    if was_dirty {
        // Another thread was first, or is just about to make it writable. Let it know.
        state.mark_opened(page);
    }
    if huge_page::is_moving(region, page, page + 1) {
        // As above.
        return true;
    }
    if was_dirty {
        return mapping::make_writable(region, page, page + 1)
            || open_more(region, page, offset, 2);
    }
    state.add(Word::Faults, 1);
    state.add(Word::RecentFaults, 1);
    match budget::run_length(region, page) {
        1 => {
            budget::account(state, page, page + 1);
            mapping::make_writable(region, page, page + 1) || open_more(region, page, offset, 2)
        }
        length => open_more(region, page, offset, length),
    }
}

/// Opens the run of `length` pages around a page, and where the kernel
/// refuses another mapping ever larger ones: joining runs gives mappings back.
fn open_more(region: &Region, page: u32, offset: usize, mut length: u32) -> bool {
    let state = &region.state;
    let image_pages = state.load(Word::ImagePages);
    if page >= image_pages {
        return mapping::make_writable(region, page, page + 1);
    }
    let guard = state.load(Word::GuardPage);
    loop {
        let (mut first, mut end) = budget::run_around(region, page, length);
        if guard != NO_PAGE && guard < page {
            first = first.max(guard + 1);
        } else if guard != NO_PAGE {
            end = end.min(guard);
        }
        if !aside::keep(region, first, end) {
            return true;
        }
        huge_page::gather(region, page, offset, first, end);
        // The bits go first: whoever is about to put some of these pages into a huge one sees
        // them, or is seen.
        for other in first..end {
            if other != page && !state.is_writable(other) {
                state.mark_opened(other);
            }
        }
        if huge_page::is_moving(region, first, end) {
            return true;
        }
        budget::account(state, first, end);
        if mapping::make_writable(region, first, end) {
            return true;
        }
        if length >= image_pages {
            return false;
        }
        length = length.saturating_mul(2);
    }
}

/// Moves a page into the scratch file: its bytes first, then the mapping. One
/// thread does it; any other that faults meanwhile returns and faults again.
fn open_in_scratch(region: &Region, page: u32, offset: usize) -> bool {
    let state = &region.state;
    state.add(Word::InFlight, 1);
    let handled = if state.mark_dirty(page) {
        // Alone here and yet dirty: the mapping is in place, so opening it again
        // is harmless, and right if someone else protected it.
        state.load(Word::InFlight) > 1 || mapping::make_writable(region, page, page + 1)
    } else {
        state.add(Word::Faults, 1);
        budget::account(state, page, page + 1);
        let moved = budget::run_length(region, page) == 1 && mapping::move_to_scratch(region, page);
        if !moved {
            state.add(Word::ScratchFailures, 1);
        }
        moved
            || mapping::make_writable(region, page, page + 1)
            || open_more(region, page, offset, 2)
    };
    state.word(Word::InFlight).fetch_sub(1, Ordering::AcqRel);
    handled
}
