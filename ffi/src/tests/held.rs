//! Pages as a save wants them: hashed, and as they were.

use super::*;

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
    for round in 0..50u8 {
        loom.hold_all(true);
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
