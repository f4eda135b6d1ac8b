//! Whether the origin serves ranges of a file, as its answers show it, and what becomes of those who wait far inside
//! it where it no longer does.

use std::sync::Arc;

use chunk_core::scheduler::{Input, Start};
use chunk_ports::{FetchError, FetchedBody, RangeSupport};

use crate::live::State;
use crate::run::RunTask;

/// How many bytes somebody may have to wait for before the first one that is wanted, where nothing is known of how
/// fast they come: a second at 32 Mbit/s.
const SKIP: u64 = 4 * 1024 * 1024;

/// For how long, where it is known: what a player has buffered lasts about as long.
const SKIP_SECONDS: u64 = 4;

impl RunTask {
    /// Whether ranges can be asked for from now on. What the origin only says counts where nothing is known: of
    /// one that has been seen to ignore ranges it is no news.
    pub(crate) fn accepts_ranges(&self, fetched: &FetchedBody) -> bool {
        match fetched.ranges {
            RangeSupport::Served => true,
            RangeSupport::Ignored => false,
            RangeSupport::Claimed => {
                let state = self.live.lock();
                let meta = state.meta.as_ref();
                meta.is_none_or(|meta| meta.accepts_ranges)
            }
        }
    }

    /// Takes over what an answer shows of ranges.
    ///
    /// # Errors
    /// The whole of a file came of which ranges were served, and whoever waits inside it would wait for too much
    /// of it. Once, that may be a whim of one of the origin's machines, and is tried again. The second time it is
    /// how the origin is: those who wait are told, and those who come next are served from the first byte.
    pub(crate) fn learn_ranges(
        &self,
        fetched: &FetchedBody,
        accepts_ranges: bool,
    ) -> Result<(), FetchError> {
        let mut guard = self.live.lock();
        let state = &mut *guard;
        let is_too_far = self.is_too_far(state, fetched);
        let Some(meta) = &mut state.meta else {
            return Ok(());
        };
        // An empty file has no range that a server could refuse.
        let is_empty = fetched.representation.total_len == Some(0);
        let accepts_ranges = accepts_ranges || is_empty;
        state.are_ranges_doubted &= fetched.ranges != RangeSupport::Served;
        if meta.accepts_ranges == accepts_ranges {
            return Ok(());
        }
        if accepts_ranges {
            Arc::make_mut(meta).accepts_ranges = true;
            return Ok(());
        }
        // What helps another run along need not find out for all.
        let is_main = self.control.account.is_main();
        if !is_main || is_too_far && !state.are_ranges_doubted {
            state.are_ranges_doubted |= is_main;
            return Err(FetchError::Interrupted(
                "the whole file in answer to a part of it".into(),
            ));
        }
        Arc::make_mut(meta).accepts_ranges = false;
        if !is_too_far {
            return Ok(());
        }
        drop(guard);
        self.inner.tell(Input::Answered {
            run: self.run,
            start: fetched.start,
            end: fetched.end,
            total_len: fetched.representation.total_len,
            accepts_ranges: false,
        });
        Err(FetchError::Refused {
            reason: "the whole file in answer to a part far inside it".to_owned(),
        })
    }

    /// Whether somebody waits for a byte that the whole would bring too late.
    fn is_too_far(&self, state: &State, fetched: &FetchedBody) -> bool {
        let waited_for = state.waiters.furthest_read();
        // Nobody waits for what an order brings.
        if self.control.account.level.is_durable() && waited_for.is_none() {
            return false;
        }
        let start = match self.start {
            Start::At(start) => start,
            Start::FromEnd(len) => {
                let total_len = fetched.representation.total_len;
                total_len.map_or(0, |total_len| total_len.saturating_sub(len))
            }
        };
        let furthest = waited_for.map_or(start, |offset| offset.max(start));
        let bearable = state
            .arrival_rate()
            .map_or(0, |rate| rate.saturating_mul(SKIP_SECONDS))
            .max(SKIP);
        furthest.saturating_sub(fetched.start) > bearable
    }
}
