//! The words that one region shares with TypeScript: a header, then bitmaps of pages,
//! one after the other; src/region/shared_words.ts has the same layout. The library uses their
//! twin (twin.rs): the fault handler writes them whenever it comes, even when the isolate
//! that the region belongs to has ended.

use core::sync::atomic::{AtomicU32, Ordering, fence};

/// Words before the first bitmap.
pub const HEADER_WORDS: usize = 16;
/// How many bitmaps there are.
const BITMAPS: usize = 8;

/// Pages that were written, or count as written, since they were clean.
const DIRTY: usize = 0;
/// Pages that were opened together with another, ahead of any write.
const OPENED: usize = 1;
/// Pages that a save needs as they are.
const HELD: usize = 2;
/// Clean pages that have memory of their own, and are not mapped from the image.
const OWN: usize = 3;
/// Held pages that some thread copies, or has copied, aside.
const CLAIMED: usize = 4;
/// Held pages that have been copied aside.
const KEPT: usize = 5;
/// Pages that are mapped privately from the image, whether they have been copied or not.
const MAPPED: usize = 6;
/// Pages that have been put into a huge one.
const GATHERED: usize = 7;

/// Set for good when the guard page was hit and there was nowhere left to move it.
pub const FLAG_EXHAUSTED: u32 = 1;
/// Set for good when a page of the mapped image could not be read from its file.
pub const FLAG_IMAGE_LOST: u32 = 2;
/// Set for good when a page could not be read from the scratch file.
pub const FLAG_SCRATCH_LOST: u32 = 4;

/// The guard page's number while there is none.
pub const NO_PAGE: u32 = u32::MAX;

/// Indices into the header.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Word {
    Flags = 0,
    GuardPage = 1,
    LowPage = 2,
    HighPage = 3,
    ImagePages = 4,
    Faults = 5,
    GuardHits = 6,
    /// The first of the pages that are being put into a huge one, or NO_PAGE.
    Moving = 7,
    Mappings = 8,
    LostPage = 9,
    InFlight = 10,
    ScratchFailures = 11,
    /// Faults since the last save.
    RecentFaults = 12,
    /// How many pages a fault may open where writes are dense: a power of two, 32 at most.
    MostAhead = 13,
    /// How many threads are about to copy a page aside.
    Keeping = 14,
    /// Which pages may be put into huge ones, as TypeScript decides: see huge_page.rs.
    Gathering = 15,
}

/// A region's shared words. Copying it copies the pointer only.
#[derive(Clone, Copy)]
pub struct State {
    words: *const AtomicU32,
    capacity: u32,
}

impl State {
    /// Sets the words of a region up that has `pages` pages, all of them dirty. They must
    /// be zeros.
    pub fn set_up(&self, pages: u32) {
        self.store(Word::GuardPage, NO_PAGE);
        self.store(Word::Moving, NO_PAGE);
        self.store(Word::HighPage, pages);
        self.fill(DIRTY, 0, self.capacity, true);
    }

    /// How many bytes the words for so many pages take.
    pub fn length(capacity: u32) -> usize {
        let bitmap = capacity.div_ceil(32) as usize;
        (HEADER_WORDS + BITMAPS * bitmap) * size_of::<AtomicU32>()
    }

    /// # Safety
    /// `words` must hold the header and all bitmaps for `capacity` pages, and stay
    /// valid for as long as the result is used.
    pub unsafe fn new(words: *const AtomicU32, capacity: u32) -> Self {
        Self { words, capacity }
    }

