//! Where pages were found in the page cache a moment ago, so that they are not looked for again at once.
//!
//! A look is a system call. What has just been looked at is what the kernel takes away last.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is looked at as one: what players' smaller ranges are, and half of what the kernel reads ahead at least.
pub(crate) const CELL: u64 = 64 * 1024;
/// How long a look counts. The page cache of a busy machine is another one after a few seconds.
const FRESH: Duration = Duration::from_secs(1);
/// How many cells are remembered of a segment: those of 16 MiB, which is more than a segment usually has.
const CELLS: usize = 256;

/// The looks at one file.
#[derive(Debug)]
pub(crate) struct Looks {
    began: Instant,
    /// Each with the number of the cell in its upper half, counted from 1, and the time in its lower half. Files that
    /// nothing is sent from have none.
    cells: OnceLock<Box<[AtomicU64; CELLS]>>,
}

/// A moment, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(u32);

impl Looks {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            cells: OnceLock::new(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        // Round and round, once in 49 days: a cell that nobody has looked at for just that long costs a wait.
        let millis = self.began.elapsed().as_millis() & u128::from(u32::MAX);
        Moment(u32::try_from(millis).unwrap_or_default())
    }

    /// Whether the cell has been found a moment ago.
    pub(crate) fn has(&self, cell: u64, now: Moment) -> bool {
        let noted = self.slot(cell).load(Ordering::Relaxed);
        let since = now.0.wrapping_sub((noted & u64::from(u32::MAX)) as u32);
        noted >> 32 == name(cell) && Duration::from_millis(since.into()) < FRESH
    }

    pub(crate) fn note(&self, cell: u64, now: Moment) {
        let noted = name(cell) << 32 | u64::from(now.0);
        self.slot(cell).store(noted, Ordering::Relaxed);
    }

    fn slot(&self, cell: u64) -> &AtomicU64 {
        let cells = self
            .cells
            .get_or_init(|| Box::new([const { AtomicU64::new(0) }; CELLS]));
        &cells[cell as usize % CELLS]
    }
}

/// None is 0, which is what nothing has been noted in. Segments are shorter than 2³¹ cells.
const fn name(cell: u64) -> u64 {
    cell % (1 << 31) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_for_its_cell_and_for_a_second() {
        let looks = Looks::new();
        let at = Moment;
        assert!(!looks.has(0, at(0)), "nothing has been looked at");
        looks.note(0, at(5));
        assert!(looks.has(0, at(5)) && looks.has(0, at(1004)));
        assert!(!looks.has(0, at(1005)), "that was too long ago");
        assert!(!looks.has(0, at(4)), "nor is it of the future");
        for other in [1, CELLS as u64, 1 << 30] {
            assert!(!looks.has(other, at(5)), "{other}");
        }
        looks.note(CELLS as u64, at(6));
        assert!(!looks.has(0, at(6)), "both have one place");
        assert!(looks.has(CELLS as u64, at(6)));
    }

    #[test]
    fn time_may_go_round() {
        let looks = Looks::new();
        looks.note(3, Moment(u32::MAX));
        assert!(looks.has(3, Moment(998)));
        assert!(!looks.has(3, Moment(999)));
    }
}
