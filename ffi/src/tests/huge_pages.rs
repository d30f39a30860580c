//! Dense pages put into huge ones: when, and that nothing is lost by it.

use super::*;
use crate::huge_page;
use std::hint::{black_box, spin_loop};

/// How many pages a huge one takes the place of.
const RANGE: u32 = 128;
const PAGES: u32 = 6 * RANGE;
/// The pages of the second range are opened as one, and those of the third.
const SECOND: u32 = RANGE;
const THIRD: u32 = 2 * RANGE;

/// A loom mapped from a file whose every page begins with its number, and the file.
fn mapped(gathering: u32) -> (Loom, File) {
    let (loom, file) = mapped_after(0, gathering);
    assert!((loom.base as usize).is_multiple_of(RANGE as usize * PAGE));
    (loom, file)
}

/// The same, so many pages after a place where a huge page may begin.
fn mapped_after(after: u32, gathering: u32) -> (Loom, File) {
    let mut bytes = vec![7; PAGES as usize * PAGE];
    for (page, content) in bytes.chunks_mut(PAGE).enumerate() {
        content[..4].copy_from_slice(&(page as u32).to_le_bytes());
    }
    let file = temporary(&bytes);
    let loom = Loom::beginning(PAGES, after);
    assert_eq!(loom.map(file.as_raw_fd(), &[[0, PAGES]], 1), 0);
    loom.set(Word::ImagePages, PAGES);
    loom.set(Word::MostAhead, 32);
    loom.set(Word::RecentFaults, 100);
    loom.set(Word::Gathering, gathering);
    (loom, file)
}

impl Loom {
    /// Writes all of the pages, or a word of each.
    fn write_all(&self, pages: impl Iterator<Item = u32>, length: usize) {
        for page in pages {
            // Or the compiler makes one write of all of them, in the order that it likes.
            let page = black_box(page);
            // SAFETY: the page is this test's own, and the handler makes it writable.
            unsafe { self.at(page).add(PAGE - length).write_bytes(9, length) };
        }
    }

    fn gathered(&self) -> Vec<u32> {
        let state = self.region().state;
        (0..PAGES / RANGE)
            .filter(|&range| state.is_gathered(range * RANGE))
            .collect()
    }

    /// Whether a page is what its file has.
    fn is_as_in_file(&self, page: u32) -> bool {
        // SAFETY: a page of this test's own.
        let bytes = unsafe { std::slice::from_raw_parts(self.at(page), PAGE) };
        bytes[..4] == page.to_le_bytes() && bytes[4..].iter().all(|byte| *byte == 7)
    }

    /// Whether some of a page lies in a mapping of a file.
    fn is_of_file(&self, page: u32) -> bool {
        self.lies_in(page, 8)
    }

    /// Whether a page can be written without a fault.
    fn is_open(&self, page: u32) -> bool {
        self.lies_in(page, 2)
    }

    /// Whether a page begins in a mapping that is of a kind.
    fn lies_in(&self, page: u32, kind: u32) -> bool {
        let mut list = vec![0u32; 3 * 4096];
        let count = loom_mappings(self.slot, list.as_mut_ptr(), 4096) as usize;
        list.chunks(3).take(count).any(|mapping| {
            (mapping[0]..mapping[0] + mapping[1]).contains(&(page * 4)) && mapping[2] & kind != 0
        })
    }
}

#[test]
fn pages_written_whole_and_in_order_are_put_into_huge_ones() {
    let _enough = enough_mappings();
    for downwards in [false, true] {
        let (loom, file) = mapped(1);
        let nth = |index| if downwards { PAGES - 1 - index } else { index };
        // Half of the fourth range.
        let written = 3 * RANGE + RANGE / 2;
        loom.write_all((0..written).map(nth), PAGE);
        let expected: Vec<_> = if downwards {
            vec![2, 3, 4]
        } else {
            vec![1, 2, 3]
        };
        assert_eq!(loom.gathered(), expected);
        for index in 0..PAGES {
            let page = nth(index);
            assert_eq!(loom.is_as_in_file(page), index >= written, "page {page}");
            assert_eq!(loom.is_of_file(page), !expected.contains(&(page / RANGE)));
        }
        // Many runs at once: their copies are given back where there are any.
        let runs: Vec<_> = (0..PAGES).step_by(32).map(|first| [first, 32]).collect();
        assert_eq!(loom.map(file.as_raw_fd(), &runs, 1), 0);
        assert!(loom.gathered().is_empty());
        assert!((0..PAGES).all(|page| loom.is_as_in_file(page) && loom.is_of_file(page)));
    }
}

