//! Many pages at once made what the image has. A page that is mapped from it gives back
//! the copy that the kernel made when it was written, which takes about half of what
//! mapping it anew does, or less; any other is mapped.

use crate::attach;
use crate::errno;
#[cfg(target_os = "linux")]
use crate::inspect;
use crate::mapping::{self, protection};
use crate::region::Region;
use crate::state::Word;
use libc::{MAP_NORESERVE, MAP_PRIVATE, PROT_WRITE, c_int};

/// Clean pages between two that are made clean, so many at most, are protected with them:
/// that changes nothing for them, and is one call in place of two.
const GAP_PAGES: u32 = 256;

/// Maps runs of pages from a file, clean: each from the offset that equals its own, and
/// private, so that what is written there is never seen by the file. `access`, for clean
/// pages, is as for `loom_protect`; `opened` is 1 where these are to be opened at once.
/// `alone` is 0 where other threads may be writing to the memory.
///
/// # Safety
/// `runs` has `count` pairs of a first page and how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_renew(
    slot: u32,
    file: i32,
    runs: *const u32,
    count: u32,
    access: u32,
    alone: u32,
    opened: u32,
) -> i32 {
    let (clean, opened) = (protection(access), opened != 0);
    attach::set_image(slot, file, clean & PROT_WRITE != 0);
    let Some(region) = Region::at(slot) else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller's promise; two words are as aligned as one.
    let runs = unsafe { core::slice::from_raw_parts(runs.cast::<[u32; 2]>(), count as usize) };
    if !runs
        .iter()
        .all(|&[first, count]| region.contains(first, count))
    {
        return -libc::EINVAL;
    }
    let mut renewal = Renewal {
        region: &region,
        file,
        protection: if opened { clean | PROT_WRITE } else { clean },
        gap: if alone != 0 { GAP_PAGES } else { 0 },
        copies: [(0, 0); COPIES],
        length: 0,
    };
    for &[first, count] in runs {
        if !renewal.add(first, first + count) {
            return -errno::last();
        }
    }
    if !renewal.finish() {
        return -errno::last();
    }
    for &[first, count] in runs {
        region.state.mark_clean(first, first + count);
        if opened {
            region.state.set_opened(first, first + count);
        }
    }
    0
}

/// So many pages that are mapped at once are prepared for their writes.
const MANY_PAGES: u32 = 16;

/// How many runs give their copies back in one call.
const COPIES: usize = 256;
/// For fewer than so many the one call, which takes three, doesn't pay.
const FEW: usize = 4;

/// Runs on their way.
struct Renewal<'a> {
    region: &'a Region,
    file: c_int,
    protection: c_int,
    gap: u32,
    /// Runs that are mapped from the file.
    copies: [(u32, u32); COPIES],
    length: usize,
}

