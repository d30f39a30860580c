//! What an isolate leaves behind when it ends: a thread stands for it here.

use super::*;
use crate::copy::copy;
use crate::file::{loom_close, loom_open};
use crate::isolate::{during, loom_begin, loom_caller, loom_leave, own};
use crate::mapping::is_readable;
use crate::memory::{loom_lend, loom_take_back, twin_of};
use crate::twin::Twin;
use std::ffi::CString;
use std::io::Read;
use std::sync::mpsc::channel;
use std::thread;

fn is_open(file: i32) -> bool {
    // SAFETY: takes a descriptor only.
    unsafe { libc::fcntl(file, libc::F_GETFD) != -1 }
}

/// The byte at an address, if one can be read there.
fn byte_at(address: usize) -> Option<u8> {
    let (mut reader, writer) = std::io::pipe().unwrap();
    // SAFETY: the kernel looks at the address, and refuses what can't be read.
    let written = unsafe { libc::write(writer.as_raw_fd(), address as *const _, 1) };
    let mut byte = [0];
    (written == 1).then(|| {
        reader.read_exact(&mut byte).unwrap();
        byte[0]
    })
}

/// How much this process has mapped, by the first number in a file of the kernel's.
fn mapped_bytes() -> u64 {
    let mut digits = [0; 20];
    let mut file = File::open("/proc/self/statm").unwrap();
    let length = file.read(&mut digits).unwrap();
    let number = digits[..length].iter().take_while(|byte| **byte != b' ');
    let pages = number.fold(0, |pages, digit| pages * 10 + u64::from(digit - b'0'));
    pages * crate::region::system_page_size() as u64
}

/// Memory that a thread registered, and where it is for calls off the thread.
#[derive(Clone, Copy)]
struct Lent {
    original: usize,
    twin: usize,
}

impl Lent {
    /// Whether both are still the same memory. That the twin's address is not mapped would
    /// be too much to ask once it is gone: other threads map memory all the time.
    fn is_there(self) -> bool {
        [7, 8].into_iter().all(|byte| {
            // SAFETY: memory of this test's own, which is never unmapped.
            unsafe { (self.original as *mut u8).write_volatile(byte) };
            byte_at(self.twin) == Some(byte)
        })
    }
}

/// Registers memory and opens a file for writing, as the calling thread's.
fn possessions(path: &CString) -> (Lent, i32) {
    // SAFETY: memory of so many bytes, and a path that ends in zero.
    unsafe {
        let original = fresh(8192);
        assert_eq!(loom_lend(original, 8192), 0);
        let twin = twin_of(loom_caller() & 0xff, original);
        assert_ne!(twin, original);
        let (original, twin) = (original as usize, twin as usize);
        (Lent { original, twin }, loom_open(path.as_ptr(), 1))
    }
}

fn temporary_path() -> CString {
    let path = std::env::temp_dir().join(format!("loom-isolate-{:?}", thread::current().id()));
    std::fs::write(&path, b"content").unwrap();
    CString::new(path.to_str().unwrap()).unwrap()
}

#[test]
fn what_a_thread_has_goes_with_it_and_calls_that_come_late_do_nothing() {
    let path = temporary_path();
    let (lent, caller) = thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let (lent, file) = possessions(&path);
            assert!(file >= 0 && is_open(file) && lent.is_there());
            // SAFETY: the path ends in zero.
            assert_eq!(unsafe { loom_open(path.as_ptr(), 1) }, -libc::EAGAIN);
            (lent, loom_caller())
        });
        ended.join().unwrap()
    });
    assert!(!lent.is_there());
    assert_eq!(
        during(caller, |_| panic!("the caller has ended")),
        -libc::ECANCELED
    );
    // SAFETY: the path ends in zero.
    let again = unsafe { loom_open(path.as_ptr(), 1) };
    assert!(
        again >= 0,
        "the descriptor is closed, and the lock gone with it"
    );
    assert_eq!(loom_close(again), 0);
    std::fs::remove_file(path.to_str().unwrap()).unwrap();
}

#[test]
fn memory_that_is_taken_back_has_no_twin() {
    let original = fresh(4096);
    // SAFETY: memory of so many bytes.
    unsafe {
        assert_eq!(loom_lend(original, 4096), 0);
        let owner = loom_caller() & 0xff;
        assert_eq!(
            twin_of(owner, original.add(4095)),
            twin_of(owner, original).add(4095)
        );
        assert_eq!(twin_of(owner, original.add(4096)), original.add(4096));
        assert_eq!(loom_take_back(original), 0);
        assert_eq!(twin_of(owner, original), original);
        assert_eq!(loom_take_back(original), -libc::EINVAL);
        *original = 1;
        // Nor has what an isolate had that was on this thread before.
        assert_eq!(loom_lend(original, 4096), 0);
        assert_ne!(twin_of(owner, original), original);
        assert!(loom_begin() >= 4096);
        assert_eq!(twin_of(owner, original), original);
    }
}

#[test]
fn descriptors_go_with_their_thread_whatever_their_numbers() {
    let file = temporary(&[5]);
    let high = thread::scope(|scope| {
        let ended = scope.spawn(|| {
            // SAFETY: limits that are looked at and written, a descriptor and numbers.
            let high = unsafe {
                let mut limit = std::mem::zeroed::<libc::rlimit>();
                libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 4096)
            };
            assert_eq!(own(high), high);
            assert!(is_open(high));
            high
        });
        ended.join().unwrap()
    });
    assert!(!is_open(high));
}

