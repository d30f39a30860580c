//! Who has what in this library. An isolate (a program, a Worker) may end without a word:
//! terminated, or torn down to be run anew. Its JavaScript can give nothing back then, so
//! what it opened here is noted under its thread, and given back when that ends. Calls that
//! it has under way on other threads are waited for, and those that wait for their turn are
//! refused: they would find another's descriptors and memory.

use crate::file::{self, loom_close};
use crate::{attach, memory, region};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use libc::c_void;

/// A thread that has something here: its place in the table, counted from 1.
pub type Owner = u32;
/// Nobody, or a thread for which there was no place: what it has is never given back.
pub const NOBODY: Owner = 0;

/// How many threads can have something at a time.
pub const MOST_OWNERS: usize = u8::MAX as usize;

const FREE: usize = 0;

struct Place {
    /// The thread, as pthread_self(3) calls it.
    thread: AtomicUsize,
    /// How often an isolate has ended here.
    generation: AtomicU32,
    /// Calls under way on other threads.
    calls: AtomicU32,
}

static PLACES: [Place; MOST_OWNERS] = [const {
    Place {
        thread: AtomicUsize::new(FREE),
        generation: AtomicU32::new(0),
        calls: AtomicU32::new(0),
    }
}; MOST_OWNERS];

/// How many descriptors a process may have, unless its system is told otherwise
/// (fs.nr_open). What is said of those that it never has takes no memory.
const MOST_FILES: usize = 1 << 20;

/// The owner of each descriptor.
static OWNERS: [AtomicU8; MOST_FILES] = [const { AtomicU8::new(NOBODY as u8) }; MOST_FILES];
/// Descriptors from this one on never had an owner.
static OWNED: AtomicUsize = AtomicUsize::new(0);

fn this_thread() -> usize {
    // SAFETY: takes nothing and can't fail.
    unsafe { libc::pthread_self() as usize }
}

fn place_of(thread: usize) -> Option<usize> {
    PLACES
        .iter()
        .position(|place| place.thread.load(Ordering::Relaxed) == thread)
}

/// The thread that calls.
pub fn current() -> Owner {
    let thread = this_thread();
    if let Some(index) = place_of(thread) {
        return index as Owner + 1;
    }
    let claimed = PLACES.iter().position(|place| {
        place
            .thread
            .compare_exchange(FREE, thread, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    });
    let Some(index) = claimed else {
        return NOBODY;
    };
    thread_end::watch();
    index as Owner + 1
}

/// Whether the calling thread is some owner. For the fault handler, too.
pub fn is_current(owner: Owner) -> bool {
    PLACES
        .get((owner as usize).wrapping_sub(1))
        .is_some_and(|place| place.thread.load(Ordering::Relaxed) == this_thread())
}

/// Bits of a caller's number that say whose it is; the others say which of the isolates
/// that its thread has had.
const OWNER_BITS: u32 = 8;

/// The isolate that runs on this thread, for the calls that it makes on others.
#[unsafe(no_mangle)]
pub extern "C" fn loom_caller() -> u32 {
    let owner = current();
    match PLACES.get((owner as usize).wrapping_sub(1)) {
        Some(place) => place.generation.load(Ordering::SeqCst) << OWNER_BITS | owner,
        None => NOBODY,
    }
}

/// Makes a call for a caller, and tells it whose; -ECANCELED where that has ended.
pub fn during(caller: u32, call: impl FnOnce(Owner) -> i32) -> i32 {
    let owner = caller & ((1 << OWNER_BITS) - 1);
    let Some(place) = PLACES.get((owner as usize).wrapping_sub(1)) else {
        return call(NOBODY);
    };
    place.calls.fetch_add(1, Ordering::SeqCst);
    let is_there = place.generation.load(Ordering::SeqCst) << OWNER_BITS == caller - owner;
    let result = if is_there {
        call(owner)
    } else {
        -libc::ECANCELED
    };
    place.calls.fetch_sub(1, Ordering::SeqCst);
    result
}

/// Refuses the calls of an isolate that have not begun, and waits for those that have.
fn finish_calls(owner: Owner) {
    let place = &PLACES[owner as usize - 1];
    place.generation.fetch_add(1, Ordering::SeqCst);
    while place.calls.load(Ordering::SeqCst) != 0 {
        // SAFETY: takes a number only.
        unsafe { libc::usleep(POLL_MICROSECONDS) };
    }
}

/// A call that is waited for may take as long as the disk does.
const POLL_MICROSECONDS: u32 = 200;

/// Notes that a descriptor is the caller's, and returns it. -EMFILE where it could never be
/// given back: then it is closed.
pub fn own(file: i32) -> i32 {
    let Some(owner) = OWNERS.get(file as usize) else {
        loom_close(file);
        return -libc::EMFILE;
    };
    OWNED.fetch_max(file as usize + 1, Ordering::AcqRel);
    owner.store(current() as u8, Ordering::Release);
    file
}

/// Forgets whose a descriptor is: it is about to be closed.
pub fn disown(file: i32) {
    if let Some(owner) = OWNERS.get(file as usize) {
        owner.store(NOBODY as u8, Ordering::Release);
    }
}

/// Says that an isolate begins on this thread, which may have had others: what they lent is
/// not lent any more. Returns the system's page size in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn loom_begin() -> i32 {
    let owner = current();
    if owner != NOBODY {
        finish_calls(owner);
        attach::leave(owner, false);
        memory::forget_all(owner);
    }
    region::system_page_size() as i32
}