impl Renewal<'_> {
    /// Makes the pages `first..end` clean, now or with others.
    fn add(&mut self, first: u32, end: u32) -> bool {
        let state = &self.region.state;
        let mut start = first;
        while start < end {
            let (mapped, stop) = state.mapped_run(start, end);
            if !mapped {
                if !self.map(start, stop) {
                    return false;
                }
            } else {
                if self.length == COPIES && !self.finish() {
                    return false;
                }
                self.copies[self.length] = (start, stop);
                self.length += 1;
            }
            start = stop;
        }
        true
    }

    fn map(&self, first: u32, end: u32) -> bool {
        let (region, protection) = (self.region, self.protection);
        // What is counted stays so when it is protected again, and isn't joined with the rest.
        let flags = MAP_PRIVATE | MAP_NORESERVE;
        if !mapping::map(region, first, end, protection, flags, self.file) {
            return false;
        }
        if end - first < MANY_PAGES {
            return true;
        }
        if !self.prepare(first) {
            region.state.set_mapped(first, end, false);
        }
        mapping::protect(region, first, first + 1, protection)
    }

    /// Has the kernel copy a page of a new mapping and give the copy back. What it notes
    /// at the first copy goes for all of the mapping then, and for what it is split into
    /// by writes: only pieces with the same note are joined again when they are clean.
    /// False where it can't: then those pieces must be mapped anew.
    #[cfg(target_os = "linux")]
    fn prepare(&self, page: u32) -> bool {
        let (address, length) = (self.region.address(page), self.region.page_size());
        let opened = inspect::overcommits() && mapping::make_writable(self.region, page, page + 1);
        // SAFETY: advice about a page that was just mapped privately, and has no copy yet.
        opened
            && unsafe {
                libc::madvise(address, length, libc::MADV_POPULATE_WRITE) == 0
                    && libc::madvise(address, length, libc::MADV_DONTNEED) == 0
            }
    }

    #[cfg(not(target_os = "linux"))]
    fn prepare(&self, _: u32) -> bool {
        false
    }

    /// Makes those clean that wait.
    fn finish(&mut self) -> bool {
        let runs = &self.copies[..core::mem::take(&mut self.length)];
        // Where there is nothing to protect as well, giving back is one call for each.
        let pays = runs.len() >= FEW || self.protection & PROT_WRITE != 0;
        let discarded = pays && self.protect(runs) && discard(self.region, runs);
        discarded || runs.iter().all(|&(first, end)| self.map(first, end))
    }

    /// Protects runs as they are to be.
    fn protect(&self, runs: &[(u32, u32)]) -> bool {
        if self.protection & PROT_WRITE != 0 {
            // Nearly all are writable already: they were written.
            return self.region.opens_clean
                || runs.iter().all(|&(first, end)| {
                    self.region.state.are_writable(first, end)
                        || mapping::protect(self.region, first, end, self.protection)
                });
        }
        let (mut first, mut end) = runs[0];
        for &(next, next_end) in &runs[1..] {
            if next < end || next - end > self.gap || !self.is_closed(end, next) {
                if !mapping::protect(self.region, first, end, self.protection) {
                    return false;
                }
                first = next;
            }
            end = next_end;
        }
        mapping::protect(self.region, first, end, self.protection)
    }

    /// Whether pages are protected as clean ones are already.
    fn is_closed(&self, first: u32, end: u32) -> bool {
        let state = &self.region.state;
        let guard = state.load(Word::GuardPage);
        end <= state.load(Word::ImagePages)
            && !(first..end).contains(&guard)
            && state.are_closed(first, end)
    }
}

/// Gives back the copies of all pages of some runs; false where the system can't.
#[cfg(target_os = "linux")]
fn discard(region: &Region, runs: &[(u32, u32)]) -> bool {
    if runs.len() < FEW {
        return runs.iter().all(|&(first, end)| {
            let (address, length) = (region.address(first), region.offset(end - first));
            // SAFETY: as below, of one run.
            unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) == 0 }
        });
    }
    let mut ranges = [libc::iovec {
        iov_base: core::ptr::null_mut(),
        iov_len: 0,
    }; COPIES];
    let mut total = 0;
    for (range, &(first, end)) in ranges.iter_mut().zip(runs) {
        range.iov_base = region.address(first);
        range.iov_len = region.offset(end - first);
        total += range.iov_len;
    }
    // SAFETY: a descriptor of this process, and ranges of the region's own pages that are
    // mapped privately from a file: what is lost is the copies of them, which the caller
    // gives up. The kernel allows it since Linux 6.13, and changes nothing before.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        if process < 0 {
            return false;
        }
        let done = libc::syscall(
            libc::SYS_process_madvise,
            process,
            ranges.as_ptr(),
            runs.len(),
            libc::MADV_DONTNEED,
            0,
        );
        libc::close(process as c_int);
        usize::try_from(done) == Ok(total)
    }
}

#[cfg(not(target_os = "linux"))]
fn discard(_: &Region, _: &[(u32, u32)]) -> bool {
    false
}
