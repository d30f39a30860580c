//! The handler and the mappings against real memory: regions are attached as
//! TypeScript attaches them, and written from this process and its threads.

mod bitmaps;
mod differing;
mod faults;
mod guard;
mod held;
mod huge_pages;
mod isolates;
mod kernel_tracking;
mod mappings;

use crate::aside::{loom_gather, loom_is_as_kept, loom_let_go, loom_reserve_aside};
use crate::attach::{loom_attach, loom_detach, loom_is_at, loom_resize, loom_set_scratch};
use crate::checksum::loom_checksum_pages;
use crate::fault;
use crate::inspect::{loom_mappings, loom_touched};
use crate::kernel_tracker::{
    loom_arm, loom_can_scan, loom_close_userfaultfd, loom_copied, loom_open_userfaultfd,
    loom_scan_written,
};
use crate::mapping::{
    loom_discard, loom_map_anonymous, loom_map_scratch, loom_protect, loom_touch,
};
use crate::region::Region;
use crate::renew::loom_renew;
use crate::state::{FLAG_EXHAUSTED, HEADER_WORDS, NO_PAGE, State, Word};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, PoisonError, RwLock, RwLockReadGuard};

const PAGE: usize = 16384;

/// The mappings that a process may have: one test uses them up, and how many pages a fault
/// opens depends on how many are left.
static MAPPINGS: RwLock<()> = RwLock::new(());

/// For as long as the result is kept nobody uses them up.
fn enough_mappings() -> RwLockReadGuard<'static, ()> {
    MAPPINGS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Anonymous memory, attached, and all of it dirty; detached and unmapped at the end.
struct Loom {
    /// All that was mapped, and how long it is.
    mapping: (*mut libc::c_void, usize),
    base: *mut u8,
    pages: u32,
    slot: u32,
    words: &'static [AtomicU32],
}

// SAFETY: the memory outlives every thread that these tests start.
unsafe impl Sync for Loom {}

impl Loom {
    fn new(pages: u32) -> Self {
        Self::beginning(pages, 0)
    }

    /// One that begins some pages after a place where a huge page may, if it is large.
    fn beginning(pages: u32, after: u32) -> Self {
        let whole = ((after + pages) as usize * PAGE).next_multiple_of(2 << 20);
        // SAFETY: a new anonymous mapping touches no memory that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        let base = start.wrapping_byte_add(after as usize * PAGE);
        let (words, length) = words_for(pages);
        // SAFETY: there is room for so many words.
        let slot = unsafe { loom_attach(base.cast(), pages, PAGE as u32, pages, words) };
        assert!(slot >= 0, "{slot}");
        // SAFETY: memory of so many words, which is never unmapped.
        let words = unsafe { std::slice::from_raw_parts(words as *const AtomicU32, length) };
        Self {
            mapping: (start, whole),
            base: base.cast(),
            pages,
            slot: slot as u32,
            words,
        }
    }

    /// Maps runs of pages, each a first page and how many, from a file.
    fn map(&self, file: i32, runs: &[[u32; 2]], access: u32) -> i32 {
        self.renew(file, runs, access, 0)
    }

    /// The same, and opens them if `opened` is 1.
    fn renew(&self, file: i32, runs: &[[u32; 2]], access: u32, opened: u32) -> i32 {
        // SAFETY: as many runs as are there.
        unsafe {
            loom_renew(
                self.slot,
                file,
                runs.as_ptr().cast(),
                runs.len() as u32,
                access,
                1,
                opened,
            )
        }
    }

    fn region(&self) -> Region {
        Region::at(self.slot).unwrap()
    }

    fn word(&self, word: Word) -> u32 {
        self.words[word as usize].load(Ordering::SeqCst)
    }

    fn set(&self, word: Word, value: u32) {
        self.words[word as usize].store(value, Ordering::SeqCst);
    }

    /// Makes the first `count` pages clean, and those of an image.
    fn clean(&self, count: u32) {
        assert_eq!(loom_protect(self.slot, 0, count, 1), 0);
        (0..count).for_each(|page| self.clean_one(page));
        self.set(Word::ImagePages, count);
    }

    /// Has a save need all pages as they are, or none.
    fn hold_all(&self, on: bool) {
        let length = self.pages.div_ceil(32) as usize;
        for word in &self.words[HEADER_WORDS + 2 * length..][..length] {
            word.store(if on { u32::MAX } else { 0 }, Ordering::SeqCst);
        }
    }

    /// Sets a page's bit in a bitmap.
    fn mark(&self, bitmap: usize, page: u32) {
        let length = self.pages.div_ceil(32) as usize;
        let word = &self.words[HEADER_WORDS + bitmap * length + page as usize / 32];
        word.fetch_or(1 << (page % 32), Ordering::SeqCst);
    }

    /// Marks a page clean.
    fn clean_one(&self, page: u32) {
        let word = &self.words[HEADER_WORDS + page as usize / 32];
        word.fetch_and(!(1 << (page % 32)), Ordering::SeqCst);
    }

    fn at(&self, page: u32) -> *mut u8 {
        // SAFETY: callers pass pages of this memory.
        unsafe { self.base.add(page as usize * PAGE) }
    }

    fn write(&self, page: u32, value: u8) {
        // SAFETY: the page is this test's own, and the handler makes it writable.
        unsafe { self.at(page).write_volatile(value) }
    }

    fn read(&self, page: u32) -> u8 {
        // SAFETY: as in `write`.
        unsafe { self.at(page).read_volatile() }
    }

    fn dirty(&self) -> Vec<u32> {
        let state = self.region().state;
        (0..self.word(Word::ImagePages))
            .filter(|&page| state.is_dirty(page))
            .collect()
    }
}

/// Memory for the words of so many pages, and how many those are.
fn words_for(pages: u32) -> (*mut u8, usize) {
    let length = State::length(pages);
    (fresh(length), length / 4)
}

/// Memory of whole system pages, as JavaScript has it.
fn fresh(length: usize) -> *mut u8 {
    let (access, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new anonymous mapping touches no memory that exists.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    memory.cast()
}

impl Drop for Loom {
    fn drop(&mut self) {
        loom_detach(self.slot);
        // SAFETY: mapped in `beginning`, and no longer known to the handler.
        unsafe { libc::munmap(self.mapping.0, self.mapping.1) };
    }
}

fn temporary(bytes: &[u8]) -> File {
    let path = std::env::temp_dir().join(format!("loom-{:?}", std::thread::current().id()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path);
    let file = file.as_mut().unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    file.try_clone().unwrap()
}

/// What a child of this process finds, which may limit itself or be killed. It must neither
/// take locks nor allocate: other threads of this process, which it hasn't, may have been at it.
fn in_child(finds: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls the system, and looks at memory that is there.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(i32::from(finds()));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1
    }
}

/// Has the system refuse more of something, `RLIMIT_DATA` or the like.
fn limit(resource: u32, to: u64) {
    let limit = libc::rlimit {
        rlim_cur: to,
        rlim_max: to,
    };
    // SAFETY: a limit that is looked at only.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}
