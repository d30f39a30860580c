//! Memory for calls off the thread. JavaScript's own goes with its isolate, and a Worker
//! may be terminated while such a call is under way: what it writes to must be there until
//! it ends. JavaScript registers some of its memory; calls use its twin (twin.rs), which
//! goes with the thread (isolate.rs).

use crate::isolate::{self, MOST_OWNERS, Owner};
use crate::twin::Twin;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// How many pieces a thread can have. Those that it never has take no memory.
const MOST: usize = 512;

struct Piece {
    address: AtomicPtr<u8>,
    original: AtomicPtr<u8>,
    /// Bytes; 0 where there is none.
    length: AtomicUsize,
}

/// The pieces of each owner. It alone changes them, on its thread; its calls look at them.
static PIECES: [[Piece; MOST]; MOST_OWNERS] = [const {
    [const {
        Piece {
            address: AtomicPtr::new(ptr::null_mut()),
            original: AtomicPtr::new(ptr::null_mut()),
            length: AtomicUsize::new(0),
        }
    }; MOST]
}; MOST_OWNERS];

impl Piece {
    fn twin(&self) -> Twin {
        // The length first: where it is seen, so is the rest.
        let length = self.length.load(Ordering::Acquire);
        Twin::from_parts(
            self.address.load(Ordering::Relaxed),
            self.original.load(Ordering::Relaxed),
            length,
        )
    }

    fn end(&self) {
        let twin = self.twin();
        self.length.store(0, Ordering::Release);
        // SAFETY: its owner uses it no more, and neither do the calls of that.
        unsafe { twin.end() };
    }

    fn is_free(&self) -> bool {
        self.length.load(Ordering::Acquire) == 0
    }
}

/// An owner's pieces, and room for more; none for NOBODY.
fn pieces_of(owner: Owner) -> &'static [Piece] {
    let pieces = PIECES.get((owner as usize).wrapping_sub(1));
    pieces.map_or(&[], |pieces| pieces.as_slice())
}

/// Registers memory for calls off the thread; -ENOMEM where there is no room for more.
///
/// # Safety
/// As for `Twin::make`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_lend(original: *mut u8, length: u32) -> i32 {
    let pieces = pieces_of(isolate::current());
    let Some(piece) = pieces.iter().find(|piece| piece.is_free()) else {
        return -libc::ENOMEM;
    };
    // SAFETY: the caller's promise.
    match unsafe { Twin::make(original, length as usize) } {
        Ok(twin) => {
            let (address, original, length) = twin.parts();
            piece.address.store(address, Ordering::Relaxed);
            piece.original.store(original, Ordering::Relaxed);
            piece.length.store(length, Ordering::Release);
            0
        }
        Err(error) => error,
    }
}

/// Forgets memory that was registered: no call uses it any more.
#[unsafe(no_mangle)]
pub extern "C" fn loom_take_back(original: *mut u8) -> i32 {
    let found = pieces_of(isolate::current())
        .iter()
        .find(|piece| !piece.is_free() && piece.twin().parts().1 == original);
    match found {
        Some(piece) => {
            piece.end();
            0
        }
        None => -libc::EINVAL,
    }
}

/// Where a call off the thread finds what an owner has at an address.
pub fn twin_of<T>(owner: Owner, address: *mut T) -> *mut T {
    pieces_of(owner)
        .iter()
        .find_map(|piece| piece.twin().of(address.cast()))
        .map_or(address, |twin| twin.cast())
}

/// Forgets all that an owner has registered.
pub fn forget_all(owner: Owner) {
    let pieces = pieces_of(owner).iter();
    pieces.filter(|piece| !piece.is_free()).for_each(Piece::end);
}