    /// How many pages there is room for.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    pub fn word(&self, word: Word) -> &AtomicU32 {
        // SAFETY: every `Word` lies within the header, which `new` was promised.
        unsafe { &*self.words.add(word as usize) }
    }

    pub fn load(&self, word: Word) -> u32 {
        self.word(word).load(Ordering::Acquire)
    }

    pub fn store(&self, word: Word, value: u32) {
        self.word(word).store(value, Ordering::Release);
    }

    pub fn add(&self, word: Word, count: u32) {
        self.word(word).fetch_add(count, Ordering::AcqRel);
    }

    fn bitmap_words(&self) -> usize {
        self.capacity.div_ceil(32) as usize
    }

    fn bit(&self, bitmap: usize, page: u32) -> (&AtomicU32, u32) {
        debug_assert!(page < self.capacity);
        let index = HEADER_WORDS + bitmap * self.bitmap_words() + (page / 32) as usize;
        // SAFETY: a page below `capacity` lies within any bitmap, which `new` was promised.
        (unsafe { &*self.words.add(index) }, 1 << (page % 32))
    }

    /// Sets a page's bit; says whether it was so already.
    fn set(&self, bitmap: usize, page: u32) -> bool {
        let (word, mask) = self.bit(bitmap, page);
        word.fetch_or(mask, Ordering::SeqCst) & mask != 0
    }

    fn has(&self, bitmap: usize, page: u32) -> bool {
        let (word, mask) = self.bit(bitmap, page);
        word.load(Ordering::SeqCst) & mask != 0
    }

    /// Sets the bits of `first..end`, or clears them. Words that hold no others are just
    /// stored: there may be thousands. What is read after that is read later than all of them
    /// are seen.
    fn fill(&self, bitmap: usize, first: u32, end: u32, on: bool) {
        self.in_words(bitmap, first, end, |word, mask| {
            match (mask, on) {
                (u32::MAX, true) => word.store(u32::MAX, Ordering::Release),
                (u32::MAX, false) => word.store(0, Ordering::Release),
                (_, true) => _ = word.fetch_or(mask, Ordering::SeqCst),
                (_, false) => _ = word.fetch_and(!mask, Ordering::SeqCst),
            }
            true
        });
        fence(Ordering::SeqCst);
    }

    /// Visits the words with the bits of `first..end` until told to stop; says whether
    /// it was not.
    fn in_words(
        &self,
        bitmap: usize,
        first: u32,
        end: u32,
        mut visit: impl FnMut(&AtomicU32, u32) -> bool,
    ) -> bool {
        let mut page = first;
        while page < end {
            let count = (32 - page % 32).min(end - page);
            let (word, lowest) = self.bit(bitmap, page);
            if !visit(word, (u32::MAX >> (32 - count)) * lowest) {
                return false;
            }
            page += count;
        }
        true
    }

    fn clear(&self, bitmap: usize) {
        let words = self.bitmap_words();
        for index in HEADER_WORDS + bitmap * words..HEADER_WORDS + (bitmap + 1) * words {
            // SAFETY: every index lies within the bitmap, which `new` was promised.
            unsafe { (*self.words.add(index)).store(0, Ordering::Relaxed) };
        }
        fence(Ordering::SeqCst);
    }

    /// Marks a page dirty; says whether it was so already.
    pub fn mark_dirty(&self, page: u32) -> bool {
        self.set(DIRTY, page)
    }

    /// The same for pages.
    pub fn set_dirty(&self, first: u32, end: u32) {
        self.fill(DIRTY, first, end, true);
    }

    /// Marks a page as opened ahead of any write.
    pub fn mark_opened(&self, page: u32) {
        self.set(OPENED, page);
    }

    /// Whether a page was opened ahead, or by a second thread that wrote to it.
    pub fn is_opened(&self, page: u32) -> bool {
        self.has(OPENED, page)
    }

    /// The same for pages.
    pub fn set_opened(&self, first: u32, end: u32) {
        self.fill(OPENED, first, end, true);
    }

    /// Marks pages clean that are mapped from the image.
    pub fn mark_clean(&self, first: u32, end: u32) {
        for bitmap in [DIRTY, OPENED, OWN] {
            self.fill(bitmap, first, end, false);
        }
    }

    /// Whether a fault in any of the pages would be needed to write it.
    pub fn are_closed(&self, first: u32, end: u32) -> bool {
        self.have_none(&[DIRTY, OPENED], first, end)
    }

    /// Whether none of the pages is in any of some bitmaps.
    fn have_none(&self, bitmaps: &[usize], first: u32, end: u32) -> bool {
        bitmaps.iter().all(|&bitmap| {
            self.in_words(bitmap, first, end, |word, mask| {
                word.load(Ordering::SeqCst) & mask == 0
            })
        })
    }

    /// Whether all of the pages can be written without a fault.
    pub fn are_writable(&self, first: u32, end: u32) -> bool {
        (first..end).all(|page| self.is_writable(page))
    }

    /// Notes whether pages are mapped privately from the image.
    pub fn set_mapped(&self, first: u32, end: u32, mapped: bool) {
        self.fill(MAPPED, first, end, mapped);
    }

    /// Whether the page `first` is mapped privately from the image, and until which page all
    /// others are as it is.
    pub fn mapped_run(&self, first: u32, end: u32) -> (bool, u32) {
        let mapped = self.has(MAPPED, first);
        let mut stop = first;
        self.in_words(MAPPED, first, end, |word, mask| {
            let bits = word.load(Ordering::SeqCst);
            let others = if mapped { !bits } else { bits } & mask;
            stop += match others {
                0 => mask.count_ones(),
                _ => others.trailing_zeros() - mask.trailing_zeros(),
            };
            others == 0
        });
        (mapped, stop)
    }

    /// Notes whether pages have been put into a huge one.
    pub fn set_gathered(&self, first: u32, end: u32, gathered: bool) {
        self.fill(GATHERED, first, end, gathered);
    }

    pub fn is_gathered(&self, page: u32) -> bool {
        self.has(GATHERED, page)
    }

    /// Whether one of the pages is in a huge one.
    pub fn has_gathered(&self, first: u32, end: u32) -> bool {
        !self.have_none(&[GATHERED], first, end)
    }

    /// Whether a save needs a page as it is.
    pub fn is_held(&self, page: u32) -> bool {
        self.has(HELD, page)
    }

    /// Takes it on to copy a held page aside; says whether somebody has already.
    pub fn claim(&self, page: u32) -> bool {
        self.set(CLAIMED, page)
    }

    pub fn mark_kept(&self, page: u32) {
        self.set(KEPT, page);
    }

    /// Whether a held page has been copied aside, and may have changed since.
    pub fn is_kept(&self, page: u32) -> bool {
        self.has(KEPT, page)
    }

    pub fn hold_none(&self) {
        self.clear(HELD);
    }

    pub fn forget_kept(&self) {
        self.clear(CLAIMED);
        self.clear(KEPT);
    }

    /// How many of the pages are dirty.
    pub fn count_dirty(&self, first: u32, end: u32) -> u32 {
        let mut count = 0;
        self.in_words(DIRTY, first, end, |word, mask| {
            count += (word.load(Ordering::Acquire) & mask).count_ones();
            true
        });
        count
    }

    /// Whether one of the pages has memory of its own, and is clean.
    pub fn has_own(&self, first: u32, end: u32) -> bool {
        !self.have_none(&[OWN], first, end)
    }

    /// Whether a save needs one of the pages as it is.
    pub fn has_held(&self, first: u32, end: u32) -> bool {
        !self.have_none(&[HELD], first, end)
    }

    /// Runs of pages, 32 at a time, some of which were opened ahead.
    pub fn opened_runs(&self) -> impl Iterator<Item = (u32, u32)> {
        let state = *self;
        let words = self.bitmap_words() as u32;
        let is_opened = move |index: u32| {
            let (word, _) = state.bit(OPENED, index * 32);
            word.load(Ordering::Acquire) != 0
        };
        let mut next = 0;
        core::iter::from_fn(move || {
            let first = (next..words).find(|&index| is_opened(index))?;
            next = (first..words)
                .find(|&index| !is_opened(index))
                .unwrap_or(words);
            Some((first * 32, next * 32))
        })
    }

    pub fn is_dirty(&self, page: u32) -> bool {
        self.has(DIRTY, page)
    }

    /// Whether a page can be written without a fault, by either bitmap.
    pub fn is_writable(&self, page: u32) -> bool {
        self.is_dirty(page) || self.has(OPENED, page)
    }
}
