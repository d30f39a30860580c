//! The words that one region shares with TypeScript: a header, then a bitmap of
//! dirty pages, then a bitmap of pages that were opened ahead of any write.
//! TypeScript allocates them (src/region.ts has the same layout) and keeps them
//! alive until the region is detached; the fault handler writes them.

use core::sync::atomic::{AtomicU32, Ordering};

/// Words before the first bitmap.
pub const HEADER_WORDS: usize = 16;

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
    Mappings = 8,
    LostPage = 9,
    InFlight = 10,
    ScratchFailures = 11,
    /// Faults since the last save.
    RecentFaults = 12,
    /// How many pages a fault may open where writes are dense: a power of two, 32 at most.
    MostAhead = 13,
}

/// A region's shared words. Copying it copies the pointer only.
#[derive(Clone, Copy)]
pub struct State {
    words: *const AtomicU32,
    capacity: u32,
}

impl State {
    /// # Safety
    /// `words` must hold the header and both bitmaps for `capacity` pages, and stay
    /// valid for as long as the result is used.
    pub unsafe fn new(words: *const AtomicU32, capacity: u32) -> Self {
        Self { words, capacity }
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
        // SAFETY: a page below `capacity` lies within either bitmap, which `new` was promised.
        (unsafe { &*self.words.add(index) }, 1 << (page % 32))
    }

    /// Marks a page dirty; says whether it was so already.
    pub fn mark_dirty(&self, page: u32) -> bool {
        let (word, mask) = self.bit(0, page);
        word.fetch_or(mask, Ordering::AcqRel) & mask != 0
    }

    /// Marks a page as opened ahead of any write.
    pub fn mark_opened(&self, page: u32) {
        let (word, mask) = self.bit(1, page);
        word.fetch_or(mask, Ordering::AcqRel);
    }

    /// How many pages of an aligned run, of 32 at most, are dirty.
    pub fn count_dirty(&self, first: u32, count: u32) -> u32 {
        let (word, lowest) = self.bit(0, first);
        let mask = (u32::MAX >> (32 - count)) * lowest;
        (word.load(Ordering::Acquire) & mask).count_ones()
    }

    /// Runs of pages, 32 at a time, some of which were opened ahead.
    pub fn opened_runs(&self) -> impl Iterator<Item = (u32, u32)> {
        let state = *self;
        let words = self.bitmap_words() as u32;
        let is_opened = move |index: u32| {
            let (word, _) = state.bit(1, index * 32);
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
        let (word, mask) = self.bit(0, page);
        word.load(Ordering::Acquire) & mask != 0
    }

    /// Whether a page can be written without a fault, by either bitmap.
    pub fn is_writable(&self, page: u32) -> bool {
        let (word, mask) = self.bit(1, page);
        self.is_dirty(page) || word.load(Ordering::Acquire) & mask != 0
    }
}
