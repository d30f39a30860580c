//! In what pages differ from what they were: runs of words, where each begins in its page
//! and how long it is, and the words themselves. Only where what they were is known for
//! sure, which its checksum tells; a page is one run of all of its words otherwise.

use crate::checksum::checksum_pages;
use crate::region::Region;
use core::slice;

/// What is asked about a page, and answered in its place.
#[repr(C)]
pub struct Question {
    page: u32,
    /// Whether what it was has been read: 1 or 0. How many words were written for it: none
    /// where nothing differs.
    read_or_words: u32,
    /// The checksum of what it was; 0 where that isn't known. The checksum of what it is.
    checksum: u32,
}

/// So many pages, and what they were, are hashed at a time: as many as the hash has lanes.
const PAGES: usize = 4;

/// So many equal words are skipped at a time.
const STRIDE: usize = 16;

/// Writes the runs of words in which `page` differs from `base`; says how many words. Two
/// runs with one equal word between them are one: that word is as long as a run's head.
fn write_runs(page: &[u32], base: &[u32], into: &mut [u32]) -> usize {
    let length = page.len();
    let (mut at, mut written) = (0, 0);
    while at < length {
        let stride = at..(at + STRIDE).min(length);
        if page[stride.clone()] == base[stride.clone()] {
            at = stride.end;
            continue;
        }
        while page[at] == base[at] {
            at += 1;
        }
        let start = at;
        at += 1;
        loop {
            if at < length && page[at] != base[at] {
                at += 1;
            } else if at + 1 < length && page[at + 1] != base[at + 1] {
                at += 2;
            } else {
                break;
            }
        }
        written += write_run(page, start, at, &mut into[written..]);
    }
    written
}

fn write_run(page: &[u32], start: usize, end: usize, into: &mut [u32]) -> usize {
    let count = end - start;
    into[0] = start as u32 | (count as u32) << 16;
    into[1..=count].copy_from_slice(&page[start..end]);
    count + 1
}

/// Writes in what pages differ from `bases`, one page after the other. The pages lie one
/// after the other at `content`, or, where that is null, in the region, and are not
/// written meanwhile. Says how many words.
///
/// # Safety
/// There are `count` questions; `content`, unless it is null, and `bases` hold as many pages;
/// `into` has room for as many, and for one word more for each. All are aligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_differences(
    slot: u32,
    questions: *mut Question,
    count: u32,
    content: *const u32,
    bases: *const u32,
    into: *mut u32,
) -> i32 {
    let Some(region) = Region::at(slot) else {
        return -libc::EINVAL;
    };
    let (length, count) = (region.page_size() / 4, count as usize);
    // SAFETY: the caller's promise.
    let (questions, into) = unsafe {
        (
            slice::from_raw_parts_mut(questions, count),
            slice::from_raw_parts_mut(into, count * (length + 1)),
        )
    };
    if !questions.iter().all(|asked| region.contains(asked.page, 1)) {
        return -libc::EINVAL;
    }
    let page = |index: usize, page: u32| {
        // SAFETY: the caller's promise, or a page of the region, which is readable.
        unsafe {
            let words = match content.is_null() {
                true => region.address(page).cast_const().cast(),
                false => content.add(index * length),
            };
            slice::from_raw_parts(words, length)
        }
    };
    // SAFETY: the caller's promise.
    let base = |index| unsafe { slice::from_raw_parts(bases.add(index * length), length) };
    let mut written = 0;
    for (batch, questions) in questions.chunks_mut(PAGES).enumerate() {
        let first = batch * PAGES;
        let pages = questions.len();
        let both: [&[u32]; 2 * PAGES] = core::array::from_fn(|lane| {
            let index = lane % pages;
            match lane < pages {
                true => page(first + index, questions[index].page),
                false => base(first + index),
            }
        });
        let mut sums = [0; 2 * PAGES];
        checksum_pages(|lane| both[lane], &mut sums[..2 * pages]);
        for (lane, asked) in questions.iter_mut().enumerate() {
            let (page, base, into) = (both[lane], both[pages + lane], &mut into[written..]);
            let (was_read, was) = (asked.read_or_words == 1, sums[pages + lane]);
            let words = if was_read && page == base {
                0
            } else if was_read && asked.checksum == was && was != 0 {
                write_runs(page, base, into)
            } else {
                write_run(page, 0, length, into)
            };
            asked.read_or_words = words as u32;
            asked.checksum = sums[lane];
            written += words;
        }
    }
    written as i32
}
