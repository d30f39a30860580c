//! The handler and the mappings against real memory: regions are attached as
//! TypeScript attaches them, and written from this process and its threads.

use crate::aside::{loom_gather, loom_is_as_kept, loom_let_go, loom_reserve_aside};
use crate::checksum::loom_checksum_pages;
use crate::fault;
use crate::inspect::{loom_mappings, loom_touched};
use crate::kernel_tracker::{
    loom_arm, loom_can_scan, loom_close_userfaultfd, loom_open_userfaultfd, loom_scan_written,
};
use crate::mapping::{
    loom_discard, loom_map_anonymous, loom_map_scratch, loom_protect, loom_touch,
};
use crate::region::{Region, loom_attach, loom_detach, loom_is_at, loom_resize, loom_set_scratch};
use crate::renew::loom_renew;
use crate::state::{BITMAPS, FLAG_EXHAUSTED, HEADER_WORDS, NO_PAGE, Word};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard};

const PAGE: usize = 16384;

/// The budget of mappings is the process's: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Anonymous memory, attached, and all of it dirty; detached and unmapped at the end.
struct Loom {
    _turn: MutexGuard<'static, ()>,
    base: *mut u8,
    pages: u32,
    slot: u32,
    words: Vec<AtomicU32>,
}

// SAFETY: the memory outlives every thread that these tests start.
unsafe impl Sync for Loom {}

impl Loom {
    fn new(pages: u32) -> Self {
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let length = pages as usize * PAGE;
        // SAFETY: a new anonymous mapping touches no memory that exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        let bitmap = pages.div_ceil(32) as usize;
        let mut words: Vec<_> = (0..HEADER_WORDS + BITMAPS * bitmap)
            .map(|_| AtomicU32::new(0))
            .collect();
        words[HEADER_WORDS..HEADER_WORDS + bitmap].fill_with(|| AtomicU32::new(u32::MAX));
        words[Word::GuardPage as usize] = AtomicU32::new(NO_PAGE);
        words[Word::HighPage as usize] = AtomicU32::new(pages);
        let slot = loom_attach(base.cast(), words.as_mut_ptr(), pages, PAGE as u32, pages);
        assert!(slot >= 0, "{slot}");
        Self {
            _turn: turn,
            base: base.cast(),
            pages,
            slot: slot as u32,
            words,
        }
    }

