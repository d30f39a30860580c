//! What the kernel knows about a region: which pages were ever touched, how they
//! are mapped, how many mappings the process has. Never called by the handler.

use crate::region::{Region, system_page_size};
use crate::{errno, pagemap};
use libc::{c_char, c_int};

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

pub fn open(path: *const c_char) -> c_int {
    // SAFETY: callers pass literals that end in zero.
    unsafe { libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC) }
}

pub fn close(file: c_int) {
    // SAFETY: callers pass a descriptor that they opened, and use it no more.
    unsafe { libc::close(file) };
}

/// Sets the bit of every page of a run that was ever touched, in a bitmap whose
/// first bit stands for `first`, unless it is null. Where the kernel can't tell, all bits are
/// set. Returns how many pages there are from `first` to the last that was touched.
#[unsafe(no_mangle)]
pub extern "C" fn loom_touched(slot: u32, first: u32, count: u32, bitmap: *mut u32) -> i32 {
    let Some(region) = Region::at(slot).filter(|region| region.contains(first, count)) else {
        return -libc::EINVAL;
    };
    let mut found = Found {
        first,
        end: 0,
        bitmap: if bitmap.is_null() {
            &mut []
        } else {
            // SAFETY: the caller passes a bitmap with a bit for each of the pages, as FFI
            // buffers are: aligned, alive and unshared during the call.
            unsafe { core::slice::from_raw_parts_mut(bitmap, count.div_ceil(32) as usize) }
        },
    };
    found.bitmap.fill(0);
    let known = pagemap::scan(&region, first, count, &pagemap::TOUCHED, |page| {
        found.mark(page)
    }) == 0
        || read_pagemap(&region, first, count, |page| found.mark(page));
    if !known {
        (first..first + count).for_each(|page| found.mark(page));
    }
    if region.scratch >= 0 {
        mark_data(&region, first, count, |page| found.mark(page));
    }
    found.end.min(count) as i32
}

/// Whether a page of the region can be written: 1 or 0, and 0 where the kernel can't tell.
#[unsafe(no_mangle)]
pub extern "C" fn loom_is_writable(slot: u32, page: u32) -> i32 {
    #[cfg(target_os = "linux")]
    if let Some(region) = Region::at(slot).filter(|region| region.contains(page, 1)) {
        // Before Linux 5.14 it is no advice, and refused as that of a read-only page is.
        const MADV_POPULATE_WRITE: c_int = 23;
        let address = region.address(page).cast();
        // SAFETY: a page of the region, whose content doesn't change.
        let result = unsafe { libc::madvise(address, system_page_size(), MADV_POPULATE_WRITE) };
        return i32::from(result == 0);
    }
    let _ = (slot, page);
    0
}

/// Pages that were found among those from `first` on.
struct Found<'a> {
    first: u32,
    /// How many there are to the last of them.
    end: u32,
    bitmap: &'a mut [u32],
}

impl Found<'_> {
    fn mark(&mut self, page: u32) {
        let Some(index) = page.checked_sub(self.first) else {
            return;
        };
        self.end = self.end.max(index + 1);
        if let Some(word) = self.bitmap.get_mut(index as usize / 32) {
            *word |= 1 << (index % 32);
        }
    }
}

/// /proc/self/pagemap, one word a system page: for kernels without the scan.
fn read_pagemap(region: &Region, first: u32, count: u32, mut mark: impl FnMut(u32)) -> bool {
    let file = open(c"/proc/self/pagemap".as_ptr());
    if file < 0 {
        return false;
    }
    let system_page = system_page_size();
    let per_page = region.page_size() / system_page;
    let mut entries = [0u64; 512];
    let mut index = 0;
    let total = count as usize * per_page;
    let start = region.address(first) as usize / system_page;
    let mut known = true;
    while index < total {
        let wanted = entries.len().min(total - index) * 8;
        // SAFETY: the buffer has at least `wanted` bytes.
        let got = unsafe {
            let offset = (start + index) * 8;
            libc::pread(
                file,
                entries.as_mut_ptr().cast(),
                wanted,
                offset as libc::off_t,
            )
        };
        if got < 8 {
            known = false;
            break;
        }
        for (at, entry) in entries[..got as usize / 8].iter().enumerate() {
            if entry & (PRESENT | SWAPPED) != 0 {
                mark(first + ((index + at) / per_page) as u32);
            }
        }
        index += got as usize / 8;
    }
    close(file);
    known
}

