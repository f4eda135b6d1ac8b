//! Picking out what concerns one byte, and finding out where it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chunk_core::scheduler::SourceId;
use chunk_core::{BLOCK_SIZE, CacheKey, DemandQueue, Priority, Tick};
use tokio::sync::oneshot;

use super::ring::Remembered;
use super::{Delay, Happening, Moment, RunAccount, Timeline, Whereabouts};
use crate::driver::Command;
use crate::error::ManagerError;
use crate::live::Live;
use crate::manager::ChunkManager;
use crate::run::RunControl;

/// What the driver knows of a missing byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight {
    /// The run that is to bring it, and how far that one has come.
    pub(crate) run: Option<(u64, u64)>,
    /// Since when that run is held.
    pub(crate) held_since: Option<Tick>,
    /// The level at which it is requested, and how many requests go first.
    pub(crate) queued: Option<(Priority, u64)>,
    /// Why that run stands still.
    pub(crate) held_for: Option<Arc<Delay>>,
    /// What keeps it.
    pub(crate) why: Option<Arc<Delay>>,
}

impl ChunkManager {
    /// Why byte `offset` of a file is here or not, and how it came: from a bounded memory of what this manager
    /// did. A file of which nothing is known is no error.
    ///
    /// # Errors
    /// [`ManagerError`] where the index cannot be asked.
    pub async fn why(&self, key: &CacheKey, offset: u64) -> Result<Timeline, ManagerError> {
        let live = self.inner.live_now(key);
        let in_flight = match &live {
            Some(live) => self.in_flight(live, offset).await,
            None => InFlight::default(),
        };
        let place = match &live {
            Some(live) if live.lock().meta.is_some() => {
                whereabouts(live, offset).unwrap_or_else(|| in_flight.place())
            }
            Some(_) if in_flight.run.is_some() || in_flight.queued.is_some() => in_flight.place(),
            _ => self.recorded_whereabouts(key, offset).await?,
        };
        let is_here = !matches!(
            place,
            Whereabouts::Missing | Whereabouts::Queued { .. } | Whereabouts::Coming { .. }
        );
        let clock = &self.inner.clock;
        let (now, unix) = (clock.now(), clock.unix_seconds());
        let remembered = self.inner.timeline.recall(key);
        let started = remembered.started;
        let has_forgotten = remembered.has_forgotten;
        let remembered_from = match remembered.oldest {
            Some(oldest) if has_forgotten => oldest.since(started),
            _ => Duration::ZERO,
        };
        let mut moments: Vec<(Tick, Happening)> = concerning(remembered, offset);
        if let (Some((run, head)), Some(since)) = (in_flight.run, in_flight.held_since) {
            let why = in_flight.held_for.clone();
            moments.push((since, Happening::Held { run, head, why }));
        }
        // Stable: what happened at the same instant stays in the order in which it was noted, but for what was
        // wanted, which comes before what was done about it and is noted when it is over.
        moments.sort_by_key(|(at, what)| {
            let is_want = matches!(
                what,
                Happening::Awaited { .. } | Happening::PutBack { .. } | Happening::Requested { .. }
            );
            (*at, !is_want)
        });
        let is_beginning_known = moments.iter().any(|(_, what)| {
            matches!(
                what,
                Happening::Started { .. } | Happening::Supplied | Happening::Evicted
            )
        });
        Ok(Timeline {
            key: live
                .as_ref()
                .map_or_else(|| Arc::new(key.clone()), |live| Arc::clone(&live.key)),
            offset,
            place,
            why: in_flight.why.filter(|_| !is_here),
            expired: has_forgotten && !is_beginning_known,
            remembered_from,
            asked_at: now.since(started),
            moments: moments
                .into_iter()
                .map(|(at, what)| Moment {
                    at: at.since(started),
                    at_unix: unix
                        .saturating_sub(i64::try_from(now.since(at).as_secs()).unwrap_or(i64::MAX)),
                    what,
                })
                .collect(),
        })
    }

    async fn in_flight(&self, live: &Live, offset: u64) -> InFlight {
        let (answer, answered) = oneshot::channel();
        let ask = Command::Explain {
            source: live.source,
            offset,
            answer,
        };
        if self.inner.commands.send(ask).is_err() {
            return InFlight::default();
        }
        answered.await.unwrap_or_default()
    }

