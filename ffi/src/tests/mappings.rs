//! What lies where: files, fresh memory, the region itself.

use super::*;

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
fn pages_that_are_opened_at_once_have_what_the_file_has_and_take_no_fault() {
    let file = temporary(&[5; 64 * PAGE]);
    let loom = Loom::new(64);
    assert_eq!(loom.map(file.as_raw_fd(), &[[0, 64]], 1), 0);
    loom.set(Word::ImagePages, 64);
    let mut faults = 0;
    for written in [&[3, 9, 10, 30, 31, 40, 50][..], &[3, 40], &[20]] {
        for &page in written {
            // One that was written and protected where it lies is closed, too.
            loom.write(page, 9);
            assert_eq!(loom_protect(loom.slot, page, 1, 1), 0);
            loom.clean_one(page);
        }
        faults += loom.word(Word::Faults);
        loom.set(Word::Faults, 0);
        let runs: Vec<_> = written.iter().map(|&page| [page, 1]).collect();
        assert_eq!(loom.renew(file.as_raw_fd(), &runs, 1, 1), 0);
        let state = loom.region().state;
        for &page in written {
            assert_eq!(loom.read(page), 5);
            assert!(state.is_writable(page) && !state.is_dirty(page));
            loom.write(page, 8);
        }
        assert_eq!((loom.word(Word::Faults), loom.dirty().len()), (0, 0));
        assert_eq!(loom_scan_written(loom.slot, 2), 0);
        assert_eq!(loom.dirty(), written);
        assert_eq!(loom.map(file.as_raw_fd(), &runs, 1), 0);
        assert_eq!(loom.dirty().len(), 0);
    }
    assert_eq!(faults, 10);
    assert!(!loom.region().opens_clean);
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
fn touched_pages_are_those_that_were_written() {
    let loom = Loom::new(100);
    for page in [3, 4, 64, 99] {
        loom.write(page, 1);
    }
    // A read alone maps the zero page, which is no content.
    assert_eq!(loom.read(50), 0);
    let mut bitmap = [0u32; 4];
    assert_eq!(loom_touched(loom.slot, 0, 100, bitmap.as_mut_ptr()), 100);
    assert_eq!(bitmap, [0b11000, 0, 1, 0b1000]);
    assert_eq!(loom_discard(loom.slot, 60, 40), 0);
    assert_eq!(loom_touched(loom.slot, 0, 100, bitmap.as_mut_ptr()), 5);
    assert_eq!(bitmap, [0b11000, 0, 0, 0]);
    assert_eq!(loom_touched(loom.slot, 2, 98, std::ptr::null_mut()), 3);
    assert_eq!(loom_touched(loom.slot, 5, 95, std::ptr::null_mut()), 0);
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
