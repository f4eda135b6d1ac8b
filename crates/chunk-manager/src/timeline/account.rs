//! What is noted of runs: each keeps its own account, and the driver notes what it does to them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chunk_core::scheduler::{Role, RunId, SourceId, Start};
use chunk_core::{CacheKey, Priority, Tick};

use super::ring::{SHORTEST, Span, reason};
use super::{Cause, Delay, Happening, Part, Ring};
use crate::counters::{Counters, add};
use crate::inner::Inner;
use crate::live::Live;
use crate::run::RunControl;

/// What one run is and how far it has come.
#[derive(Debug)]
pub(crate) struct RunAccount {
    pub(crate) run: RunId,
    pub(crate) source: SourceId,
    pub(crate) level: Priority,
    role: Role,
    /// Whether another run was on its way to the same bytes.
    has_competed: AtomicBool,
    key: Arc<CacheKey>,
    asked: Tick,
    /// All ones while it is not known, so that no byte lies behind it.
    start: AtomicU64,
    head: AtomicU64,
    /// In nanoseconds; all ones while the run is not held.
    held_since: AtomicU64,
    /// Why it was told last to stand still.
    why: Mutex<Option<Arc<Delay>>>,
}

impl RunAccount {
    pub(crate) fn new(
        run: RunId,
        level: Priority,
        role: Role,
        live: &Live,
        start: Start,
        asked: Tick,
    ) -> Self {
        let start = match start {
            Start::At(start) => Some(start),
            Start::FromEnd(len) => live.lock().total_len().map(|end| end.saturating_sub(len)),
        };
        Self {
            run,
            source: live.source,
            level,
            role,
            has_competed: AtomicBool::new(matches!(role, Role::Hedge(_))),
            key: Arc::clone(&live.key),
            asked,
            start: AtomicU64::new(start.unwrap_or(u64::MAX)),
            head: AtomicU64::new(start.unwrap_or(0)),
            held_since: AtomicU64::new(u64::MAX),
            why: Mutex::new(None),
        }
    }

    /// Another run asks for the same bytes.
    pub(crate) fn compete(&self) {
        self.has_competed.store(true, Ordering::Relaxed);
    }

    /// Whether it is neither a stripe nor a hedge of another run.
    pub(crate) const fn is_main(&self) -> bool {
        matches!(self.role, Role::Main)
    }

    pub(crate) fn has_competed(&self) -> bool {
        self.has_competed.load(Ordering::Relaxed)
    }

    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    pub(crate) fn held_since(&self) -> Option<Tick> {
        Some(self.held_since.load(Ordering::Relaxed))
            .filter(|&since| since != u64::MAX)
            .map(Tick::from_nanos)
    }

    /// Whether the run, which ends at `end`, has yet to bring the byte at `offset`.
    pub(crate) fn is_to_bring(&self, offset: u64, end: u64) -> bool {
        self.span(end).contains(offset) && self.head() <= offset
    }

    /// The head of the answer came: bytes from `start` to `end`.
    pub(crate) fn answered(&self, ring: &Ring, now: Tick, start: u64, end: u64) {
        self.start.store(start, Ordering::Relaxed);
        self.head.store(start, Ordering::Relaxed);
        let what = Happening::Answered {
            run: self.run.get(),
            after: now.since(self.asked),
        };
        ring.note(now, &self.key, self.span(end), what);
    }

    /// The run has come to `head`; `is_first` where nothing came before.
    pub(crate) fn arrived(
        &self,
        (ring, counters): (&Ring, &Counters),
        now: Tick,
        head: u64,
        is_first: bool,
    ) {
        self.head.store(head, Ordering::Relaxed);
        if is_first {
            let after = now.since(self.asked);
            let level = counters.levels.of(self.level);
            add(&level.first_byte_count, 1);
            add(
                &level.first_byte_nanos,
                u64::try_from(after.as_nanos()).unwrap_or(u64::MAX),
            );
            let what = Happening::FirstByte {
                run: self.run.get(),
                after,
            };
            ring.note(now, &self.key, self.span(head), what);
        }
    }

    /// It is told to stand still, where there is a reason, or to go on: what it was told before counts until what came
    /// of it is noted.
    pub(crate) fn halted(&self, why: Option<Arc<Delay>>) {
        if why.is_some() {
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        }
    }

