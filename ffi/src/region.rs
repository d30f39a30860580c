//! The table of attached regions. The fault handler finds a region by address
//! here, so entries are plain atomics: nothing is allocated and nothing locked.

use crate::isolate::Owner;
use crate::mapping;
use crate::state::{State, Word};
use core::ops::Deref;
use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence,
};

/// How many looms one process can have open at once.
pub const CAPACITY: usize = 64;

/// What is in a slot's base while there is no region in it.
pub const FREE: usize = 0;
/// The same, while one is being put there or taken away.
pub const CLAIMED: usize = 1;

/// One entry of the table. attach.rs fills it in.
pub struct Slot {
    /// The region's address, FREE or CLAIMED.
    pub base: AtomicUsize,
    pub pages: AtomicU32,
    /// How many pages the shared words have room for.
    pub capacity: AtomicU32,
    pub page_shift: AtomicU32,
    pub image: AtomicI32,
    pub opens_clean: AtomicBool,
    pub scratch: AtomicI32,
    pub moves_to_scratch: AtomicBool,
    pub aside: AtomicUsize,
    /// The shared words, and where JavaScript has them.
    pub words: AtomicPtr<u8>,
    pub words_original: AtomicPtr<u8>,
    /// Whose it is.
    pub owner: AtomicU32,
    /// Whether its memory may go without a word: its isolate has ended, or is about to.
    pub left: AtomicBool,
    /// How many fault handlers are looking at it.
    pub visitors: AtomicU32,
}

impl Slot {
    /// Waits until the fault handlers that look at it now are done.
    pub fn wait_for_visitors(&self) {
        fence(Ordering::SeqCst);
        while self.visitors.load(Ordering::SeqCst) != 0 {
            // SAFETY: takes nothing; who is waited for may need this processor.
            unsafe { libc::sched_yield() };
        }
    }
}

pub static SLOTS: [Slot; CAPACITY] = [const {
    Slot {
        base: AtomicUsize::new(FREE),
        pages: AtomicU32::new(0),
        capacity: AtomicU32::new(0),
        page_shift: AtomicU32::new(0),
        image: AtomicI32::new(-1),
        opens_clean: AtomicBool::new(false),
        scratch: AtomicI32::new(-1),
        moves_to_scratch: AtomicBool::new(false),
        aside: AtomicUsize::new(0),
        words: AtomicPtr::new(core::ptr::null_mut()),
        words_original: AtomicPtr::new(core::ptr::null_mut()),
        owner: AtomicU32::new(0),
        left: AtomicBool::new(false),
        visitors: AtomicU32::new(0),
    }
}; CAPACITY];

/// Slots from this one on were never used: most processes have one loom.
pub static USED: AtomicUsize = AtomicUsize::new(0);

/// One attached region, as a value.
#[derive(Clone, Copy)]
pub struct Region {
    pub base: usize,
    pub pages: u32,
    pub page_shift: u32,
    /// The descriptor of the file that clean pages are mapped from, or -1.
    pub image: i32,
    /// Whether clean pages can be written, and the kernel is asked later which were.
    pub opens_clean: bool,
    /// The descriptor of the scratch file, or -1.
    pub scratch: i32,
    /// Whether a first write moves its page into the scratch file.
    pub moves_to_scratch: bool,
    /// Where pages are kept that a save needs as they were, or 0.
    pub aside: usize,
    /// Whose it is.
    pub owner: Owner,
    pub state: State,
}

impl Region {
    pub fn page_size(&self) -> usize {
        1 << self.page_shift
    }

    pub fn address(&self, page: u32) -> *mut libc::c_void {
        (self.base + self.offset(page)) as *mut libc::c_void
    }

    pub fn offset(&self, page: u32) -> usize {
        (page as usize) << self.page_shift
    }

    /// Whether `first` and the `count - 1` pages after it lie in the region.
    pub fn contains(&self, first: u32, count: u32) -> bool {
        first
            .checked_add(count)
            .is_some_and(|end| end <= self.pages)
    }

    /// The region in a slot, where one is attached.
    pub fn load(slot: &Slot) -> Option<Region> {
        let base = slot.base.load(Ordering::SeqCst);
        if base == FREE || base == CLAIMED {
            return None;
        }
        let pages = slot.pages.load(Ordering::Acquire);
        let capacity = slot.capacity.load(Ordering::Relaxed);
        let words = slot.words.load(Ordering::Relaxed).cast_const().cast();
        // SAFETY: `attach` had words for this many pages; `release` unmaps them when nobody
        // looks at the slot any more and its owner has said that it is done.
        let state = unsafe { State::new(words, capacity) };
        Some(Region {
            base,
            pages,
            page_shift: slot.page_shift.load(Ordering::Relaxed),
            image: slot.image.load(Ordering::Relaxed),
            opens_clean: slot.opens_clean.load(Ordering::Relaxed),
            scratch: slot.scratch.load(Ordering::Relaxed),
            moves_to_scratch: slot.moves_to_scratch.load(Ordering::Relaxed),
            aside: slot.aside.load(Ordering::Acquire),
            owner: slot.owner.load(Ordering::Relaxed),
            state,
        })
    }

    /// The region in a slot, where one is attached. For its owner.
    pub fn at(slot: u32) -> Option<Region> {
        SLOTS.get(slot as usize).and_then(Region::load)
    }

    /// The region that holds an address, and the page of it.
    pub fn find(address: usize) -> Option<(Visit, u32)> {
        Region::all().find_map(|visit| {
            let offset = address.checked_sub(visit.base)?;
            let page = offset >> visit.page_shift;
            let found = page < visit.pages as usize;
            found.then_some((visit, page as u32))
        })
    }

    /// Every region that is attached now.
    pub fn all() -> impl Iterator<Item = Visit> {
        used().iter().filter_map(Visit::begin)
    }

    pub fn overlaps(&self, start: usize, length: usize) -> bool {
        self.base < start + length && start < self.base + self.offset(self.pages)
    }
}

/// The slots that were ever used.
pub fn used() -> &'static [Slot] {
    &SLOTS[..USED.load(Ordering::Acquire)]
}

/// A look at a region by somebody other than its owner: until it ends, the region's
/// words stay where they are.
pub struct Visit {
    slot: &'static Slot,
    region: Region,
}

impl Visit {
    pub fn begin(slot: &'static Slot) -> Option<Visit> {
        slot.visitors.fetch_add(1, Ordering::SeqCst);
        let region = Region::load(slot);
        if region.is_none() {
            slot.visitors.fetch_sub(1, Ordering::SeqCst);
        }
        region.map(|region| Visit { slot, region })
    }

    /// Whether the memory at a page is still the region's. That of an isolate that has
    /// ended may be another's by now, unless other threads share it: as long as it is the
    /// region's it can be read, which the inaccessible pages that WebAssembly's checks rest
    /// on can't.
    pub fn is_there(&self, page: u32) -> bool {
        if !self.slot.left.load(Ordering::Acquire) {
            return true;
        }
        let is_readable = |page| page < self.pages && mapping::is_readable(self, page);
        if page == self.state.load(Word::GuardPage) {
            page > 0 && is_readable(page - 1) && is_readable(page + 1)
        } else {
            is_readable(page)
        }
    }
}

impl Deref for Visit {
    type Target = Region;
    fn deref(&self) -> &Region {
        &self.region
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.slot.visitors.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The system's page size in bytes.
pub fn system_page_size() -> usize {
    // SAFETY: sysconf reads a constant of the system.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}