#[test]
fn ranges_are_aligned_in_memory_wherever_the_region_begins() {
    let _enough = enough_mappings();
    let (loom, _file) = mapped_after(5, 1);
    loom.write_all(0..PAGES, PAGE);
    let state = loom.region().state;
    let gathered: Vec<_> = (0..PAGES).filter(|&page| state.is_gathered(page)).collect();
    assert_eq!(gathered, Vec::from_iter(2 * RANGE - 5..PAGES - 5));
    assert!((0..PAGES).all(|page| !loom.is_as_in_file(page)));
}

#[test]
fn where_it_would_take_more_memory_or_copying_it_is_left() {
    let _enough = enough_mappings();
    let word = 8;
    let left = |gathering: u32, length: usize, prepare: &dyn Fn(&Loom)| {
        let (loom, _file) = mapped(gathering);
        prepare(&loom);
        loom.write_all(0..THIRD, length);
        let gathered = loom.gathered();
        assert!(gathered.is_empty() || gathered == [1], "{gathered:?}");
        gathered.is_empty()
    };
    let own = |loom: &Loom| loom.mark(3, SECOND + 9);
    let nothing = |_: &Loom| {};
    assert!(left(0, PAGE, &nothing));
    assert!(!left(1, PAGE, &nothing));
    assert!(left(1, word, &nothing));
    assert!(left(1, PAGE, &own));
    assert!(!left(2, word, &nothing));
    assert!(!left(2, PAGE, &own));
}

#[test]
fn pages_that_others_may_be_about_are_left() {
    let _enough = enough_mappings();
    let written = |loom: &Loom| loom.write(SECOND + 50, 3);
    let opened = |loom: &Loom| {
        assert_eq!(loom_protect(loom.slot, SECOND + 50, 1, 2), 0);
        loom.region().state.mark_opened(SECOND + 50);
    };
    let held = |loom: &Loom| {
        assert_eq!(loom_reserve_aside(loom.slot), 0);
        loom.mark(2, SECOND + 50);
    };
    let guarded = |loom: &Loom| {
        assert_eq!(loom_protect(loom.slot, SECOND + 50, 1, 0), 0);
        loom.set(Word::GuardPage, SECOND + 50);
    };
    // The fourth range is written by none of these.
    let moving = |loom: &Loom| loom.set(Word::Moving, 3 * RANGE);
    type Case<'a> = (&'a str, &'a dyn Fn(&Loom));
    let cases: [Case; 5] = [
        ("written", &written),
        ("opened", &opened),
        ("held", &held),
        ("guarded", &guarded),
        ("moving", &moving),
    ];
    for (name, prepare) in cases {
        for downwards in [false, true] {
            let (loom, _file) = mapped(2);
            prepare(&loom);
            if downwards {
                loom.write_all((SECOND + 90..3 * RANGE).rev(), PAGE);
            } else {
                loom.write_all(0..SECOND + 40, PAGE);
            }
            assert!(!loom.gathered().contains(&1), "{name}");
        }
    }
    // Nor are those that another thread writes.
    let (loom, _file) = mapped(2);
    std::thread::scope(|scope| {
        scope.spawn(|| loom.write_all(0..THIRD, PAGE));
    });
    assert!(loom.gathered().is_empty());
}

#[test]
fn a_page_that_is_on_its_way_is_not_opened() {
    let _enough = enough_mappings();
    let (loom, _file) = mapped(2);
    loom.set(Word::Moving, SECOND);
    assert_eq!(loom_touch(loom.slot, SECOND + 1, 1), 0);
    assert_eq!(loom_touch(loom.slot, THIRD, 1), 0);
    let state = loom.region().state;
    assert!(state.is_dirty(SECOND + 1) && state.is_dirty(THIRD));
    let is_moving = |first, end| huge_page::is_moving(&loom.region(), first, end);
    assert!(is_moving(SECOND, SECOND + 1) && is_moving(THIRD - 1, THIRD));
    assert!(is_moving(0, PAGES) && is_moving(SECOND + 3, SECOND + 9));
    assert!(!is_moving(0, SECOND) && !is_moving(THIRD, PAGES));
    let writable: Vec<_> = (0..PAGES).filter(|&page| loom.is_open(page)).collect();
    assert_eq!(writable, [THIRD]);
}