    /// Why it was told last to stand still.
    pub(crate) fn why(&self) -> Option<Arc<Delay>> {
        let why = self.why.lock();
        why.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The run leaves its connection unread from now on.
    pub(crate) fn held(&self, now: Tick) {
        let _ = self.held_since.compare_exchange(
            u64::MAX,
            now.as_nanos(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// The run reads, whether or not it was held before.
    pub(crate) fn reads(&self, ring: &Ring, now: impl FnOnce() -> Tick) {
        if self.held_since().is_none() {
            return;
        }
        let now = now();
        if self.note_hold(ring, now) {
            let (run, head) = (self.run.get(), self.head());
            ring.note(
                now,
                &self.key,
                self.span(u64::MAX),
                Happening::Resumed { run, head },
            );
        }
    }

    /// Notes a hold that is over, unless it was too short to matter; says whether it did.
    fn note_hold(&self, ring: &Ring, now: Tick) -> bool {
        let Some(since) = self.held_since() else {
            return false;
        };
        self.held_since.store(u64::MAX, Ordering::Relaxed);
        let is_long = now.since(since) >= SHORTEST;
        if is_long {
            let (run, head) = (self.run.get(), self.head());
            ring.note(
                since,
                &self.key,
                self.span(u64::MAX),
                Happening::Held {
                    run,
                    head,
                    why: self.why(),
                },
            );
        }
        is_long
    }

    fn span(&self, end: u64) -> Span {
        Span::new(self.start.load(Ordering::Relaxed), end)
    }
}

/// What the driver does to runs in one step, until it is known what belongs together.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The most urgent run that was started.
    started: Option<(RunId, Priority)>,
    stopped: Vec<Arc<RunControl>>,
    /// Stopped before, and over now: their slots are free.
    freed: Vec<Arc<RunControl>>,
}

impl Step {
    pub(crate) fn started(
        &mut self,
        ring: &Ring,
        account: &RunAccount,
        live: &Live,
        end: Option<u64>,
    ) {
        let start = Some(account.start.load(Ordering::Relaxed)).filter(|&start| start != u64::MAX);
        let (run, level) = (account.run, account.level);
        let what = Happening::Started {
            run: run.get(),
            start,
            end,
            level,
            cause: cause(live, level, start),
            part: match account.role {
                Role::Main => Part::Main,
                Role::Stripe => Part::Stripe,
                Role::Hedge(late) => Part::Hedge { late: late.get() },
            },
        };
        let span = account.span(end.unwrap_or(u64::MAX));
        ring.note(account.asked, &account.key, span, what);
        if self.started.is_none_or(|(_, most)| level < most) {
            self.started = Some((run, level));
        }
    }

    pub(crate) fn shortened(
        ring: &Ring,
        now: Tick,
        account: &RunAccount,
        end: u64,
        why: Option<Arc<Delay>>,
    ) {
        let what = Happening::Shortened {
            run: account.run.get(),
            end,
            why,
        };
        // Of those bytes as well that it will not bring any more.
        ring.note(now, &account.key, account.span(u64::MAX), what);
    }

    pub(crate) fn stopped(&mut self, control: &Arc<RunControl>) {
        self.stopped.push(Arc::clone(control));
    }

    /// A run is over.
    pub(crate) fn ended(
        &mut self,
        inner: &Inner,
        control: Option<&Arc<RunControl>>,
        outcome: Result<(), (&str, Option<Duration>)>,
    ) {
        let Some(control) = control else { return };
        let (ring, now) = (&inner.timeline, inner.clock.now());
        if control.is_aborted() {
            self.freed.push(Arc::clone(control));
            return;
        }
        let account = &control.account;
        account.note_hold(ring, now);
        let (run, head) = (account.run.get(), account.head());
        let what = match outcome {
            Ok(()) => Happening::Finished { run, head },
            Err((text, retry_in)) => Happening::Failed {
                run,
                head,
                reason: reason(&text),
                retry_in,
            },
        };
        ring.note(now, &account.key, account.span(control.end()), what);
    }

    /// Everything of this step is known now.
    pub(crate) fn settle(&mut self, ring: &Ring, now: Tick) {
        let started = self.started.take();
        for control in self.stopped.drain(..) {
            let account = &control.account;
            account.note_hold(ring, now);
            let what = Happening::Stopped {
                run: account.run.get(),
                head: account.head(),
                by: started
                    .filter(|(_, level)| *level <= account.level)
                    .map(|(run, level)| (run.get(), level)),
                why: account.why(),
            };
            ring.note(now, &account.key, account.span(control.end()), what);
        }
        for control in self.freed.drain(..) {
            let account = &control.account;
            if let Some((by, level)) = started
                && level <= account.level
            {
                let what = Happening::MadeRoom {
                    run: account.run.get(),
                    by: by.get(),
                    level,
                };
                ring.note(now, &account.key, account.span(control.end()), what);
            }
        }
    }
}

/// Whom a run is started for: as far as its level and the places of the readers tell.
fn cause(live: &Live, level: Priority, start: Option<u64>) -> Cause {
    if level > Priority::High {
        return Cause::Request;
    }
    let start = start.unwrap_or(u64::MAX);
    let state = live.lock();
    state
        .positions
        .iter()
        .filter(|(_, position)| **position <= start)
        .max_by_key(|(_, position)| **position)
        .or_else(|| {
            state
                .positions
                .iter()
                .min_by_key(|(_, position)| **position)
        })
        .map_or(Cause::Request, |(reader, &position)| Cause::Reader {
            reader: reader.get(),
            position,
        })
}
