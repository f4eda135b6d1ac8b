//! Limits for what nobody waits for.
//!
//! Readers that yield to all others, explicit requests of medium and low priority, and what is fetched after them,
//! may be given a rate, in all and for each origin. A bucket for each limit fills at that rate; a run may read as far
//! as it is filled, and is held once it is empty, until a block fits in again. On a metered line such work rests
//! altogether, but for these readers, whose clients wait.
//!
//! ```text
//! bucket   min(rate · time since, max(rate / 4 s⁻¹, 128 KiB)) − bytes received
//! ```
//!
//! Runs that read at once may each read what is there, so that one that stands still keeps nobody from it. What
//! they take too much is owed.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::need::{Rank, Urgency};
use super::{OriginId, Scheduler, SourceId};
use crate::{BLOCK_SIZE, Tick};

/// One limit.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// Below 0 where more came than was allowed: an origin may answer with more than it was asked for.
    level: i64,
    since: Tick,
}

impl Bucket {
    /// A held run goes on once this much may be read.
    const LEAST: u64 = BLOCK_SIZE;

    /// With enough to begin.
    fn new(rate: u64, now: Tick) -> Self {
        Self {
            rate: rate.max(1),
            level: i64::try_from(Self::LEAST).unwrap_or(i64::MAX),
            since: now,
        }
    }

    /// A quarter of a second's worth, and two blocks at least.
    fn size(&self) -> u64 {
        (self.rate / 4).max(2 * Self::LEAST)
    }

    fn fill(&mut self, now: Tick) {
        let passed = now.since(self.since).as_nanos();
        let gained = passed.saturating_mul(u128::from(self.rate)) / NANOS;
        if gained == 0 {
            return;
        }
        let size = i64::try_from(self.size()).unwrap_or(i64::MAX);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(gained);
        if self.level >= size {
            self.level = size;
            self.since = now;
        } else {
            // What did not make a whole byte counts next time.
            let nanos = (gained.unsigned_abs() as u128 * NANOS).div_ceil(u128::from(self.rate));
            self.since = self.since + duration(nanos.min(passed));
        }
    }

    fn left(&self) -> u64 {
        u64::try_from(self.level).unwrap_or(0)
    }

    /// When a held run may go on.
    fn ready_at(&self) -> Tick {
        let least = i64::try_from(Self::LEAST).unwrap_or(i64::MAX);
        let missing = least.saturating_sub(self.level).max(0).unsigned_abs();
        let nanos = (u128::from(missing) * NANOS).div_ceil(u128::from(self.rate));
        self.since + duration(nanos)
    }

    fn take(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.level = self.level.saturating_sub(bytes);
    }
}

const NANOS: u128 = 1_000_000_000;

fn duration(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// All limits in force.
#[derive(Debug)]
pub(super) struct Background {
    all: Option<Bucket>,
    origins: BTreeMap<OriginId, Bucket>,
    /// When a bucket is full enough for something that is held back by it to go on.
    due: Tick,
}

impl Background {
    pub(super) const fn new() -> Self {
        Self {
            all: None,
            origins: BTreeMap::new(),
            due: Tick::NEVER,
        }
    }

    pub(super) const fn due(&self) -> Tick {
        self.due
    }

    pub(super) fn limit_all(&mut self, rate: Option<u64>, now: Tick) {
        set(&mut self.all, rate, now);
    }

    pub(super) fn limit_origin(&mut self, origin: OriginId, rate: Option<u64>, now: Tick) {
        let mut bucket = self.origins.remove(&origin);
        set(&mut bucket, rate, now);
        self.origins.extend(bucket.map(|bucket| (origin, bucket)));
    }

    fn of(&self, origin: OriginId) -> impl Iterator<Item = &Bucket> {
        self.all.iter().chain(self.origins.get(&origin))
    }

    fn of_mut(&mut self, origin: OriginId) -> impl Iterator<Item = &mut Bucket> {
        self.all.iter_mut().chain(self.origins.get_mut(&origin))
    }

    pub(super) fn is_limited(&self, origin: OriginId) -> bool {
        self.all.is_some() || self.origins.contains_key(&origin)
    }

    /// How much may be read of an origin now, `None` for any amount; `is_running` where something is being read
    /// already, which goes on to the last byte.
    fn left(&self, origin: OriginId, is_running: bool) -> Option<u64> {
        let left = self.of(origin).map(Bucket::left).min()?;
        Some(if is_running || left >= Bucket::LEAST {
            left
        } else {
            0
        })
    }
}

/// A new rate begins with what was there.
fn set(bucket: &mut Option<Bucket>, rate: Option<u64>, now: Tick) {
    *bucket = match (*bucket, rate) {
        (_, None) => None,
        (None, Some(rate)) => Some(Bucket::new(rate, now)),
        (Some(mut bucket), Some(rate)) => {
            bucket.fill(now);
            bucket.rate = rate.max(1);
            Some(bucket)
        }
    };
}

impl Scheduler {
    /// Counts what time has brought, before a plan.
    pub(super) fn fill_background(&mut self) {
        let now = self.now;
        self.background.due = Tick::NEVER;
        let has_use = self.has_background();
        let all = self.background.all.iter_mut();
        for bucket in all.chain(self.background.origins.values_mut()) {
            bucket.fill(now);
            if has_use && bucket.left() < Bucket::LEAST {
                self.background.due = self.background.due.min(bucket.ready_at());
            }
        }
    }

    /// How much may be read for a want that nobody waits for; 0 where it has to be held back.
    pub(super) fn background_left(&self, id: SourceId, is_under_way: bool) -> u64 {
        let source = self.sources.get(&id);
        source
            .and_then(|source| self.background.left(source.origin, is_under_way))
            .unwrap_or(u64::MAX)
    }

    /// Whether nothing of that origin may be begun at present.
    pub(super) fn is_throttled(&self, origin: OriginId, urgency: Urgency) -> bool {
        urgency.rank.is_background() && self.background.left(origin, false) == Some(0)
    }

    /// Bytes have come for something of that rank.
    pub(super) fn charge(&mut self, origin: OriginId, rank: Rank, bytes: u64) {
        if rank.is_background() && self.background.is_limited(origin) {
            let now = self.now;
            for bucket in self.background.of_mut(origin) {
                bucket.fill(now);
                bucket.take(bytes);
            }
        }
    }
}
