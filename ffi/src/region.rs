//! The table of attached regions. The fault handler finds a region by address
//! here, so entries are plain atomics: nothing is allocated and nothing locked.

use crate::state::State;
use crate::{aside, budget, errno, fault};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// How many looms one process can have open at once.
pub const CAPACITY: usize = 64;

const FREE: usize = 0;
const CLAIMED: usize = 1;

struct Slot {
    /// The region's address; FREE, or CLAIMED while it is being filled in.
    base: AtomicUsize,
    pages: AtomicU32,
    /// How many pages the shared words have room for.
    capacity: AtomicU32,
    page_shift: AtomicU32,
    image: AtomicI32,
    opens_clean: AtomicBool,
    scratch: AtomicI32,
    moves_to_scratch: AtomicBool,
    aside: AtomicUsize,
    state: AtomicPtr<AtomicU32>,
}

static SLOTS: [Slot; CAPACITY] = [const {
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
        state: AtomicPtr::new(core::ptr::null_mut()),
    }
}; CAPACITY];

/// Slots from this one on were never used: most processes have one loom.
static USED: AtomicUsize = AtomicUsize::new(0);

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

    fn load(slot: &Slot) -> Option<Region> {
        let base = slot.base.load(Ordering::Acquire);
        if base == FREE || base == CLAIMED {
            return None;
        }
        let pages = slot.pages.load(Ordering::Acquire);
        let capacity = slot.capacity.load(Ordering::Relaxed);
        // SAFETY: `attach` was given words for this many pages, and its caller keeps
        // them until `detach` has cleared the base that was just seen.
        let state = unsafe { State::new(slot.state.load(Ordering::Relaxed), capacity) };
        Some(Region {
            base,
            pages,
            page_shift: slot.page_shift.load(Ordering::Relaxed),
            image: slot.image.load(Ordering::Relaxed),
            opens_clean: slot.opens_clean.load(Ordering::Relaxed),
            scratch: slot.scratch.load(Ordering::Relaxed),
            moves_to_scratch: slot.moves_to_scratch.load(Ordering::Relaxed),
            aside: slot.aside.load(Ordering::Acquire),
            state,
        })
    }

    /// The region in a slot, where one is attached.
    pub fn at(slot: u32) -> Option<Region> {
        SLOTS.get(slot as usize).and_then(Region::load)
    }

    /// The region that holds an address, and the page of it.
    pub fn find(address: usize) -> Option<(Region, u32)> {
        Region::all().find_map(|region| {
            let offset = address.checked_sub(region.base)?;
            let page = offset >> region.page_shift;
            (page < region.pages as usize).then_some((region, page as u32))
        })
    }

    /// Every region that is attached now.
    pub fn all() -> impl Iterator<Item = Region> {
        SLOTS[..USED.load(Ordering::Acquire)]
            .iter()
            .filter_map(Region::load)
    }
}

/// Attaches the memory at `base`: from now on faults in it are ours. `state` must
/// hold the words that state.rs describes, for `capacity` pages, all zero but for
/// what TypeScript set: a memory that grows keeps them.
/// Returns the region's slot; -EMFILE when 64 looms are open already.
#[unsafe(no_mangle)]
pub extern "C" fn loom_attach(
    base: *mut u8,
    state: *mut AtomicU32,
    pages: u32,
    page_size: u32,
    capacity: u32,
) -> i32 {
    if pages > capacity
        || !page_size.is_power_of_two()
        || base.is_null()
        || !(base as usize).is_multiple_of(page_size_of_system())
    {
        return -libc::EINVAL;
    }
    let installed = fault::install();
    if installed != 0 {
        return installed;
    }
    budget::measure();
    for (index, slot) in SLOTS.iter().enumerate() {
        let claim = slot
            .base
            .compare_exchange(FREE, CLAIMED, Ordering::AcqRel, Ordering::Relaxed);
        if claim.is_err() {
            continue;
        }
        slot.pages.store(pages, Ordering::Relaxed);
        slot.capacity.store(capacity, Ordering::Relaxed);
        slot.page_shift
            .store(page_size.trailing_zeros(), Ordering::Relaxed);
        slot.image.store(-1, Ordering::Relaxed);
        slot.opens_clean.store(false, Ordering::Relaxed);
        slot.scratch.store(-1, Ordering::Relaxed);
        slot.moves_to_scratch.store(false, Ordering::Relaxed);
        slot.aside.store(0, Ordering::Relaxed);
        slot.state.store(state, Ordering::Relaxed);
        slot.base.store(base as usize, Ordering::Release);
        USED.fetch_max(index + 1, Ordering::AcqRel);
        return index as i32;
    }
    -libc::EMFILE
}

/// Forgets a region: faults in it are no longer ours, and the shared words are
/// not touched again.
#[unsafe(no_mangle)]
pub extern "C" fn loom_detach(slot: u32) -> i32 {
    let Some(region) = Region::at(slot) else {
        return -libc::EINVAL;
    };
    SLOTS[slot as usize].base.store(FREE, Ordering::Release);
    aside::unmap(&region);
    0
}

/// Says how many pages a region has from now on: its memory has grown in place.
#[unsafe(no_mangle)]
pub extern "C" fn loom_resize(slot: u32, pages: u32) -> i32 {
    match SLOTS.get(slot as usize) {
        Some(slot) if pages <= slot.capacity.load(Ordering::Relaxed) => {
            slot.pages.store(pages, Ordering::Release);
            0
        }
        _ => -libc::EINVAL,
    }
}

/// Whether the region in `slot` still lies at `base`: 1 or 0. A memory that was
/// grown by being moved does not.
#[unsafe(no_mangle)]
pub extern "C" fn loom_is_at(slot: u32, base: *const u8) -> i32 {
    Region::at(slot).is_some_and(|region| region.base == base as usize) as i32
}

/// Notes which file a region's clean pages are mapped from, and whether they can be
/// written there.
pub fn set_image(slot: u32, descriptor: i32, writable: bool) {
    if let Some(slot) = SLOTS.get(slot as usize) {
        slot.opens_clean.store(writable, Ordering::Relaxed);
        slot.image.store(descriptor, Ordering::Release);
    }
}

/// Notes where a region's pages are kept.
pub fn set_aside(slot: u32, base: usize) {
    if let Some(slot) = SLOTS.get(slot as usize) {
        slot.aside.store(base, Ordering::Release);
    }
}

/// Gives a region its scratch file. `moves` is 1 where a first write moves its
/// page there, 0 where all pages lie there already.
#[unsafe(no_mangle)]
pub extern "C" fn loom_set_scratch(slot: u32, descriptor: i32, moves: u32) -> i32 {
    match SLOTS.get(slot as usize) {
        Some(slot) => {
            slot.moves_to_scratch.store(moves != 0, Ordering::Relaxed);
            slot.scratch.store(descriptor, Ordering::Release);
            0
        }
        None => -libc::EINVAL,
    }
}

fn page_size_of_system() -> usize {
    loom_system_page_size() as usize
}

/// The system's page size in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn loom_system_page_size() -> i32 {
    // SAFETY: sysconf reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if size < 0 {
        -errno::last()
    } else {
        size as i32
    }
}