#[test]
fn each_thread_has_room_for_as_much_memory_whatever_others_have() {
    let all_have = Barrier::new(60);
    thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                let lent = (0..12).all(|_| {
                    // SAFETY: memory of so many bytes.
                    unsafe { loom_lend(fresh(4096), 4096) == 0 }
                });
                all_have.wait();
                assert!(lent);
            });
        }
    });
}

#[test]
fn memory_that_the_system_maps_only_once_is_refused() {
    let length = 1 << 20;
    let original = fresh(length);
    assert!(in_child(|| {
        // What takes the place of other memory is allowed still.
        limit(libc::RLIMIT_AS, mapped_bytes());
        // SAFETY: memory of so many bytes.
        let refused = unsafe { Twin::make(original, length).err() } == Some(-libc::ENOMEM);
        // SAFETY: as above; JavaScript has it still.
        unsafe { original.write_volatile(1) };
        refused
    }));
}

#[test]
fn a_thread_ends_after_its_last_call() {
    let path = temporary_path();
    let (begun, begins) = channel();
    let (may_end, ends) = channel();
    let (go_on, goes_on) = channel();
    let owner = thread::spawn({
        let path = path.clone();
        move || {
            let (lent, file) = possessions(&path);
            let caller = loom_caller();
            let call = thread::spawn(move || {
                during(caller, |_| {
                    begun.send((lent, file)).unwrap();
                    goes_on.recv().unwrap();
                    (lent.is_there() && is_open(file)) as i32
                })
            });
            ends.recv().unwrap();
            call
        }
    });
    let (lent, file) = begins.recv().unwrap();
    may_end.send(()).unwrap();
    assert!(lent.is_there() && is_open(file));
    go_on.send(()).unwrap();
    assert_eq!(owner.join().unwrap().join().unwrap(), 1);
    std::fs::remove_file(path.to_str().unwrap()).unwrap();
}

#[test]
fn a_region_is_kept_for_others_until_its_memory_goes() {
    let mut loom = Loom::new(8);
    loom.clean(8);
    loom_leave();
    loom.write(3, 7);
    assert_eq!(loom.dirty(), [3]);
    // Somebody else's by now: memory that can't be read is not a loom's.
    // SAFETY: pages of this test's own.
    unsafe { libc::mprotect(loom.at(5).cast(), PAGE, libc::PROT_NONE) };
    let (visit, page) = Region::find(loom.at(5) as usize).unwrap();
    assert!(page == 5 && !visit.is_there(5) && visit.is_there(4));
    // But for its guard page, which lies between pages that can be.
    loom.set(Word::GuardPage, 5);
    assert!(visit.is_there(5));
    drop(visit);
    // SAFETY: memory of this test's own, which nobody uses any more.
    unsafe { libc::munmap(loom.base.cast(), loom.pages as usize * PAGE) };
    loom.pages = 0;
    let mut other = Page([0; PAGE]);
    let (words, _) = words_for(1);
    // SAFETY: there is room for so many words.
    let next = unsafe { loom_attach(other.0.as_mut_ptr(), 1, PAGE as u32, 1, words) };
    assert_eq!(
        next, loom.slot as i32,
        "attaching another found that the memory had gone"
    );
}

#[test]
fn whether_a_page_can_be_read_takes_no_descriptor() {
    let loom = Loom::new(8);
    loom.write(3, 7);
    // SAFETY: a page of this test's own.
    unsafe { libc::mprotect(loom.at(5).cast(), PAGE, libc::PROT_NONE) };
    let region = loom.region();
    assert!(in_child(|| {
        limit(libc::RLIMIT_NOFILE, 0);
        is_readable(&region, 3) && is_readable(&region, 4) && !is_readable(&region, 5)
    }));
}

#[test]
fn a_region_whose_thread_has_ended_has_no_files() {
    let image = temporary(&[5; 4 * PAGE]);
    let slot = thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let loom = Loom::new(8);
            assert_eq!(loom.map(image.as_raw_fd(), &[[0, 4]], 1), 0);
            assert_eq!(loom_set_scratch(loom.slot, image.as_raw_fd(), 1), 0);
            let slot = loom.slot;
            // Its memory stays, as where others share it.
            std::mem::forget(loom);
            slot
        });
        ended.join().unwrap()
    });
    let region = Region::at(slot).unwrap();
    assert_eq!((region.image, region.scratch), (-1, -1));
    assert!(!region.moves_to_scratch);
    loom_detach(slot);
}

/// Memory of the stack, aligned as a region is.
#[repr(align(16384))]
struct Page([u8; PAGE]);

#[test]
fn a_copy_of_memory_that_goes_fails() {
    let loom = Loom::new(2);
    let (from, mut into) = (loom.at(0), vec![0u8; 2 * PAGE]);
    loom.write(0, 7);
    // SAFETY: there is room, and the memory is readable, or its faults end the copy.
    unsafe {
        assert!(copy(into.as_mut_ptr(), from, 2 * PAGE));
        assert_eq!(into[0], 7);
        libc::mprotect(loom.at(1).cast(), PAGE, libc::PROT_NONE);
        assert!(!copy(into.as_mut_ptr(), from, 2 * PAGE));
        assert!(!copy(into.as_mut_ptr(), 4096 as *const u8, 1));
    }
}
