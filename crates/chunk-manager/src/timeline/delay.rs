//! Why something waits, in words that say of which file.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chunk_core::scheduler::{Claim, Halt, Rival, RunId, SourceId};
use chunk_core::{CacheKey, Tick};

use super::InFlight;
use crate::driver::Driver;

/// Why something does not go on. It prints as the end of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delay {
    /// What the scheduler says.
    pub halt: Halt,
    /// The file of what goes first, where that is the reason and the file is open.
    pub key: Option<Arc<CacheKey>>,
    /// When it was found. The instants within `halt` are of the same clock.
    pub found: Tick,
}

impl Driver {
    fn delay(&self, halt: Halt) -> Arc<Delay> {
        let source = halt.rival().map(|rival| rival.source);
        let live = source.and_then(|source| self.lives.get(&source));
        Arc::new(Delay {
            halt,
            key: live.map(|live| Arc::clone(&live.key)),
            found: self.inner.clock.now(),
        })
    }

    /// Why a run that is held or being ended is.
    pub(crate) fn why_halted(&self, run: RunId) -> Option<Arc<Delay>> {
        self.scheduler.why_halted(run).map(|halt| self.delay(halt))
    }

    /// Tells the timeline for what those wait for which nothing is done.
    pub(crate) fn note_put_back(&self) {
        let put_back = self.scheduler.put_back();
        if !put_back.is_empty() {
            let (ring, now) = (&self.inner.timeline, self.inner.clock.now());
            ring.put_back(now, put_back, |halt| self.delay(halt));
        }
    }

    /// What is being done about byte `offset`, and if nothing is, why.
    pub(crate) fn in_flight(&self, source: SourceId, offset: u64) -> InFlight {
        let runs = self.runs.values().map(AsRef::as_ref);
        let mut found = InFlight::of(runs, self.scheduler.queue(), source, offset);
        let put_back = self.scheduler.why_put_back(source, offset);
        found.why = put_back.map(|one| self.delay(one.halt));
        found
    }
}

impl Delay {
    fn who(&self, rival: &Rival) -> Who<'_> {
        Who {
            rival: *rival,
            delay: self,
        }
    }

    fn time_to(&self, at: Tick) -> Duration {
        at.since(self.found)
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.halt {
            Halt::Rests { rival, until } => {
                write!(f, "{} goes first", self.who(rival))?;
                if *until == Tick::NEVER {
                    return Ok(());
                }
                write!(f, ", for {} ms more at most", self.time_to(*until).as_millis())
            }
            Halt::Full { slots: 1, last } => write!(f, "the only slot has {}", self.who(last)),
            Halt::Full { slots, last } => {
                write!(f, "all {slots} slots are taken, the last by {}", self.who(last))
            }
            Halt::Connection(rival) => write!(
                f,
                "its origin has as many connections as it may, and {} needs one",
                self.who(rival)
            ),
            Halt::Ending => f.write_str("what makes room for it has yet to end"),
            Halt::Quiet => f.write_str(
                "something critical was wanted a moment ago, and nothing is begun in the background yet",
            ),
            Halt::Throttled => f.write_str("the rate of background work is used up for now"),
            Halt::Metered => f.write_str("on a metered line nothing is fetched in the background"),
            Halt::NoRoom => f.write_str("there is no room for what it would bring"),
            Halt::Failed(until) => {
                let after = self.time_to(*until).as_millis();
                write!(f, "its origin has failed, and is tried again in {after} ms")
            }
            Halt::Enough => f.write_str("far enough ahead"),
            Halt::Unwanted => f.write_str("nobody wants its bytes"),
            Halt::Overtaken(run) => write!(f, "run {run} was the first to bring them"),
            Halt::Expired => f.write_str("held for as long as a connection is kept"),
            Halt::Needless => f.write_str("fewer connections bring as much"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Somebody, as people are told of it.
struct Who<'a> {
    rival: Rival,
    delay: &'a Delay,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rival = &self.rival;
        match rival.reader {
            Some(reader) => write!(f, "reader {reader}")?,
            None => f.write_str("a request")?,
        }
        match &self.delay.key {
            Some(key) => write!(f, " of {key}")?,
            None => f.write_str(" of a file that is closed")?,
        }
        if let Some(at) = rival.at {
            write!(f, " at byte {at}")?;
        }
        write!(f, " ({}", rival.level)?;
        match rival.claim {
            Claim::Player {
                dry_at: Tick::NEVER,
            } => f.write_str(", a player that is paused")?,
            Claim::Player { dry_at } if dry_at <= self.delay.found => {
                f.write_str(", a player that has nothing left")?;
            }
            Claim::Player { dry_at } => {
                let left = self.delay.time_to(dry_at).as_millis();
                write!(f, ", a player with {left} ms left")?;
            }
            Claim::Starting => f.write_str(", at its beginning or after a seek")?,
            Claim::Unproven => f.write_str(", of unknown rate")?,
            Claim::Trial => f.write_str(", of unknown rate, which is to show whether it plays")?,
            Claim::Copy => f.write_str(", which takes all it gets")?,
            Claim::Yielding => f.write_str(", which yields to all others")?,
            _ => {}
        }
        f.write_str(")")
    }
}
