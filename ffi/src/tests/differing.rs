//! Which words differ, by the processor's instructions and without them.

use crate::differing::{STRIDE, differing, differing_anywhere};

#[test]
fn each_word_that_differs_has_its_bit_and_no_other() {
    let old: [u32; STRIDE] = core::array::from_fn(|at| 0x8000_7fff ^ (at as u32) << 14);
    for which in 0..1u64 << STRIDE {
        for change in [1, 1 << 15, 1 << 16, 1 << 31, u32::MAX] {
            let new = core::array::from_fn(|at| match which >> at & 1 {
                1 => old[at] ^ change,
                _ => old[at],
            });
            assert_eq!(differing(&new, &old), which);
            assert_eq!(differing_anywhere(&new, &old), which);
        }
    }
}
