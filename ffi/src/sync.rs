//! Syncing several files at the same time: the disk then flushes its cache once for
//! all of them, where one after the other it would do so for each.

use crate::{errno, write};

/// How many files can be synced together.
const MOST: usize = 8;

/// Makes the data of files durable, and the names of the last where that is a
/// directory. Returns when all are, or a negated errno when one could not be.
///
/// # Safety
/// `files` must hold `count` descriptors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_sync_together(
    files: *const i32,
    count: u32,
    is_directory_last: u32,
) -> i32 {
    let count = count as usize;
    if count == 0 || count > MOST {
        return -libc::EINVAL;
    }
    // SAFETY: the caller vouches for so many descriptors.
    let files = unsafe { core::slice::from_raw_parts(files, count) };
    let (others, last) = files.split_at(count - 1);
    // All of it is on its way before anything is waited for.
    if !others.is_empty() {
        for &file in files {
            write::start_writeback(file);
        }
    }
    // The last is synced by this thread, the others meanwhile by the kernel's.
    let mut queue = queue::begin(others);
    let mut result = if is_directory_last != 0 {
        sync_names(last[0])
    } else {
        sync_data(last[0])
    };
    for &file in &others[queue.length()..] {
        let one = sync_data(file);
        if result == 0 {
            result = one;
        }
    }
    let rest = queue.finish();
    if result == 0 { rest } else { result }
}

fn sync_data(file: i32) -> i32 {
    #[cfg(target_os = "linux")]
    // SAFETY: takes a descriptor only.
    let result = unsafe { libc::fdatasync(file) };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: takes a descriptor only.
    let result = unsafe { libc::fcntl(file, libc::F_FULLFSYNC) };
    errno::check(result)
}

fn sync_names(directory: i32) -> i32 {
    // SAFETY: takes a descriptor only.
    errno::check(unsafe { libc::fsync(directory) })
}

/// The kernel's queue for asynchronous file operations (io_submit(2), Linux 4.18 for
/// syncs). Where it can't be had, nothing is queued, and the caller does it all.
#[cfg(target_os = "linux")]
mod queue {
    use super::MOST;
    use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// One queue for the process: setting it up takes longer than a sync.
    static CONTEXT: AtomicUsize = AtomicUsize::new(0);
    static IN_USE: AtomicBool = AtomicBool::new(false);

    /// As in linux/aio_abi.h.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Request {
        data: u64,
        key: u32,
        flags: u32,
        operation: u16,
        priority: i16,
        file: u32,
        buffer: u64,
        length: u64,
        offset: i64,
        reserved: u64,
        more_flags: u32,
        event_file: u32,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Event {
        data: u64,
        request: u64,
        result: i64,
        result2: i64,
    }

    const SYNC_DATA: u16 = 3;

    pub struct Queue {
        length: usize,
        held: bool,
    }

    pub fn begin(files: &[i32]) -> Queue {
        let mut queue = Queue {
            length: 0,
            held: false,
        };
        if files.is_empty() || IN_USE.swap(true, Ordering::Acquire) {
            return queue;
        }
        queue.held = true;
        let context = context();
        if context == 0 {
            return queue;
        }
        let mut requests = [Request::default(); MOST];
        let mut pointers = [core::ptr::null_mut::<Request>(); MOST];
        for (index, &file) in files.iter().enumerate() {
            requests[index].operation = SYNC_DATA;
            requests[index].file = file as u32;
            pointers[index] = &mut requests[index];
        }
        // SAFETY: so many pointers to requests, which the kernel copies before it returns.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                context,
                files.len(),
                pointers.as_mut_ptr(),
            )
        };
        queue.length = usize::try_from(submitted).unwrap_or(0);
        queue
    }

    impl Queue {
        /// How many files the kernel is syncing.
        pub fn length(&self) -> usize {
            self.length
        }

        /// Waits for them all.
        pub fn finish(&mut self) -> i32 {
            let mut result = 0;
            let mut left = self.length;
            while left > 0 {
                let mut events = [Event::default(); MOST];
                // SAFETY: there is room for `MOST` events, and no more than `left` are asked for.
                let count = unsafe {
                    libc::syscall(
                        libc::SYS_io_getevents,
                        CONTEXT.load(Ordering::Relaxed),
                        left,
                        left,
                        events.as_mut_ptr(),
                        core::ptr::null::<libc::timespec>(),
                    )
                };
                // Anything but an interruption would leave it open whether they are durable.
                let Ok(count) = usize::try_from(count) else {
                    if crate::errno::last() == libc::EINTR {
                        continue;
                    }
                    result = -libc::EIO;
                    break;
                };
                for event in &events[..count] {
                    if event.result < 0 && result == 0 {
                        result = event.result as i32;
                    }
                }
                left -= count;
            }
            if self.held {
                IN_USE.store(false, Ordering::Release);
            }
            result
        }
    }

    fn context() -> usize {
        let known = CONTEXT.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let mut context = 0usize;
        // SAFETY: writes the new context to a word of ours.
        unsafe { libc::syscall(libc::SYS_io_setup, MOST, &mut context) };
        CONTEXT.store(context, Ordering::Relaxed);
        context
    }
}

#[cfg(not(target_os = "linux"))]
mod queue {
    pub struct Queue;

    pub fn begin(_: &[i32]) -> Queue {
        Queue
    }

    impl Queue {
        pub fn length(&self) -> usize {
            0
        }

        pub fn finish(&mut self) -> i32 {
            0
        }
    }
}
