//! What a reader lacks, and how urgently.

use core::time::Duration;

use super::trial::Candidate;
use super::{Config, ReaderId, Scheduler, Start};
use crate::block::block_end;
use crate::{BLOCK_SIZE, ByteRange, Priority, ReadAhead, ReadAheadPolicy, Tick};

/// How urgent a want is. Smaller is more urgent: first by rank, then by deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Urgency {
    pub(super) rank: Rank,
    /// When the first missing byte is due. Explicit requests are due at once, so that they go before
    /// readers of their level.
    pub(super) deadline: Tick,
}

/// The four levels, with what lies between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Critical,
    /// A player that has enough for now; explicit requests.
    High,
    /// A reader whose rate nobody knows: a player that still fills its own buffer, or a copy.
    Unproven,
    /// A reader that takes what it gets and never pauses: a copy, which must not tie with a player.
    Bulk,
    /// A reader that yields to all others. Before what was ordered, because a client waits for it meanwhile.
    Yielding,
    Medium,
    Low,
    /// Completing blocks that a seek cut.
    Tidy,
}

impl Rank {
    /// The rank of a player that runs dry at `dry`.
    fn of_a_player(dry: Tick, now: Tick) -> Self {
        if dry <= now + Scheduler::NEAR {
            Self::Critical
        } else {
            Self::High
        }
    }

    /// Whether nobody minds how long it takes.
    pub(super) fn is_background(self) -> bool {
        self >= Self::Yielding
    }
}

impl Urgency {
    /// The rank of an explicit request.
    pub(super) const fn explicit(priority: Priority) -> Self {
        Self {
            rank: match priority {
                Priority::Critical => Rank::Critical,
                Priority::High => Rank::High,
                Priority::Medium => Rank::Medium,
                Priority::Low => Rank::Low,
            },
            deadline: Tick::ZERO,
        }
    }

    /// A reader that does not read what is there.
    const PAUSED: Self = Self {
        rank: Rank::Bulk,
        deadline: Tick::NEVER,
    };

    pub(super) const TIDY: Self = Self {
        rank: Rank::Tidy,
        deadline: Tick::NEVER,
    };

    /// The level this amounts to.
    pub(super) const fn level(self) -> Priority {
        match self.rank {
            Rank::Critical => Priority::Critical,
            Rank::High | Rank::Unproven | Rank::Bulk => Priority::High,
            Rank::Yielding | Rank::Medium => Priority::Medium,
            Rank::Low | Rank::Tidy => Priority::Low,
        }
    }
}

/// A reader's first missing byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) urgency: Urgency,
    /// Where it is; counted from the end only while the length is unknown.
    pub(super) at: Start,
    /// How far a run for it may read.
    pub(super) until: u64,
    /// Where a run for it should end, exclusive; `None` for the file's end.
    pub(super) end: Option<u64>,
    /// The bytes a second that its reader consumes, where known.
    pub(super) rate: Option<u64>,
    /// How far several connections may read together.
    pub(super) wide_until: u64,
    /// Nothing is read further ahead for it, whatever else its window would be.
    pub(super) bound: u64,
    /// Since when its reader reads on without a seek.
    pub(super) since: Tick,
    /// Its reader, where nobody knows whether it plays and it takes what it gets.
    pub(super) candidate: Option<Candidate>,
    /// When a player that leaves unread what is there has long had nothing of its own: then who watches has paused it.
    pub(super) left_at: Tick,
    /// Up to where what is there will be there when it is wanted.
    pub(super) stays_until: u64,
}

impl Scheduler {
    /// A player that runs dry sooner is critical. Long against round trips and the pauses of a line, and what a
    /// player needs to start with at most.
    pub(super) const NEAR: Duration = ReadAheadPolicy::STARTUP;

    /// A reader of unknown rate that has this much ready does not take what it gets: nobody rests for what it has to show.
    const AMPLE: u64 = 1024 * 1024;

    /// How long a copy goes without a byte before it takes the slot of another: where there are more copies
    /// than slots, each change of turns costs a request.
    pub(super) const TURN: Duration = Duration::from_secs(5);

    /// The same for a reader that yields to all others: it gets so little that nobody minds, and so often that its
    /// client does not give up, which few do within half a minute.
    const LONG_TURN: Duration = Duration::from_secs(20);

    /// The same for a reader that may be a player: its run is held meanwhile, which costs nothing.
    pub(super) const SHORT_TURN: Duration = Duration::from_secs(1);

    /// The urgency that a need has come to: a player that rests plays on, and one that is paused does not.
    pub(super) fn urgency_by_now(&self, need: &Need) -> Urgency {
        if need.left_at <= self.now {
            return Urgency::PAUSED;
        }
        let mut urgency = need.urgency;
        if urgency.rank == Rank::High && need.rate.is_some() {
            urgency.rank = Rank::of_a_player(urgency.deadline, self.now);
        }
        urgency
    }