    /// Maps runs of pages, each a first page and how many, from a file.
    fn map(&self, file: i32, runs: &[[u32; 2]], access: u32) -> i32 {
        // SAFETY: as many runs as are there.
        unsafe {
            loom_renew(
                self.slot,
                file,
                runs.as_ptr().cast(),
                runs.len() as u32,
                access,
                1,
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
        for page in 0..count {
            let word = &self.words[HEADER_WORDS + page as usize / 32];
            word.fetch_and(!(1 << (page % 32)), Ordering::SeqCst);
        }
        self.set(Word::ImagePages, count);
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

impl Drop for Loom {
    fn drop(&mut self) {
        loom_detach(self.slot);
        // SAFETY: mapped in `new`, and no longer known to the handler.
        unsafe { libc::munmap(self.base.cast(), self.pages as usize * PAGE) };
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

#[test]
fn a_first_write_marks_its_page_and_no_other() {
    let loom = Loom::new(64);
    loom.clean(64);
    assert_eq!(loom.read(9), 0);
    loom.write(7, 1);
    loom.write(7, 2);
    loom.write(40, 3);
    assert_eq!(loom.dirty(), [7, 40]);
    assert_eq!(loom.word(Word::Faults), 2);
    assert_eq!((loom.read(7), loom.read(40)), (2, 3));
}

#[test]
fn a_region_is_as_large_as_was_last_said_and_no_larger_than_its_words() {
    let loom = Loom::new(64);
    assert_eq!(loom_resize(loom.slot, 32), 0);
    assert_eq!(loom_protect(loom.slot, 32, 1, 1), -libc::EINVAL);
    assert!(Region::find(loom.at(32) as usize).is_none());
    assert_eq!(loom_resize(loom.slot, 64), 0);
    loom.clean(64);
    loom.write(40, 1);
    assert_eq!(loom.dirty(), [40]);
    assert_eq!(loom_resize(loom.slot, 65), -libc::EINVAL);
}

#[test]
fn threads_that_fault_on_the_same_pages_all_write() {
    let loom = Loom::new(256);
    for round in 1..=50u8 {
        loom.clean(256);
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for thread in 0..4usize {
                let (loom, barrier) = (&loom, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for page in 0..256 {
                        // SAFETY: each thread has a byte of its own in every page.
                        unsafe { loom.at(page).add(thread).write_volatile(round) }
                    }
                });
            }
        });
        assert_eq!(loom.dirty().len(), 256);
        for page in 0..256 {
            // SAFETY: the first four bytes of a page of this test's own.
            let bytes = unsafe { std::slice::from_raw_parts(loom.at(page), 4) };
            assert_eq!(bytes, [round; 4]);
        }
    }
}

#[test]
fn isolated_writes_stay_within_the_budget_of_mappings() {
    let loom = Loom::new(400_000);
    loom.clean(400_000);
    for page in (0..400_000).step_by(2) {
        loom.write(page, 1);
    }
    let mut list = vec![0u32; 3];
    let mappings = loom_mappings(loom.slot, list.as_mut_ptr(), 1);
    let limit = crate::inspect::map_limit().unwrap();
    assert!((mappings as u32) < limit * 7 / 8, "{mappings} of {limit}");
    assert!(loom.region().state.opened_runs().count() > 0);
    let state = loom.region().state;
    assert!((0..400_000).step_by(2).all(|page| state.is_writable(page)));
}

#[test]
fn where_faults_come_thick_neighbours_are_opened_too() {
    let loom = Loom::new(4096);
    loom.clean(4096);
    loom.set(Word::MostAhead, 16);
    for page in (0..4096).step_by(16).take(64) {
        loom.write(page, 1);
    }
    assert_eq!(loom.region().state.opened_runs().count(), 0);
    for page in 2048..4096 {
        loom.write(page, 1);
    }
    assert!(loom.word(Word::Faults) < 500, "{}", loom.word(Word::Faults));
    let state = loom.region().state;
    assert!((2048..4096).all(|page| state.is_writable(page)));
}

#[test]
fn a_file_is_mapped_privately() {
    let mut file = temporary(&[5; 4 * PAGE]);
    let loom = Loom::new(8);
    assert_eq!(loom.map(file.as_raw_fd(), &[[0, 4]], 1), 0);
    loom.clean(4);
    assert_eq!(loom.read(2), 5);
    loom.write(2, 6);
    assert_eq!(loom.dirty(), [2]);
    use std::io::{Read, Seek};
    let mut bytes = vec![];
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 5));
}

#[test]
fn many_pages_are_made_what_the_file_has_whatever_lies_there() {
    let file = temporary(&[5; 64 * PAGE]);
    let loom = Loom::new(80);
    assert_eq!(loom.map(file.as_raw_fd(), &[[0, 64]], 1), 0);
    loom.set(Word::ImagePages, 64);
    assert_eq!(loom_map_anonymous(loom.slot, 20, 2), 0);
    loom.set(Word::GuardPage, 30);
    assert_eq!(loom_protect(loom.slot, 30, 1, 0), 0);
    let written: Vec<u32> = (0..64)
        .filter(|page| page % 3 == 1 || *page == 21)
        .collect();
    for round in 1..3 {
        for &page in &written {
            loom.write(page, 9);
        }
        // A page between them that stays as it is.
        loom.write(11, 7);
        assert!(loom.dirty().contains(&11));
        let runs: Vec<_> = written.iter().map(|&page| [page, 1]).collect();
        assert_eq!(loom.map(file.as_raw_fd(), &runs, 1), 0);
        assert_eq!(loom.dirty(), [11]);
        for &page in &written {
            assert_eq!(loom.read(page), 5, "page {page}");
        }
        assert_eq!(loom.read(11), 7);
        loom.write(11, 8);
        // At first page 21 is open, and then page 11.
        assert_eq!(loom.word(Word::Faults), round * written.len() as u32);
    }
    let mut list = vec![0u32; 3 * 64];
    let mappings = loom_mappings(loom.slot, list.as_mut_ptr(), 64) as usize;
    let guard = list[..3 * mappings]
        .chunks(3)
        .find(|run| run[0] <= 120 && 120 < run[0] + run[1]);
    assert_eq!(guard.map(|run| (run[1], run[2] & 3)), Some((4, 0)));
}

#[test]
fn a_scratch_file_takes_pages_with_their_content() {
    let image = temporary(&[5; 4 * PAGE]);
    let scratch = temporary(&[]);
    scratch.set_len(8 * PAGE as u64).unwrap();
    let loom = Loom::new(8);
    assert_eq!(loom_map_scratch(loom.slot, scratch.as_raw_fd(), 0, 8), 0);
    assert_eq!(loom_set_scratch(loom.slot, scratch.as_raw_fd(), 1), 0);
    assert_eq!(loom.map(image.as_raw_fd(), &[[0, 4]], 1), 0);
    loom.clean(4);
    loom.write(1, 9);
    // SAFETY: the second byte of a page of this test's own.
    assert_eq!(unsafe { loom.at(1).add(1).read_volatile() }, 5);
    let mut bytes = [0; 2];
    use std::os::unix::fs::FileExt;
    scratch.read_exact_at(&mut bytes, PAGE as u64).unwrap();
    assert_eq!(bytes, [9, 5]);
    assert_eq!(loom.word(Word::ScratchFailures), 0);
}

#[test]
fn the_guard_page_moves_to_the_middle_of_what_is_left_until_nothing_is() {
    let loom = Loom::new(64);
    loom.set(Word::LowPage, 8);
    loom.set(Word::HighPage, 56);
    loom.set(Word::GuardPage, 32);
    assert_eq!(loom_protect(loom.slot, 32, 1, 0), 0);
    let mut guards = vec![];
    for page in 8..56 {
        loom.write(page, 1);
        if guards.last() != Some(&loom.word(Word::GuardPage)) {
            guards.push(loom.word(Word::GuardPage));
        }
    }
    assert_eq!(guards, [32, 44, 50, 53, 54, 55, NO_PAGE]);
    assert_eq!(loom.word(Word::Flags), FLAG_EXHAUSTED);
    assert!((8..56).all(|page| loom.read(page) == 1));
}

#[test]
fn a_heap_that_runs_into_the_stack_exhausts_memory() {
    let loom = Loom::new(128);
    loom.set(Word::LowPage, 52);
    loom.set(Word::HighPage, 66);
    loom.set(Word::GuardPage, 59);
    assert_eq!(loom_protect(loom.slot, 59, 1, 0), 0);
    for page in (66..128).chain(0..70) {
        loom.write(page, 1);
    }
    assert_eq!(loom.word(Word::GuardPage), NO_PAGE);
    assert_eq!(loom.word(Word::Flags), FLAG_EXHAUSTED);
}

#[test]
fn the_guard_page_is_hit_by_the_stack_too() {
    let loom = Loom::new(64);
    loom.set(Word::GuardPage, 32);
    assert_eq!(loom_protect(loom.slot, 32, 1, 0), 0);
    for page in (32..64).rev() {
        loom.write(page, 1);
    }
    assert_eq!(loom.word(Word::GuardPage), 16);
    assert_eq!(loom.word(Word::GuardHits), 1);
}

#[test]
fn touched_pages_are_those_that_were_written() {
    let loom = Loom::new(100);
    for page in [3, 4, 64, 99] {
        loom.write(page, 1);
    }
    // A read alone maps the zero page, which is no content.
    assert_eq!(loom.read(50), 0);
    let mut bitmap = [0u32; 4];
    assert_eq!(loom_touched(loom.slot, 0, 100, bitmap.as_mut_ptr()), 0);
    assert_eq!(bitmap, [0b11000, 0, 1, 0b1000]);
    assert_eq!(loom_discard(loom.slot, 60, 40), 0);
    assert_eq!(loom_touched(loom.slot, 0, 100, bitmap.as_mut_ptr()), 0);
    assert_eq!(bitmap, [0b11000, 0, 0, 0]);
}

#[test]
fn touching_opens_pages_for_the_kernel() {
    let mut source = temporary(&[7; PAGE]);
    let loom = Loom::new(8);
    loom.clean(8);
    assert_eq!(loom_touch(loom.slot, 2, 3), 0);
    assert_eq!(loom.dirty(), [2, 3, 4]);
    use std::io::{Read, Seek};
    source.rewind().unwrap();
    // SAFETY: a page of this test's own, opened just now.
    let bytes = unsafe { std::slice::from_raw_parts_mut(loom.at(3), PAGE) };
    source.read_exact(bytes).unwrap();
    assert_eq!(loom.read(3), 7);
}

#[test]
fn a_region_is_found_by_address_until_it_is_detached() {
    let loom = Loom::new(4);
    let inside = loom.base as usize + 3 * PAGE + 5;
    assert_eq!(Region::find(inside).map(|(_, page)| page), Some(3));
    assert!(
        Region::find(loom.base as usize + 4 * PAGE)
            .is_none_or(|(r, _)| r.base != loom.base as usize)
    );
    assert_eq!(loom_is_at(loom.slot, loom.base), 1);
    loom_detach(loom.slot);
    assert!(Region::find(inside).is_none());
}

#[test]
fn wrong_arguments_are_refused() {
    let loom = Loom::new(4);
    assert_eq!(loom_protect(loom.slot, 3, 2, 1), -libc::EINVAL);
    assert_eq!(loom_protect(loom.slot, u32::MAX, 2, 1), -libc::EINVAL);
    assert_eq!(loom_map_anonymous(63, 0, 1), -libc::EINVAL);
    assert_eq!(loom.map(-1, &[[0, 1]], 1), -libc::EBADF);
    assert_eq!(fault::install(), 0);
}

#[test]
fn the_kernel_tells_which_pages_of_a_mapped_file_were_written() {
    let file = temporary(&[5; 8 * PAGE]);
    let loom = Loom::new(8);
    assert_eq!(loom_can_scan(loom.slot), 0);
    assert_eq!(loom.map(file.as_raw_fd(), &[[0, 8]], 2), 0);
    loom.set(Word::ImagePages, 8);
    loom.words[HEADER_WORDS].store(0, Ordering::SeqCst);
    assert_eq!(loom.read(1), 5);
    loom.write(3, 6);
    loom.write(6, 7);
    assert_eq!(loom_scan_written(loom.slot, 0), 0);
    assert_eq!(loom.dirty(), [3, 6]);
    assert_eq!(loom.word(Word::Faults), 0);
}

#[test]
fn the_kernel_tells_which_armed_pages_were_written() {
    let userfaultfd = loom_open_userfaultfd();
    if userfaultfd < 0 {
        eprintln!("skipped: this system refuses userfaultfd ({userfaultfd})");
        return;
    }
    let loom = Loom::new(8);
    for page in 0..6 {
        loom.write(page, 5);
    }
    loom.set(Word::ImagePages, 8);
    loom.words[HEADER_WORDS].store(0, Ordering::SeqCst);
    assert_eq!(loom_arm(loom.slot, userfaultfd, 0, 8, 1), 0);
    assert_eq!(loom_scan_written(loom.slot, 1), 0);
    assert_eq!(loom.dirty(), []);
    loom.write(3, 6);
    loom.write(7, 7);
    assert_eq!(loom_scan_written(loom.slot, 1), 0);
    assert_eq!(loom.dirty(), [3, 7]);
    loom_close_userfaultfd(userfaultfd);
}

#[test]
fn pages_hash_as_the_format_says_however_many_there_are() {
    // A page of zeros, and pages of a pattern hashed word by word.
    let words: Vec<u32> = (0..21 * 4096u32)
        .map(|at| if at < 4096 { 0 } else { at * 7919 })
        .collect();
    let mut alone = [0u32; 21];
    for (page, sum) in alone.iter_mut().enumerate() {
        // SAFETY: one page of the vector, and one word for its sum.
        unsafe { loom_checksum_pages(words[page * 4096..].as_ptr(), 4096, 1, sum) };
    }
    assert_eq!(alone[0], 0xf9b4_b0e0);
    for count in 0..=21 {
        let mut together = vec![0u32; count];
        // SAFETY: so many pages of the vector, and as many words.
        unsafe { loom_checksum_pages(words.as_ptr(), 4096, count as u32, together.as_mut_ptr()) };
        assert_eq!(together, alone[..count]);
    }
}

#[test]
fn a_held_page_is_gathered_as_it_was_whoever_writes_it_meanwhile() {
    let loom = Loom::new(64);
    for page in 0..64 {
        loom.write(page, page as u8);
    }
    assert_eq!(loom_reserve_aside(loom.slot), 0);
    let held = |on: u32| {
        for word in 0..2 {
            let at = HEADER_WORDS + 2 * 2 + word;
            loom.words[at].store(on, Ordering::SeqCst);
        }
    };
    for round in 0..50u8 {
        held(u32::MAX);
        loom.clean(64);
        let start = Barrier::new(3);
        let mut copies = vec![0u8; 64 * PAGE];
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    start.wait();
                    for page in (0..64).step_by(2) {
                        loom.write(page, loom.read(page).max(100 + round));
                    }
                });
            }
            start.wait();
            let pages: Vec<u32> = (0..64).collect();
            let mut sums = [0u32; 64];
            // SAFETY: the vectors are as long as the call needs.
            let result = unsafe {
                loom_gather(
                    loom.slot,
                    pages.as_ptr(),
                    64,
                    copies.as_mut_ptr(),
                    sums.as_mut_ptr(),
                )
            };
            assert_eq!(result, 0);
        });
        for page in 0..64u32 {
            let written = page % 2 == 0;
            let before = if written && round > 0 {
                (100 + round - 1).max(page as u8)
            } else {
                page as u8
            };
            assert_eq!(
                copies[page as usize * PAGE],
                before,
                "page {page}, round {round}"
            );
            assert_eq!(
                loom_is_as_kept(loom.slot, page),
                i32::from(written && loom.read(page) == before)
            );
        }
        assert_eq!(loom_let_go(loom.slot), 0);
        assert_eq!(loom_is_as_kept(loom.slot, 0), 0);
    }
}

#[test]
fn the_guard_is_never_posted_on_a_held_page() {
    let loom = Loom::new(64);
    loom.clean(40);
    for page in 0..20 {
        loom.write(page, 1);
    }
    assert_eq!(loom_reserve_aside(loom.slot), 0);
    loom.set(Word::LowPage, 20);
    loom.set(Word::GuardPage, 42);
    assert_eq!(loom_protect(loom.slot, 42, 1, 0), 0);
    // The middle between the guard and the low watermark is held.
    loom.words[HEADER_WORDS + 2 * 2].store(u32::MAX, Ordering::SeqCst);
    loom.words[HEADER_WORDS + 2 * 2 + 1].store(u32::MAX, Ordering::SeqCst);
    loom.write(43, 1);
    loom.write(42, 1);
    assert_eq!(loom.word(Word::GuardPage), NO_PAGE);
    assert_eq!(loom.word(Word::Flags), 0);
    assert_eq!(loom.word(Word::GuardHits), 1);
}
