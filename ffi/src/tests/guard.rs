//! The guard page, and where it goes.

use super::*;

/// A loom whose guard page is posted in its free space.
fn guarded(pages: u32, low: u32, high: u32, guard: u32) -> Loom {
    let loom = Loom::new(pages);
    loom.set(Word::LowPage, low);
    loom.set(Word::HighPage, high);
    loom.set(Word::GuardPage, guard);
    assert_eq!(loom_protect(loom.slot, guard, 1, 0), 0);
    loom
}

#[test]
fn the_guard_page_moves_to_the_middle_of_what_is_left_until_nothing_is() {
    let loom = guarded(64, 8, 56, 32);
    let mut guards = vec![];
    for page in 8..56 {
        loom.write(page, 1);
        if guards.last() != Some(&loom.word(Word::GuardPage)) {
            guards.push(loom.word(Word::GuardPage));
        }
    }
    assert_eq!(guards, [32, 44, 50, 53, 54, 55, NO_PAGE]);
    assert_eq!(loom.word(Word::Flags), FLAG_EXHAUSTED);
    assert!((8..56).all(|page| loom.read(page) == 1));
}

#[test]
fn a_heap_that_runs_into_the_stack_exhausts_memory() {
    let loom = guarded(128, 52, 66, 59);
    for page in (66..128).chain(0..70) {
        loom.write(page, 1);
    }
    assert_eq!(loom.word(Word::GuardPage), NO_PAGE);
    assert_eq!(loom.word(Word::Flags), FLAG_EXHAUSTED);
}

#[test]
fn the_guard_page_is_hit_by_the_stack_too() {
    let loom = guarded(64, 0, 64, 32);
    for page in (32..64).rev() {
        loom.write(page, 1);
    }
    assert_eq!(loom.word(Word::GuardPage), 16);
    assert_eq!(loom.word(Word::GuardHits), 1);
}

#[test]
fn the_guard_is_never_posted_on_a_held_page() {
    let loom = Loom::new(64);
    loom.clean(40);
    for page in 0..20 {
        loom.write(page, 1);
    }
    assert_eq!(loom_reserve_aside(loom.slot), 0);
    loom.set(Word::LowPage, 20);
    loom.set(Word::GuardPage, 42);
    assert_eq!(loom_protect(loom.slot, 42, 1, 0), 0);
    // The middle between the guard and the low watermark is held.
    loom.hold_all(true);
    loom.write(43, 1);
    loom.write(42, 1);
    assert_eq!(loom.word(Word::GuardPage), NO_PAGE);
    assert_eq!(loom.word(Word::Flags), 0);
    assert_eq!(loom.word(Word::GuardHits), 1);
}