    pub(super) fn need_of(&mut self, id: ReaderId) -> Option<Need> {
        let reader = self.readers.get_mut(&id)?;
        let source = self.sources.get(&reader.source)?;
        if reader.has_given_up {
            return None;
        }
        let since = reader.waiting_since.unwrap_or(self.now);
        // Who has bytes to read needs no turn.
        let waiting_since = reader.waits_since(self.now);
        let turn = |after| waiting_since.map_or(Tick::NEVER, |since| since + after);
        let yielding = reader.yields.then(|| Urgency {
            rank: Rank::Yielding,
            deadline: turn(Self::LONG_TURN),
        });
        let Some(position) = reader.position else {
            return Some(Need {
                urgency: yielding.unwrap_or(Urgency {
                    rank: Rank::Critical,
                    deadline: since,
                }),
                at: Start::FromEnd(reader.suffix),
                until: u64::MAX,
                end: None,
                rate: None,
                wide_until: u64::MAX,
                bound: u64::MAX,
                since: reader.sought_at,
                candidate: None,
                left_at: Tick::NEVER,
                stays_until: u64::MAX,
            });
        };
        let file_end = source.total_len.unwrap_or(u64::MAX);
        let end = reader.end.unwrap_or(u64::MAX).min(file_end);
        let rate = reader.rate();
        let ahead = source.present.contiguous_from(position);
        // A window that doubles would make the first request after a seek short; the run it starts is
        // open-ended, and its allowance grows with the window.
        let wanted = reader
            .read_ahead
            .refill(position, ahead, rate, self.config.chunk_size)?;
        let mut bound = source.window_cap.unwrap_or(u64::MAX);
        if self.config.is_metered {
            bound = bound.min(metered_window(rate));
        }
        let began_at = position.saturating_sub(reader.since_seek);
        if reader.since_seek < LOOK && is_near_the_end(began_at, source.total_len) {
            bound = bound.min(BLOCK_SIZE);
        }
        let bound = position.saturating_add(bound);
        let until = wanted.end().min(bound);
        let wanted = ByteRange::try_new(wanted.start(), until.min(end))?;
        let at = source.present.first_gap(wanted)?.start();
        let distance = at - position;
        let stays_until = source.stays_until(position);
        let mut left_at = Tick::NEVER;
        let urgency = if let Some(yielding) = yielding {
            yielding
        } else if let Some(rate) = rate {
            reader.buffer.play_until(self.now, rate);
            if distance > 0 {
                left_at = reader.dry_at + Self::NEAR;
            }
            let deadline = reader.buffer.dry_at(distance, rate);
            let rank = Rank::of_a_player(deadline, self.now);
            Urgency { rank, deadline }
        } else if reader.since_seek.saturating_add(distance) < startup(&self.config) {
            Urgency {
                rank: Rank::Critical,
                deadline: since,
            }
        } else if reader.is_greedy() {
            Urgency {
                rank: Rank::Bulk,
                deadline: turn(Self::TURN),
            }
        } else {
            Urgency {
                rank: Rank::Unproven,
                deadline: turn(Self::SHORT_TURN),
            }
        };
        Some(Need {
            urgency,
            at: Start::At(at),
            // The block that it ends in is worth having whole.
            until: until.min(block_end(end)),
            end: reader.end,
            rate,
            wide_until: match rate {
                Some(_) => u64::MAX,
                None => position.saturating_add(wide(reader.since_seek)),
            },
            bound,
            since: reader.sought_at,
            candidate: (urgency.rank == Rank::Unproven && distance < Self::AMPLE)
                .then(|| reader.candidate(id, distance)),
            left_at,
            stays_until,
        })
    }
}

/// Who has read so much since the start or a seek does more than look.
pub(super) const LOOK: u64 = 1024 * 1024;

/// Whether a reader that begins there looks for an index rather than for a picture. A block at a time is there for it
/// until it has read more: players leave such a connection open and unread, and what is not there when it reads on comes
/// over the same one.
fn is_near_the_end(at: u64, total_len: Option<u64>) -> bool {
    /// The largest index there may be; an hour of film has about a mebibyte.
    const MOST: u64 = 16 * 1024 * 1024;
    /// Of a small file, most of what is not its beginning is a picture as well.
    const PART: u64 = 16;
    total_len.is_some_and(|len| len.saturating_sub(at) <= (len / PART).min(MOST))
}

/// How far before a reader of unknown rate several connections may read together, once it has read so much.
///
/// Who looks at a file and leaves must not cost its origin many times what was looked at: a quarter of a
/// mebibyte more, until a whole one has been read.
const fn wide(read: u64) -> u64 {
    const FIRST: u64 = 4 * BLOCK_SIZE;
    FIRST.saturating_add(read.saturating_sub(LOOK).saturating_mul(3))
}

/// How much is ready where each byte costs: what keeps copies from being in a player's way, and no more.
fn metered_window(rate: Option<u64>) -> u64 {
    const TIME: u64 = 2 * Scheduler::COMFORT.as_secs();
    rate.map_or(0, |rate| rate.saturating_mul(TIME))
        .max(ReadAhead::FIRST_WINDOW)
}

/// How many bytes after a seek are critical as a whole, where nobody knows the rate.
fn startup(config: &Config) -> u64 {
    config.startup.min(config.read_ahead.initial)
}
