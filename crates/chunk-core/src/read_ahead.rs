//! How much to have ready in front of a reader.

use core::time::Duration;

use crate::estimate::bytes_in;
use crate::{ByteRange, ChunkSize};

/// What an operator decides about read-ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadAheadPolicy {
    /// How much playing time to keep ready.
    pub seconds: Duration,
    /// The most that start-up may claim as urgent, in bytes.
    pub initial: u64,
    /// The largest window in bytes, whatever the rate.
    pub max: u64,
    /// The window in chunks while the rate is unknown.
    pub fallback_chunks: u64,
}

/// The read-ahead of one reader: a window that opens while it reads on and shuts when it seeks.
///
/// ```text
/// full    = min(max(rate · seconds, 1 MiB), max)     with a known rate
///         = min(chunk size · fallback_chunks, max)   without
/// window  = min(full, max(1 MiB, 2 · bytes read since the seek))
/// ```
///
/// A first read therefore asks for 1 MiB and not for half a minute: probes of an index, a thumbnail or two
/// bytes of a browser cost little, and a window that doubles is at 32 MiB after five doublings. One MiB is about
/// the bandwidth-delay product of 100 Mbit/s over 80 ms, so the first request is not cut short of a
/// full pipe.
#[derive(Clone, Copy, Debug)]
pub struct ReadAhead {
    policy: ReadAheadPolicy,
    /// Where the reader is expected to go on.
    position: u64,
    /// Bytes read in sequence since the start or the last seek.
    sequential: u64,
    /// How far the refill goes that was begun last. An offset of its own and not the window's end, which
    /// moves on with each read: chasing it would ask for every read's few bytes anew.
    fill_to: u64,
}

impl ReadAheadPolicy {
    /// Thirty seconds, at most 256 MiB (half a minute at 70 Mbit/s, the peak of a 4K disc); two chunks while
    /// the rate is unknown; 20 MiB at the start.
    pub const DEFAULT: Self = Self {
        seconds: Duration::from_secs(30),
        initial: 20 * 1024 * 1024,
        max: 256 * 1024 * 1024,
        fallback_chunks: 2,
    };
    /// Start-up is over after this much playing time, where the rate is known.
    pub const STARTUP: Duration = Duration::from_secs(2);

    /// The default but for `seconds` of playing time.
    #[must_use]
    pub const fn with_seconds(mut self, seconds: Duration) -> Self {
        self.seconds = seconds;
        self
    }

    /// The default but for the largest window.
    #[must_use]
    pub const fn with_max(mut self, bytes: u64) -> Self {
        self.max = bytes;
        self
    }

    /// The default but for the start-up boost.
    #[must_use]
    pub const fn with_initial(mut self, bytes: u64) -> Self {
        self.initial = bytes;
        self
    }

    /// The default but for the chunks ahead at an unknown rate.
    #[must_use]
    pub const fn with_fallback_chunks(mut self, chunks: u64) -> Self {
        self.fallback_chunks = chunks;
        self
    }

    /// The window of a reader that has read on for long, in bytes; 0 where `seconds` or `max` is.
    #[must_use]
    pub fn full_window(&self, rate: Option<u64>, chunk_size: ChunkSize) -> u64 {
        let wish = match rate {
            _ if self.seconds.is_zero() => 0,
            Some(rate) => bytes_in(rate, self.seconds).max(ReadAhead::FIRST_WINDOW),
            None => chunk_size.get().saturating_mul(self.fallback_chunks),
        };
        wish.min(self.max)
    }

    /// How many bytes after a start or a seek are urgent as a whole: the smaller of the initial buffer
    /// and two seconds of media.
    #[must_use]
    pub fn startup_boost(&self, rate: Option<u64>) -> u64 {
        let media = rate.map_or(u64::MAX, |rate| bytes_in(rate, Self::STARTUP));
        self.initial.min(media)
    }
}

impl Default for ReadAheadPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl ReadAhead {
    /// The window of a reader that has read nothing yet.
    pub const FIRST_WINDOW: u64 = 1024 * 1024;

    /// A reader that starts at `position`.
    #[must_use]
    pub const fn new(policy: ReadAheadPolicy, position: u64) -> Self {
        Self {
            policy,
            position,
            sequential: 0,
            fill_to: position,
        }
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &ReadAheadPolicy {
        &self.policy
    }

    /// Limits can change while the program runs.
    pub const fn set_policy(&mut self, policy: ReadAheadPolicy) {
        self.policy = policy;
    }

    /// Where the reader is expected to go on.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The reader read `bytes` at `position`. A position other than the expected one is a seek, unless
    /// it skips ahead inside the window: players skip over tracks they do not play.
    pub fn on_read(&mut self, position: u64, bytes: u64) {
        let skipped = position.checked_sub(self.position);
        if skipped.is_none_or(|skipped| skipped > self.reach()) {
            self.on_seek(position);
        }
        self.sequential = self.sequential.saturating_add(bytes);
        self.position = position.saturating_add(bytes);
    }

    /// The reader goes on at `position`: the window shuts, and fills anew.
    pub const fn on_seek(&mut self, position: u64) {
        self.position = position;
        self.sequential = 0;
        self.fill_to = position;
    }

    /// The bytes to have ready from `position` on; `None` at the end of all offsets. The caller clips
    /// them to the file.
    #[must_use]
    pub fn window(
        &self,
        position: u64,
        rate: Option<u64>,
        chunk_size: ChunkSize,
    ) -> Option<ByteRange> {
        let len = self.policy.full_window(rate, chunk_size).min(self.reach());
        ByteRange::try_new(position, position.saturating_add(len))
    }

    /// What to fetch now that `ahead` bytes are ready at `position`; `None` while resting.
    ///
    /// A refill begins when less than half of the window is ready, and goes up to where the window ended
    /// then: a few long requests rather than one for each read.
    pub fn refill(
        &mut self,
        position: u64,
        ahead: u64,
        rate: Option<u64>,
        chunk_size: ChunkSize,
    ) -> Option<ByteRange> {
        let window = self.window(position, rate, chunk_size)?;
        self.fill_to = if ahead < window.len().div_ceil(2) {
            window.end()
        } else {
            // The window may have shrunk since.
            self.fill_to.min(window.end())
        };
        ByteRange::try_new(position.saturating_add(ahead), self.fill_to)
    }

    /// What is left of the start-up boost: these many bytes from the position on are urgent as a whole.
    #[must_use]
    pub fn startup_left(&self, rate: Option<u64>) -> u64 {
        self.policy
            .startup_boost(rate)
            .saturating_sub(self.sequential)
    }

    fn reach(&self) -> u64 {
        self.sequential.saturating_mul(2).max(Self::FIRST_WINDOW)
    }
}