/// Pages that have data in the scratch file: the kernel may have written them out
/// and forgotten them.
fn mark_data(region: &Region, first: u32, count: u32, mut mark: impl FnMut(u32)) {
    let end = region.offset(first + count) as i64;
    let mut offset = region.offset(first) as i64;
    while offset < end {
        let data = crate::file::loom_seek(region.scratch, offset as u64, 0);
        if data == -i64::from(libc::ENXIO) || data >= end {
            return;
        }
        let (from, to) = if data < 0 {
            (offset, end)
        } else {
            let hole = crate::file::loom_seek(region.scratch, data as u64, 1);
            (data, if hole < 0 { end } else { hole.min(end) })
        };
        let last = (to - 1) >> region.page_shift;
        ((from >> region.page_shift)..=last).for_each(|page| mark(page as u32));
        offset = to;
    }
}

/// Reads a file of /proc line by line, without allocating. Longer lines are cut.
pub fn for_each_line(path: *const c_char, mut act: impl FnMut(&[u8])) -> bool {
    let file = open(path);
    if file < 0 {
        return false;
    }
    let mut buffer = [0u8; 4096];
    let mut held = 0;
    loop {
        // SAFETY: the buffer has room for what is asked for.
        let got = unsafe {
            libc::read(
                file,
                buffer[held..].as_mut_ptr().cast(),
                buffer.len() - held,
            )
        };
        if got <= 0 {
            break;
        }
        let end = held + got as usize;
        let mut start = 0;
        while let Some(length) = buffer[start..end].iter().position(|byte| *byte == b'\n') {
            act(&buffer[start..start + length]);
            start += length + 1;
        }
        if start == 0 && end == buffer.len() {
            start = end;
        }
        buffer.copy_within(start..end, 0);
        held = end - start;
    }
    close(file);
    true
}

/// How many mappings the process has.
pub fn count_mappings() -> u32 {
    let mut count = 0;
    for_each_line(c"/proc/self/maps".as_ptr(), |_| count += 1);
    count
}

/// How many mappings the kernel allows a process, where it says so.
pub fn map_limit() -> Option<u32> {
    let mut limit = None;
    for_each_line(c"/proc/sys/vm/max_map_count".as_ptr(), |line| {
        limit = line.iter().try_fold(0u32, |sum, digit| {
            sum.checked_mul(10)?
                .checked_add(u32::from(digit.checked_sub(b'0')?))
        });
    });
    limit
}

/// Whether the kernel leaves private mappings uncounted that ask for it.
#[cfg(target_os = "linux")]
pub fn overcommits() -> bool {
    let mut overcommits = false;
    for_each_line(c"/proc/sys/vm/overcommit_memory".as_ptr(), |line| {
        overcommits = line != b"2";
    });
    overcommits
}

fn hexadecimal(text: &[u8]) -> u64 {
    text.iter().fold(0, |sum, digit| {
        sum << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or(0))
    })
}

/// Lists how the region is mapped: for each mapping three words, its first system
/// page in the region, its number of system pages, and its properties (read 1,
/// write 2, shared 4, of a file 8). Returns how many there are, which may be more
/// than there was room for.
#[unsafe(no_mangle)]
pub extern "C" fn loom_mappings(slot: u32, list: *mut u32, capacity: u32) -> i32 {
    let Some(region) = Region::at(slot) else {
        return -libc::EINVAL;
    };
    // SAFETY: the caller passes room for `capacity` entries, as an FFI buffer is.
    let list = unsafe { core::slice::from_raw_parts_mut(list, capacity as usize * 3) };
    let system_page = system_page_size() as u64;
    let (base, end) = (
        region.base as u64,
        region.base as u64 + region.offset(region.pages) as u64,
    );
    let mut found = 0;
    let read = for_each_line(c"/proc/self/maps".as_ptr(), |line| {
        let mut fields = line
            .split(|byte| *byte == b' ')
            .filter(|field| !field.is_empty());
        let (Some(range), Some(access)) = (fields.next(), fields.next()) else {
            return;
        };
        let inode = fields.nth(2).unwrap_or(b"0");
        let dash = range
            .iter()
            .position(|byte| *byte == b'-')
            .unwrap_or(range.len());
        let from = hexadecimal(&range[..dash]).max(base);
        let to = hexadecimal(range.get(dash + 1..).unwrap_or(b"")).min(end);
        if from >= to || access.len() < 4 {
            return;
        }
        if let Some(entry) = list.chunks_exact_mut(3).nth(found) {
            entry[0] = ((from - base) / system_page) as u32;
            entry[1] = ((to - from) / system_page) as u32;
            entry[2] = u32::from(access[0] == b'r')
                | u32::from(access[1] == b'w') << 1
                | u32::from(access[3] == b's') << 2
                | u32::from(inode != b"0") << 3;
        }
        found += 1;
    });
    if read { found as i32 } else { -errno::last() }
}