/// Says that the isolate of this thread is about to end, and that its memory may go. Until
/// then all goes on as before, but for the locks of its files: they are let go, since it
/// may be long until they are closed.
#[unsafe(no_mangle)]
pub extern "C" fn loom_leave() {
    let owner = current();
    if owner == NOBODY {
        return;
    }
    attach::leave(owner, false);
    finish_calls(owner);
    for_each_file(owner, file::unlock);
}

fn for_each_file(owner: Owner, act: impl Fn(i32)) {
    let owned = &OWNERS[..OWNED.load(Ordering::Acquire)];
    for (file, of) in owned.iter().enumerate() {
        if u32::from(of.load(Ordering::Acquire)) == owner {
            act(file as i32);
        }
    }
}

/// Gives back what the thread that ends has still.
extern "C" fn end(_: *mut c_void) {
    let Some(index) = place_of(this_thread()) else {
        return;
    };
    let owner = index as Owner + 1;
    finish_calls(owner);
    attach::leave(owner, true);
    for_each_file(owner, |file| {
        loom_close(file);
    });
    memory::forget_all(owner);
    PLACES[index].thread.store(FREE, Ordering::Release);
}

/// glibc's own hook for destructors of thread-local objects: pthread_key_create(3) would
/// bind the library to the version of glibc that it was built with.
#[cfg(target_os = "linux")]
mod thread_end {
    use super::{OWNERS, end};
    use libc::c_void;

    unsafe extern "C" {
        fn __cxa_thread_atexit_impl(
            act: extern "C" fn(*mut c_void),
            argument: *mut c_void,
            library: *const c_void,
        ) -> i32;
    }

    /// Has `end` called when this thread ends. The main thread ends with the process,
    /// when the others may still be at work.
    pub fn watch() {
        // SAFETY: takes nothing and can't fail.
        let is_main = unsafe { libc::getpid() == libc::syscall(libc::SYS_gettid) as i32 };
        if !is_main {
            // SAFETY: the library stays loaded, which any address in it names.
            unsafe {
                __cxa_thread_atexit_impl(end, core::ptr::null_mut(), (&raw const OWNERS).cast())
            };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod thread_end {
    use super::end;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use libc::{c_void, pthread_key_t};

    /// The key, plus one; 0 before there is one.
    static KEY: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C" fn at_end(argument: *mut c_void) {
        end(argument);
    }

    /// Has `end` called when this thread ends.
    pub fn watch() {
        let mut key: pthread_key_t = 0;
        // SAFETY: the key is made here; where two threads make one at the same time, one
        // of the two is not used.
        unsafe {
            if KEY.load(Ordering::Acquire) == 0
                && libc::pthread_key_create(&mut key, Some(at_end)) == 0
            {
                let _ =
                    KEY.compare_exchange(0, key as usize + 1, Ordering::AcqRel, Ordering::Relaxed);
            }
            if let Some(key) = KEY.load(Ordering::Acquire).checked_sub(1) {
                libc::pthread_setspecific(key as pthread_key_t, (&raw const KEY).cast());
            }
        }
    }
}
