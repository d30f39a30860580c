//! What the kernel tells of written pages.

use super::*;

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
    // Whatever the bitmap held before.
    let mut bitmap = [u32::MAX];
    assert_eq!(loom_copied(loom.slot, 2, 5, bitmap.as_mut_ptr()), 0);
    assert_eq!(bitmap, [1 << (3 - 2) | 1 << (6 - 2)]);
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
