//! What a first write does, and how many pages it opens.

use super::*;
use crate::fault::once;
use crate::lost_page::is_anonymous;

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
    let _alone = MAPPINGS.write().unwrap_or_else(PoisonError::into_inner);
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
    let _enough = enough_mappings();
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
fn pages_written_in_order_are_opened_in_longer_and_longer_runs() {
    let _enough = enough_mappings();
    for downwards in [false, true] {
        let loom = Loom::new(1024);
        loom.clean(1000);
        loom.set(Word::MostAhead, 32);
        let faults_until = |count: u32| {
            let before = loom.word(Word::Faults);
            for index in 0..count {
                loom.write(if downwards { 511 - index } else { index }, 1);
            }
            loom.word(Word::Faults) - before
        };
        assert_eq!(faults_until(64), 64);
        // Then 64 pages, and twice 128.
        for (count, faults) in [(65, 1), (128, 0), (384, 2)] {
            assert_eq!(faults_until(count), faults, "{count}");
        }
        let state = loom.region().state;
        let opened = (0..1000).filter(|&page| state.is_writable(page)).count();
        assert_eq!(opened, 384);
    }
}

#[test]
fn what_lies_beyond_the_image_is_no_sign_of_dense_writes() {
    let _enough = enough_mappings();
    // Neither before a run of its own, nor in the last run of the image.
    for pages in [992, 1000] {
        let loom = Loom::new(1024);
        loom.clean(pages);
        loom.set(Word::MostAhead, 32);
        loom.set(Word::RecentFaults, 100);
        loom.write(pages - 1, 1);
        assert_eq!(loom.region().state.opened_runs().count(), 0);
    }
}

#[test]
fn of_pages_that_are_held_a_run_is_opened_by_the_eighth_write() {
    let _enough = enough_mappings();
    let loom = Loom::new(256);
    assert_eq!(loom_reserve_aside(loom.slot), 0);
    loom.hold_all(true);
    loom.clean(256);
    loom.set(Word::MostAhead, 32);
    loom.set(Word::RecentFaults, 100);
    for page in 0..128 {
        loom.write(page, 1);
    }
    assert_eq!(loom.word(Word::Faults), 4 * 8);
    assert!(!loom.region().state.is_writable(128));
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
fn what_a_refused_touch_has_opened_is_dirty() {
    let file = temporary(&[7; 8 * PAGE]);
    let loom = Loom::new(8);
    assert_eq!(loom.map(file.as_raw_fd(), &[[0, 8]], 1), 0);
    loom.set(Word::ImagePages, 8);
    loom.write(2, 1);
    let marked = in_child(|| {
        // The kernel opens what lies before page 6, and finds that it isn't readable then.
        // SAFETY: a page of this test's own.
        unsafe { libc::munmap(loom.at(6).cast(), PAGE) };
        loom_touch(loom.slot, 0, 8) == -libc::ENOMEM
            && (0..6).all(|page| {
                loom.write(page, 1);
                loom.region().state.is_dirty(page)
            })
    });
    assert!(marked);
}

#[test]
fn memory_that_has_failed_is_no_first_write() {
    let loom = Loom::new(64);
    loom.clean(64);
    // What the kernel tells of it: BUS_MCEERR_AR, 4.
    let mut info = [0u8; 128];
    info[..4].copy_from_slice(&libc::SIGBUS.to_ne_bytes());
    info[8..12].copy_from_slice(&4i32.to_ne_bytes());
    info[16..24].copy_from_slice(&(loom.at(7) as usize).to_ne_bytes());
    let is_dirty = in_child(|| {
        // SAFETY: as much of the signal as the kernel looks at.
        unsafe {
            let (process, thread) = (libc::getpid(), libc::syscall(libc::SYS_gettid));
            let call = libc::SYS_rt_tgsigqueueinfo;
            libc::syscall(call, process, thread, libc::SIGBUS, info.as_ptr());
        }
        loom.region().state.is_dirty(7)
    });
    assert!(!is_dirty);
}

#[test]
fn of_threads_that_fault_on_one_lost_page_none_loses_what_it_writes() {
    const COUNT: u32 = 512;
    let system_page = crate::region::system_page_size();
    let file = temporary(&[5; COUNT as usize * PAGE]);
    let loom = Loom::new(COUNT);
    assert_eq!(loom.map(file.as_raw_fd(), &[[0, COUNT]], 1), 0);
    loom.set(Word::ImagePages, COUNT);
    assert_eq!(loom_touch(loom.slot, 0, COUNT), 0);
    file.set_len(0).unwrap();
    let places = COUNT as usize * PAGE / system_page;
    let at = [AtomicU32::new(0), AtomicU32::new(0)];
    std::thread::scope(|scope| {
        for thread in 0..2usize {
            let (loom, at) = (&loom, &at);
            scope.spawn(move || {
                for place in 0..places {
                    at[thread].store(place as u32 + 1, Ordering::SeqCst);
                    while at[1 - thread].load(Ordering::SeqCst) <= place as u32 {
                        std::hint::spin_loop();
                    }
                    // SAFETY: each thread has a byte of its own in every system page.
                    unsafe {
                        loom.base
                            .add(place * system_page + thread)
                            .write_volatile(7)
                    }
                }
            });
        }
    });
    let lost = (0..places).filter(|place| {
        // SAFETY: the first two bytes of a system page of this test's own.
        let bytes = unsafe { std::slice::from_raw_parts(loom.base.add(place * system_page), 2) };
        bytes != [7; 2]
    });
    assert_eq!(lost.count(), 0, "of {places}");
    assert_ne!(loom.word(Word::Flags) & crate::state::FLAG_IMAGE_LOST, 0);
}

#[test]
fn the_page_map_tells_what_has_been_put_in_a_lost_pages_place() {
    let system_page = crate::region::system_page_size();
    let file = temporary(&[5; 4 * PAGE]);
    let loom = Loom::new(8);
    assert_eq!(loom.map(file.as_raw_fd(), &[[0, 4]], 2), 0);
    let is_anonymous = |page| is_anonymous(loom.at(page) as usize, system_page);
    assert!(!is_anonymous(2));
    assert_eq!(loom.read(2), 5);
    assert!(!is_anonymous(2) && !is_anonymous(6));
    loom.write(2, 6);
    loom.write(6, 6);
    assert!(is_anonymous(2) && is_anonymous(6));
}

#[test]
fn whoever_comes_second_waits_until_the_first_has_installed_the_handler() {
    use std::sync::atomic::AtomicBool;
    let (progress, is_done, has_begun) =
        (AtomicU32::new(0), AtomicBool::new(false), Barrier::new(2));
    // Whoever fails leaves it to others.
    assert_eq!(once(&progress, || -libc::EINVAL), -libc::EINVAL);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            once(&progress, || {
                has_begun.wait();
                std::thread::sleep(std::time::Duration::from_millis(20));
                is_done.store(true, Ordering::SeqCst);
                0
            })
        });
        has_begun.wait();
        assert_eq!(once(&progress, || panic!("it is done already")), 0);
        assert!(is_done.load(Ordering::SeqCst));
    });
}
