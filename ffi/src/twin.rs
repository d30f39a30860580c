//! Memory that JavaScript has, mapped a second time: the same bytes at another address,
//! which stay when JavaScript's own go with its isolate. For what the library and its
//! threads may use at any time.

#[cfg(target_os = "linux")]
use crate::errno;

/// The second mapping; on systems that make none, JavaScript's own memory.
#[derive(Clone, Copy)]
pub struct Twin {
    pub address: *mut u8,
    original: *mut u8,
    length: usize,
}

impl Twin {
    /// A twin from its parts, as the accessors give them.
    pub const fn from_parts(address: *mut u8, original: *mut u8, length: usize) -> Self {
        Self {
            address,
            original,
            length,
        }
    }

    pub fn parts(&self) -> (*mut u8, *mut u8, usize) {
        (self.address, self.original, self.length)
    }

    /// Makes fresh pages of those at `original`, all zeros, and maps them a second time.
    /// -errno where the system has no memory for them, or no mapping left: JavaScript's own
    /// wouldn't do, since the fault handler uses it when its isolate has ended.
    ///
    /// # Safety
    /// `original` must begin `length` bytes of whole system pages, as JavaScript's memory
    /// for WebAssembly does, that hold nothing yet.
    pub unsafe fn make(original: *mut u8, length: usize) -> Result<Self, i32> {
        // SAFETY: the caller's promise: MAP_FIXED replaces those pages only. A length of 0
        // has mremap(2) map shared pages a second time.
        #[cfg(target_os = "linux")]
        let address = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let pages = libc::mmap(original.cast(), length, access, flags, -1, 0);
            if pages == libc::MAP_FAILED {
                return Err(-errno::last());
            }
            match libc::mremap(pages, 0, length, libc::MREMAP_MAYMOVE) {
                // The pages stay: they are JavaScript's memory as well as those before them.
                libc::MAP_FAILED => return Err(-libc::ENOMEM),
                twin => twin.cast(),
            }
        };
        #[cfg(not(target_os = "linux"))]
        let address = original;
        Ok(Self::from_parts(address, original, length))
    }

    /// Where the twin has what the original has at an address; none where that is elsewhere.
    pub fn of(&self, address: *const u8) -> Option<*mut u8> {
        let offset = (address as usize).checked_sub(self.original as usize)?;
        // SAFETY: the offset lies within the twin.
        (offset < self.length).then(|| unsafe { self.address.add(offset) })
    }

    /// Unmaps the twin.
    ///
    /// # Safety
    /// Nobody may use it any more.
    pub unsafe fn end(&self) {
        if self.address != self.original {
            // SAFETY: mapped by `make` in this length, and the caller's promise.
            unsafe { libc::munmap(self.address.cast(), self.length) };
        }
    }
}