    /// Where the byte of a file is that is not open.
    async fn recorded_whereabouts(
        &self,
        key: &CacheKey,
        offset: u64,
    ) -> Result<Whereabouts, ManagerError> {
        let store = &self.inner.store;
        let Some(record) = store.entry(key).await? else {
            return Ok(Whereabouts::Unknown);
        };
        let Some(current) = record.current else {
            return Ok(Whereabouts::Missing);
        };
        if let Some(total_len) = current.representation.total_len
            && offset >= total_len
        {
            return Ok(Whereabouts::PastEnd { total_len });
        }
        let Ok(segment) = u32::try_from(offset / current.segment_size.max(1)) else {
            return Ok(Whereabouts::Missing);
        };
        let block = offset % current.segment_size.max(1) / BLOCK_SIZE;
        let row = store.segment(current.id, segment).await?;
        let is_recorded = row.is_some_and(|row| {
            usize::try_from(block).is_ok_and(|block| row.blocks.contains(block))
        });
        Ok(if is_recorded {
            Whereabouts::Recorded
        } else {
            Whereabouts::Missing
        })
    }
}

impl InFlight {
    /// What `runs` and `queue` are about to do for byte `offset` of `source`.
    pub(crate) fn of<'a>(
        runs: impl Iterator<Item = &'a RunControl>,
        queue: &DemandQueue<SourceId>,
        source: SourceId,
        offset: u64,
    ) -> Self {
        let run = runs
            .filter(|control| control.account.source == source && !control.is_aborted())
            .filter(|control| control.account.is_to_bring(offset, control.end()))
            .map(|control| &control.account)
            .max_by_key(|account| account.head());
        let queued = queue
            .iter()
            .enumerate()
            .find(|(_, demand)| demand.key == source && demand.range.contains(offset));
        Self {
            run: run.map(|account| (account.run.get(), account.head())),
            held_since: run.and_then(RunAccount::held_since),
            queued: queued.map(|(behind, demand)| (demand.priority, behind as u64)),
            held_for: run.and_then(RunAccount::why),
            why: None,
        }
    }

    const fn place(&self) -> Whereabouts {
        match (self.run, self.queued) {
            (Some((run, head)), _) => Whereabouts::Coming {
                run,
                head,
                held: self.held_since.is_some(),
            },
            (None, Some((level, behind))) => Whereabouts::Queued { level, behind },
            (None, None) => Whereabouts::Missing,
        }
    }
}

/// Where the byte of an open file is; `None` where it is missing.
fn whereabouts(live: &Live, offset: u64) -> Option<Whereabouts> {
    let state = live.lock();
    if let Some(total_len) = state.total_len()
        && offset >= total_len
    {
        return Some(Whereabouts::PastEnd { total_len });
    }
    if !state.readable.contains(offset) {
        return None;
    }
    Some(
        match (
            state.recorded.contains(offset),
            state.trusted.contains(offset),
            state.stored.contains(offset),
        ) {
            (true, true, _) => Whereabouts::Verified,
            (true, false, _) => Whereabouts::Recorded,
            (false, _, true) => Whereabouts::Stored,
            (false, _, false) => Whereabouts::InMemory,
        },
    )
}

/// The facts about one byte: its own, and all of every run that was to bring it, but for the pauses that such a
/// run made when the byte was there.
fn concerning(remembered: Remembered, offset: u64) -> Vec<(Tick, Happening)> {
    let runs: BTreeSet<u64> = remembered
        .facts
        .iter()
        .filter(|fact| fact.span.contains(offset))
        .filter_map(|fact| fact.what.run())
        .collect();
    remembered
        .facts
        .into_iter()
        .filter(|fact| match &fact.what {
            Happening::Held { run, head, .. } | Happening::Resumed { run, head } => {
                runs.contains(run) && *head <= offset
            }
            what => match what.run() {
                Some(run) => runs.contains(&run),
                None => fact.span.contains(offset),
            },
        })
        .map(|fact| (fact.at, fact.what))
        .collect()
}
