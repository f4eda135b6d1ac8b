//! What a media file's own header tells: how long it plays, and where its index lies.
//!
//! A cache need not understand films. Three facts are worth a look at bytes it holds anyway: the mean rate,
//! which tells how urgent a player's bytes are before it has ever paused; the index, which players read
//! before anything else and after each seek; and where that index is, which for many files is the far end.
//! Everything else in a container is skipped over by its length.
//!
//! The bytes come from outside and may say anything. Each step moves forward or ends, counts are bounded, and
//! what makes no sense is left out: nothing found is the worst that a hostile file brings about.

mod avi;
mod matroska;
mod mp4;
mod piece;

use alloc::vec::Vec;
use core::time::Duration;

use crate::ByteRange;
use piece::Piece;

/// The largest hot range. An index has a few dozen bytes per key frame, so that 16 MiB last for days.
const MAX_HOT: u64 = 16 * 1024 * 1024;
/// How much to look at in one place; enough for any header, and one block of the cache.
const LOOK: u64 = 64 * 1024;
/// In how many places to look after the head. An ordinary file needs one, an awkward one three.
const MAX_LOOKS: usize = 8;
/// How many hot ranges there are at most.
const MAX_RANGES: usize = 8;
/// How many elements of one level are walked over; ordinary files have less than twenty before the media.
const MAX_STEPS: usize = 64;
/// Slower than any speech codec, or faster than any disk plays: the header is wrong. A wrong rate is worse
/// than none, because deadlines are computed from it.
const PLAUSIBLE: core::ops::RangeInclusive<u128> = 500..=1_000_000_000;

/// The family of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ContainerKind {
    /// ISO base media (ISO/IEC 14496-12) and QuickTime: `mp4`, `m4v`, `m4a`, `mov`.
    Mp4,
    /// Matroska and WebM (RFC 9559).
    Matroska,
    /// AVI, with or without the OpenDML extensions.
    Avi,
}

/// What the header of a media file has told so far.
///
/// ```
/// use chunk_core::{Container, ContainerKind};
///
/// // A file type box, then 90,000 bytes of media: the index can only lie behind them.
/// let mut head = Vec::new();
/// head.extend_from_slice(b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00");
/// head.extend_from_slice(b"\x00\x01\x5f\x90mdat");
/// let film = Container::probe(&head, 100_000).unwrap();
/// assert_eq!(film.kind(), ContainerKind::Mp4);
/// assert_eq!(film.needs().unwrap().start(), 16 + 90_000);
/// assert_eq!(film.hot(), [film.needs().unwrap()]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    kind: ContainerKind,
    total_len: u64,
    duration: Option<Duration>,
    hot: Vec<ByteRange>,
    /// Index ranges whose extent the file has told.
    known: Vec<ByteRange>,
    /// Where an index is said to begin whose extent is not known yet.
    likely: Vec<u64>,
    /// Where to look next.
    pending: Vec<u64>,
    /// Where a look has been had.
    looked: Vec<u64>,
    /// What positions in a Matroska segment count from.
    base: u64,
}

impl Container {
    /// Reads the first bytes of a file of `total_len` bytes. 64 KiB are enough for nearly every file, and
    /// fewer tell less. `None` where it is no container that is known here.
    #[must_use]
    pub fn probe(head: &[u8], total_len: u64) -> Option<Self> {
        let piece = Piece::new(0, head, total_len);
        let kind = if mp4::is_head(piece) {
            ContainerKind::Mp4
        } else if matroska::is_head(piece) {
            ContainerKind::Matroska
        } else if avi::is_head(piece) {
            ContainerKind::Avi
        } else {
            return None;
        };
        let mut found = Self {
            kind,
            total_len,
            duration: None,
            hot: Vec::new(),
            known: Vec::new(),
            likely: Vec::new(),
            pending: Vec::new(),
            looked: Vec::new(),
            base: 0,
        };
        match kind {
            ContainerKind::Mp4 => mp4::walk(&mut found, piece),
            ContainerKind::Matroska => matroska::walk(&mut found, piece),
            ContainerKind::Avi => avi::walk_head(&mut found, piece),
        }
        found.settle();
        Some(found)
    }