#[test]
fn what_other_threads_write_meanwhile_is_not_lost() {
    let _enough = enough_mappings();
    let mut gathered = 0;
    for round in 1..=100u8 {
        let (loom, _file) = mapped(2);
        let next = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (loom, next) = (&loom, &next);
                // Each has a byte of its own, and writes it some time after a range has begun.
                scope.spawn(move || {
                    for first in (0..PAGES).step_by(RANGE as usize) {
                        while next.load(Ordering::SeqCst) < first {
                            spin_loop();
                        }
                        for _ in 0..u32::from(round % 25) * 80 {
                            spin_loop();
                        }
                        // SAFETY: nobody else writes this byte.
                        unsafe {
                            loom.at(first + thread)
                                .add(thread as usize)
                                .write_volatile(round)
                        };
                    }
                });
            }
            for page in 0..PAGES {
                next.store(page, Ordering::SeqCst);
                loom.write_all(page..page + 1, PAGE - 8);
            }
        });
        gathered += loom.gathered().len();
        for page in 0..PAGES {
            // SAFETY: a page of this test's own.
            let bytes = unsafe { std::slice::from_raw_parts(loom.at(page), PAGE) };
            if page % RANGE < 2 {
                assert_eq!(
                    bytes[(page % RANGE) as usize],
                    round,
                    "page {page}, round {round}"
                );
            }
            assert!(bytes[8..].iter().all(|byte| *byte == 9), "page {page}");
        }
    }
    assert!(gathered > 0);
}

#[test]
fn pages_that_their_file_has_lost_are_left() {
    let _enough = enough_mappings();
    let (loom, file) = mapped(2);
    loom.write_all(0..SECOND, PAGE);
    file.set_len(u64::from(SECOND + 20) * PAGE as u64).unwrap();
    loom.write(SECOND, 3);
    assert!(loom.gathered().is_empty());
    assert!(loom.region().state.is_writable(SECOND + 100));
    assert_eq!(loom.read(SECOND + 19), (SECOND + 19) as u8);
}

#[test]
fn a_longer_run_of_another_thread_leaves_pages_that_are_on_their_way() {
    let _enough = enough_mappings();
    let (loom, _file) = mapped(2);
    loom.set(Word::Moving, SECOND);
    // So many that each fault opens more than a range.
    loom.set(Word::Mappings, 45_000);
    loom.write(0, 3);
    let state = loom.region().state;
    assert!(
        state.is_opened(SECOND + 5),
        "whoever moves it sees that it is wanted"
    );
    assert!(!loom.is_open(SECOND + 5), "a write would be lost");
    assert!(!loom.is_open(1));
    loom.set(Word::Moving, NO_PAGE);
    loom.write(2, 4);
    assert!(loom.is_open(1) && loom.is_open(SECOND + 5));
    assert_eq!(
        [0, 2, SECOND + 5].map(|page| loom.read(page)),
        [3, 4, (SECOND + 5) as u8]
    );
}

#[test]
fn a_word_of_each_page_keeps_being_gathered_where_all_that_is_written_is() {
    let _enough = enough_mappings();
    let (loom, _file) = mapped(2);
    loom.write_all(0..PAGES, 8);
    assert_eq!(loom.gathered(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_guard_page_in_a_huge_one_is_not_looked_into() {
    let _enough = enough_mappings();
    for gathering in [1, 2] {
        let (loom, _file) = mapped(gathering);
        loom.write_all(0..THIRD, PAGE);
        assert_eq!(loom.gathered(), [1]);
        // Where words of the range are compared.
        let guard = SECOND + 4;
        assert_eq!(loom_protect(loom.slot, guard, 1, 0), 0);
        loom.set(Word::GuardPage, guard);
        loom.write(THIRD, 3);
        assert_eq!(loom.gathered(), [1]);
    }
}

#[test]
fn a_huge_page_of_which_little_was_written_brings_about_no_other() {
    let _enough = enough_mappings();
    for (gathering, length) in [(1, PAGE), (2, 8)] {
        let (loom, _file) = mapped(gathering);
        loom.write_all(0..SECOND, length);
        for range in 1..PAGES / RANGE {
            loom.write_all(std::iter::once(range * RANGE), 8);
        }
        assert_eq!(loom.gathered(), [1], "{gathering}");
        for page in (0..PAGES).filter(|page| page % RANGE != 0 && *page >= SECOND) {
            assert!(loom.is_as_in_file(page), "{page}");
        }
    }
}

#[test]
fn a_page_of_zeros_in_a_huge_one_counts_as_copied_when_that_is_split() {
    let _enough = enough_mappings();
    let (loom, _file) = mapped(1);
    loom.write_all(0..=SECOND, PAGE);
    assert_eq!(loom.gathered(), [1]);
    for page in SECOND + 8..SECOND + 16 {
        // SAFETY: a page of this test's own, which is open.
        unsafe { loom.at(page).write_bytes(0, PAGE) };
    }
    // SAFETY: advice about memory of this test's own. For a part of it the kernel splits a
    // huge page, and maps all pages of zeros to one that is shared.
    unsafe { libc::madvise(loom.at(SECOND).cast(), 4 * PAGE, libc::MADV_COLD) };
    let mut bits = [0u32; (PAGES / 32) as usize];
    let result = loom_copied(loom.slot, 0, PAGES, bits.as_mut_ptr());
    assert_eq!(result, 0);
    for page in SECOND..THIRD {
        assert!(bits[page as usize / 32] & 1 << (page % 32) != 0, "{page}");
    }
}
