//! In what pages differ from what they were: runs of words, where each begins in its page
//! and how long it is, and the words themselves. Only where what they were is known for
//! sure, which its checksum tells, and where that is shorter; otherwise a page has changed
//! as a whole, and nothing is written for it.

use crate::checksum::checksum_pages;
use crate::differing::{STRIDE, differing};
use crate::region::Region;
use core::ops::Range;
use core::slice;

/// What is asked about a page, and answered in its place.
#[repr(C)]
pub struct Question {
    /// Its number. Between which of its words all that differ lie: the first of them in the
    /// lower half, and the end of the last in the upper one.
    page_or_span: u32,
    /// Whether what it was has been read: 1 or 0. How many words were written for it: none
    /// where nothing differs; or `WHOLE`.
    read_or_words: u32,
    /// The checksum of what it was; 0 where that isn't known. The checksum of what it is.
    checksum: u32,
}

/// In place of a number of words: the page has changed as a whole.
const WHOLE: u32 = u32::MAX;

/// So many pages are hashed at a time, what others were among them: the hash has lanes for as
/// many.
const LANES: usize = 8;

/// The words of the largest page.
const MOST_WORDS: usize = (64 << 10) / 4;

/// What was found of a page.
#[derive(Default)]
struct Difference {
    /// How many words were written for it.
    length: usize,
    /// From where in the page until where.
    span: Range<usize>,
    is_whole: bool,
}

impl Difference {
    fn whole(length: usize) -> Self {
        Self {
            length: 0,
            span: 0..length,
            is_whole: true,
        }
    }
}

/// Which words of a page differ, a bit for each.
struct Differing {
    bits: [u64; MOST_WORDS / 64],
}

impl Differing {
    /// A single equal word between two that differ counts with them: it is as long as the
    /// head of a run.
    fn new(page: &[u32], base: &[u32]) -> Self {
        let mut bits = [0; MOST_WORDS / 64];
        let strides = page.as_chunks().0.iter().zip(base.as_chunks().0);
        for (index, (new, old)) in strides.enumerate() {
            bits[index * STRIDE / 64] |= differing(new, old) << (index * STRIDE % 64);
        }
        let mut before = 0;
        for index in 0..page.len() / 64 {
            let after = bits.get(index + 1).map_or(0, |next| next << 63);
            let these = bits[index];
            bits[index] |= (these << 1 | before) & (these >> 1 | after);
            before = these >> 63;
        }
        Self { bits }
    }

    /// How many words the runs take, with their heads.
    fn length(&self) -> usize {
        let mut before = 0;
        let length = |bits: &u64| {
            let begins = bits & !(bits << 1 | before);
            before = bits >> 63;
            bits.count_ones() + begins.count_ones()
        };
        self.bits.iter().map(length).sum::<u32>() as usize
    }

    /// The first word from some on that differs, or that doesn't.
    fn next(&self, from: usize, differs: bool) -> Option<usize> {
        let flip = if differs { 0 } else { u64::MAX };
        let mut wanted = u64::MAX << (from % 64);
        for (index, bits) in self.bits.iter().enumerate().skip(from / 64) {
            let found = (bits ^ flip) & wanted;
            if found != 0 {
                return Some(index * 64 + found.trailing_zeros() as usize);
            }
            wanted = u64::MAX;
        }
        None
    }
}

/// Writes the runs of words in which `page` differs from `base`, which it does, unless that
/// is more than half of it.
fn write_runs(page: &[u32], base: &[u32], into: &mut [u32]) -> Difference {
    let differing = Differing::new(page, base);
    let length = differing.length();
    if length > page.len() / 2 {
        return Difference::whole(page.len());
    }
    let (mut at, mut span) = (0, 0..0);
    while let Some(start) = differing.next(span.end, true) {
        let end = differing.next(start, false).unwrap_or(page.len());
        let (head, words) = into[at..].split_at_mut(1);
        head[0] = start as u32 | ((end - start) as u32) << 16;
        words[..end - start].copy_from_slice(&page[start..end]);
        span = if at == 0 { start..end } else { span.start..end };
        at += 1 + end - start;
    }
    Difference {
        length,
        span,
        is_whole: false,
    }
}

/// Writes in what pages differ from `bases`, one page after the other. The pages lie one
/// after the other at `content`, or, where that is null, in the region, and are not
/// written meanwhile. Says how many words.
///
/// # Safety
/// There are `count` questions; `content`, unless it is null, and `bases` hold as many pages;
/// `into` has room for as many. All are aligned.
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
    if length > MOST_WORDS {
        return -libc::EINVAL;
    }
    // SAFETY: the caller's promise.
    let (questions, into) = unsafe {
        (
            slice::from_raw_parts_mut(questions, count),
            slice::from_raw_parts_mut(into, count * length),
        )
    };
    if !questions
        .iter()
        .all(|asked| region.contains(asked.page_or_span, 1))
    {
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
    let (mut first, mut written) = (0, 0);
    while first < count {
        // Where in `both` the pages lie, and what they were.
        let mut places = [(0, 0); LANES];
        let (mut both, mut lanes, mut pages) = ([&[][..]; LANES], 0, 0);
        while first + pages < count {
            let index = first + pages;
            let was_read = questions[index].read_or_words == 1;
            if lanes + 1 + usize::from(was_read) > LANES {
                break;
            }
            places[pages] = (lanes, lanes + usize::from(was_read));
            both[lanes] = page(index, questions[index].page_or_span);
            lanes += 1;
            if was_read {
                both[lanes] = base(index);
                lanes += 1;
            }
            pages += 1;
        }
        let mut sums = [0; LANES];
        checksum_pages(|lane| both[lane], &mut sums[..lanes]);
        for (asked, (new, old)) in questions[first..].iter_mut().zip(&places[..pages]) {
            let (page, base, into) = (both[*new], both[*old], &mut into[written..]);
            let (was_read, was) = (new != old, sums[*old]);
            // What was read may be older than what was written last: the system drops what it
            // can't write.
            let may_be = was_read && (asked.checksum == 0 || asked.checksum == was);
            let found = if may_be && page == base {
                Difference::default()
            } else if may_be && asked.checksum != 0 {
                write_runs(page, base, into)
            } else {
                Difference::whole(length)
            };
            asked.page_or_span = found.span.start as u32 | (found.span.end as u32) << 16;
            asked.read_or_words = match found.is_whole {
                true => WHOLE,
                false => found.length as u32,
            };
            asked.checksum = sums[*new];
            written += found.length;
        }
        first += pages;
    }
    written as i32
}
