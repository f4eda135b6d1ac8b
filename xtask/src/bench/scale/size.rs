//! How much there is of everything: as the targets say, or next to nothing.

use std::time::Duration;

/// How much there is of everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Films in the index of which the program starts, and how many chunks of 10 MiB each has.
    pub(super) files: u64,
    pub(super) chunks_per_file: u64,
    /// Starts that are measured.
    pub(super) starts: usize,
    /// Films that are used for the first time, each once.
    pub(super) first_uses: u64,
    /// Readers that do nothing, besides those that come first and are not counted.
    pub(super) parked: u64,
    pub(super) first: u64,
    /// How long busy connections are busy.
    pub(super) busy_for: Duration,
    /// The length of the film that is filled at the rate of a line.
    pub(super) filled: u64,
    /// Films in the full cache, how many chunks each has, and the length of those that are added.
    pub(super) full_files: u64,
    pub(super) full_chunks_per_file: u64,
    pub(super) added: u64,
    /// Everything has come as far as it comes after this time.
    pub(super) settled: Duration,
    /// Whether the targets count.
    pub(super) is_judged: bool,
}

impl Size {
    /// What the targets are about.
    pub(super) const FULL: Self = Self {
        files: 1_000,
        chunks_per_file: 1_000,
        starts: 7,
        first_uses: 101,
        parked: 10_000,
        first: 100,
        busy_for: Duration::from_secs(10),
        filled: 1 << 30,
        full_files: 1_000,
        full_chunks_per_file: 100,
        added: 256 << 20,
        settled: Duration::from_secs(5),
        is_judged: true,
    };

    /// Enough to see that every part works.
    pub(super) const REHEARSED: Self = Self {
        files: 4,
        chunks_per_file: 4,
        starts: 2,
        first_uses: 2,
        parked: 20,
        first: 5,
        busy_for: Duration::from_millis(300),
        filled: 16 << 20,
        full_files: 8,
        full_chunks_per_file: 4,
        added: 8 << 20,
        settled: Duration::from_millis(100),
        is_judged: false,
    };

    /// How long a rehearsed soak works.
    pub(super) const REHEARSED_SOAK: Duration = Duration::from_secs(1);
}