    /// Takes in bytes from where [`Self::needs`] begins; as many of them as there are. [`Self::needs`] says
    /// afterwards whether another place is worth a look. Does nothing where nothing is needed.
    pub fn read_on(&mut self, bytes: &[u8]) {
        let Some(needs) = self.needs() else {
            return;
        };
        let at = needs.start();
        self.pending.retain(|&pending| pending != at);
        self.likely.retain(|&likely| likely != at);
        self.looked.push(at);
        let piece = Piece::new(at, bytes, self.total_len);
        match self.kind {
            ContainerKind::Mp4 => mp4::walk(self, piece),
            ContainerKind::Matroska => matroska::look(self, piece),
            ContainerKind::Avi => avi::walk(self, piece, self.total_len),
        }
        self.settle();
    }

    /// Which container it is.
    #[must_use]
    pub const fn kind(&self) -> ContainerKind {
        self.kind
    }

    /// How long it plays, where the file has told.
    #[must_use]
    pub const fn duration(&self) -> Option<Duration> {
        self.duration
    }

    /// Bytes a second on average: the file's length by its duration. `None` where either is not known, or
    /// the result is no rate that media have.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        let nanos = self.duration?.as_nanos();
        let rate = u128::from(self.total_len)
            .checked_mul(1_000_000_000)?
            .checked_div(nanos)?;
        PLAUSIBLE
            .contains(&rate)
            .then(|| u64::try_from(rate).ok())?
    }

    /// Where the index lies, or is likely to: in order, apart from each other, inside the file, at most
    /// eight ranges of at most 16 MiB each.
    #[must_use]
    pub fn hot(&self) -> &[ByteRange] {
        &self.hot
    }

    /// The bytes that would tell more, at most 64 KiB; `None` where nothing would.
    #[must_use]
    pub fn needs(&self) -> Option<ByteRange> {
        if self.looked.len() >= MAX_LOOKS {
            return None;
        }
        let &at = self.pending.first()?;
        ByteRange::try_new(at, at.saturating_add(LOOK).min(self.total_len))
    }

    fn set_duration(&mut self, nanos: u128) {
        let seconds = u64::try_from(nanos / 1_000_000_000).ok();
        let rest = u32::try_from(nanos % 1_000_000_000).ok();
        if let (Some(seconds), Some(rest)) = (seconds, rest)
            && nanos > 0
        {
            self.duration = Some(Duration::new(seconds, rest));
        }
    }

    /// The index covers these bytes.
    fn add_index(&mut self, start: u64, end: u64) {
        let end = end.min(self.total_len).min(start.saturating_add(MAX_HOT));
        if let Some(range) = ByteRange::try_new(start, end)
            && self.known.len() < MAX_RANGES
        {
            self.known.push(range);
        }
    }

    /// An index begins here, or so it seems.
    fn add_likely(&mut self, at: u64) {
        if at < self.total_len && self.likely.len() < MAX_RANGES && !self.looked.contains(&at) {
            self.likely.push(at);
        }
    }

    /// What lies here would tell more.
    fn look_at(&mut self, at: u64) {
        let is_news = !self.pending.contains(&at) && !self.looked.contains(&at);
        if at < self.total_len && is_news && self.pending.len() < MAX_LOOKS {
            self.pending.push(at);
        }
    }

    /// Puts the hot ranges together.
    fn settle(&mut self) {
        self.likely.sort_unstable();
        self.likely.dedup();
        let mut all = self.known.clone();
        for (index, &start) in self.likely.iter().enumerate() {
            // It reaches to what comes next, or to the end. Where that is too far, the end of the index lies
            // in between, and one look at its beginning will tell.
            let next = self.likely.get(index + 1).copied();
            let len = next.unwrap_or(self.total_len) - start;
            let len = if len > MAX_HOT { LOOK } else { len };
            all.extend(ByteRange::with_len(start, len.min(self.total_len - start)));
        }
        all.sort_unstable();
        let mut hot: Vec<ByteRange> = Vec::new();
        for range in all {
            let start = hot.last().map_or(0, |last| last.end()).max(range.start());
            hot.extend(ByteRange::try_new(start, range.end()));
        }
        hot.truncate(MAX_RANGES);
        self.hot = hot;
    }
}
