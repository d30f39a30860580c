//! Runs of pages in the bitmaps that are shared with TypeScript, against plain lists.

use super::*;
use std::ops::Range;

const PAGES: u32 = 200;

/// Every range of whole words and of parts of them.
fn ranges() -> impl Iterator<Item = Range<u32>> {
    let ends = [0, 1, 31, 32, 33, 63, 64, 95, 96, 130, 160, 199, PAGES];
    ends.into_iter().flat_map(move |first| {
        let after = move |end: &u32| *end > first;
        ends.into_iter().filter(after).map(move |end| first..end)
    })
}

#[test]
fn pages_are_set_and_cleared_and_no_others() {
    let loom = Loom::new(PAGES);
    let state = loom.region().state;
    for range in ranges() {
        for on in [true, false] {
            state.set_mapped(0, PAGES, !on);
            state.set_gathered(0, PAGES, !on);
            state.set_mapped(range.start, range.end, on);
            for page in 0..PAGES {
                let (is_mapped, _) = state.mapped_run(page, page + 1);
                assert_eq!(
                    is_mapped,
                    range.contains(&page) == on,
                    "{page} of {range:?}"
                );
                assert_eq!(state.is_gathered(page), !on, "{page} beside {range:?}");
            }
        }
    }
}

#[test]
fn a_run_of_mapped_pages_ends_where_one_is_not_as_the_first() {
    let loom = Loom::new(PAGES);
    let state = loom.region().state;
    for mapped in ranges() {
        state.set_mapped(0, PAGES, false);
        state.set_mapped(mapped.start, mapped.end, true);
        for asked in ranges() {
            let first = mapped.contains(&asked.start);
            let end = asked
                .clone()
                .find(|page| mapped.contains(page) != first)
                .unwrap_or(asked.end);
            let found = state.mapped_run(asked.start, asked.end);
            assert_eq!(found, (first, end), "{asked:?} of {mapped:?}");
        }
    }
}
