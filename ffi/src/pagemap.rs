//! The PAGEMAP_SCAN ioctl (Linux 6.7): the kernel lists the runs of system pages
//! that have some properties, without a word read for each.

use crate::region::Region;

/// Which system pages to list. All of `all` must hold and one of `any`; what is in
/// `inverted` must not hold instead.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub struct Query {
    inverted: u64,
    all: u64,
    any: u64,
}

const WRITTEN: u64 = 2;
const FILE: u64 = 4;
const PRESENT: u64 = 8;
const SWAPPED: u64 = 16;
const ZERO_FRAME: u64 = 32;

/// Pages with content of their own. Reading an untouched page maps the zero frame.
pub const TOUCHED: Query = Query {
    inverted: ZERO_FRAME,
    all: ZERO_FRAME,
    any: PRESENT | SWAPPED,
};

/// Pages of a private file mapping that were written: the kernel copied them, so
/// that they are the file's no more.
pub const COPIED: Query = Query {
    inverted: FILE,
    all: FILE,
    any: PRESENT | SWAPPED,
};

/// Pages that were written since userfaultfd last protected them.
pub const WRITTEN_SINCE: Query = Query {
    inverted: 0,
    all: WRITTEN,
    any: PRESENT | SWAPPED,
};

#[cfg(target_os = "linux")]
mod ioctl {
    use super::Query;
    use crate::{errno, inspect};

    const PAGEMAP_SCAN: u64 = 0xc060_6610;

    /// A run of system pages, as the kernel lists it.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    pub struct Run {
        pub start: u64,
        pub end: u64,
        categories: u64,
    }

    #[repr(C)]
    struct Arguments {
        size: u64,
        flags: u64,
        start: u64,
        end: u64,
        walk_end: u64,
        runs: u64,
        runs_length: u64,
        max_pages: u64,
        category_inverted: u64,
        category_mask: u64,
        category_anyof_mask: u64,
        return_mask: u64,
    }

    pub fn open() -> i32 {
        inspect::open(c"/proc/self/pagemap".as_ptr())
    }

    /// Lists runs from `start` on; says how many, and how far it came.
    pub fn scan(
        file: i32,
        start: u64,
        end: u64,
        query: &Query,
        runs: &mut [Run],
    ) -> Result<(usize, u64), i32> {
        let mut arguments = Arguments {
            size: size_of::<Arguments>() as u64,
            flags: 0,
            start,
            end,
            walk_end: 0,
            runs: runs.as_mut_ptr() as u64,
            runs_length: runs.len() as u64,
            max_pages: 0,
            category_inverted: query.inverted,
            category_mask: query.all,
            category_anyof_mask: query.any,
            return_mask: query.any,
        };
        // SAFETY: the structure is the one that the ioctl takes, its size in front,
        // and `runs` has the room that it states.
        let found = unsafe { libc::ioctl(file, PAGEMAP_SCAN as _, &raw mut arguments) };
        if found < 0 {
            return Err(-errno::last());
        }
        Ok((found as usize, arguments.walk_end))
    }
}

/// Calls `mark` for every page of a run that has a system page of the kind; 0, or
/// -errno where this kernel can't tell.
pub fn scan(region: &Region, first: u32, count: u32, query: &Query, mark: impl FnMut(u32)) -> i32 {
    scan_runs(
        region,
        core::iter::once((first, first + count)),
        query,
        mark,
    )
}

/// The same for several runs, each given by its first page and the one after its last.
pub fn scan_runs(
    region: &Region,
    pages: impl Iterator<Item = (u32, u32)>,
    query: &Query,
    mark: impl FnMut(u32),
) -> i32 {
    scan_with::<64>(region, pages, query, mark)
}

/// The same, so many runs of system pages at a time.
#[cfg(target_os = "linux")]
fn scan_with<const LISTED: usize>(
    region: &Region,
    mut pages: impl Iterator<Item = (u32, u32)>,
    query: &Query,
    mut mark: impl FnMut(u32),
) -> i32 {
    use crate::{errno, inspect};
    let file = ioctl::open();
    if file < 0 {
        return -errno::last();
    }
    let mut runs = [ioctl::Run::default(); LISTED];
    let result = pages.try_for_each(|(first, end)| {
        let mut start = region.address(first) as u64;
        let end = start + region.offset(end - first) as u64;
        while start < end {
            let (found, reached) = ioctl::scan(file, start, end, query, &mut runs)?;
            for run in &runs[..found] {
                let from = (run.start - region.base as u64) >> region.page_shift;
                let to = (run.end - 1 - region.base as u64) >> region.page_shift;
                (from..=to).for_each(|page| mark(page as u32));
            }
            if reached <= start {
                return Err(-libc::EIO);
            }
            start = reached;
        }
        Ok(())
    });
    inspect::close(file);
    result.err().unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn scan_with<const LISTED: usize>(
    _: &Region,
    _: impl Iterator<Item = (u32, u32)>,
    _: &Query,
    _: impl FnMut(u32),
) -> i32 {
    -libc::ENOSYS
}

/// Whether a page has content of its own; none where this kernel can't tell. For
/// the fault handler: system calls only, and little stack.
pub fn is_touched(region: &Region, page: u32) -> Option<bool> {
    let mut found = false;
    let page = core::iter::once((page, page + 1));
    let result = scan_with::<1>(region, page, &TOUCHED, |_| found = true);
    (result == 0).then_some(found)
}

/// Whether the kernel has copied something of each page of a run. For the fault handler, as
/// above.
pub fn are_copied(region: &Region, first: u32, end: u32) -> bool {
    let mut next = first;
    let pages = core::iter::once((first, end));
    let result = scan_with::<16>(region, pages, &COPIED, |page| {
        next += u32::from(page == next);
    });
    result == 0 && next == end
}

/// Whether the kernel has copied all of a run. For the fault handler, as above.
pub fn are_filled(region: &Region, first: u32, end: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        let file = ioctl::open();
        if file < 0 {
            return false;
        }
        let (start, stop) = (region.address(first) as u64, region.address(end) as u64);
        let mut runs = [ioctl::Run::default(); 1];
        let found = ioctl::scan(file, start, stop, &COPIED, &mut runs);
        crate::inspect::close(file);
        found.is_ok_and(|(found, _)| found == 1 && (runs[0].start, runs[0].end) == (start, stop))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (region, first, end);
        false
    }
}
