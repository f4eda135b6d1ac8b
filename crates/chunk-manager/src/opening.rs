//! Opening an entry: finding out what it is, and who reads it from where.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chunk_core::scheduler::{Hints, Input, Start};
use chunk_core::{CacheKey, GenerationId, Priority};
use chunk_ports::{ChunkStoreError, GenerationRecord, NewGeneration, Resource, StoreWrite};
use futures_util::future::join_all;

use crate::driver::Command;
use crate::entry::{Entry, Opened};
use crate::error::{ManagerError, OpenError, ReadError};
use crate::inner::Inner;
use crate::live::{Caching, Generation, Live, Meta};
use crate::manager::ChunkManager;
use crate::options::{First, Purpose};
use crate::reader::ChunkReader;
use crate::timely::LOOK_UP;
use crate::validating::Validation;
use crate::waiters::LENGTH;
use crate::waiting::Look;
use crate::writer::STORE_RETRY;

/// How often opening starts over because the representation changed under it.
const ATTEMPTS: usize = 4;

/// What the first byte asked for takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It is here, or there is none.
    Nothing,
    /// It has to come from the origin.
    Origin,
}

impl ChunkManager {
    /// Opens an entry: finds out what it is, in the same round trip as its first bytes where nothing is
    /// known, and gives a reader at the first byte wanted.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, resource: Resource, first: First) -> Result<Opened, OpenError> {
        self.open_as(resource, first, Hints::default()).await
    }

    /// [`Self::open`] for somebody who says that of themselves, which counts from their first byte on.
    ///
    /// # Errors
    /// As there.
    pub async fn open_as(
        &self,
        resource: Resource,
        first: First,
        hints: Hints,
    ) -> Result<Opened, OpenError> {
        self.inner.check_open()?;
        self.inner.open(resource, first, Purpose::Play(hints)).await
    }

    /// [`Self::open_as`] at `start`, up to, not including, `end` (the file's end where `None`), where the entry is open
    /// and confirmed and its byte at `start` is there, so that nothing has to be waited for. `None` says nothing of
    /// why not: then it is to be opened the usual way.
    #[must_use]
    pub fn open_now(
        &self,
        resource: &Resource,
        start: u64,
        end: Option<u64>,
        hints: Hints,
    ) -> Option<Opened> {
        self.inner.open_now(resource, start, end, hints)
    }
}

impl Inner {
    pub(crate) async fn open(
        self: &Arc<Self>,
        resource: Resource,
        first: First,
        purpose: Purpose,
    ) -> Result<Opened, OpenError> {
        let timeout = self.limits().open_timeout;
        let deadline = self.clock.now() + timeout;
        let clock = Arc::clone(&self.clock);
        tokio::select! {
            biased;
            opened = self.open_in_time(resource, first, purpose) => opened,
            () = clock.sleep_until(deadline) => Err(OpenError::Timeout),
        }
    }

    async fn open_in_time(
        self: &Arc<Self>,
        resource: Resource,
        first: First,
        purpose: Purpose,
    ) -> Result<Opened, OpenError> {
        let mut last = OpenError::Unreachable;
        for _ in 0..ATTEMPTS {
            let live = self.live(&resource).await?;
            if live.is_spent() {
                // What may not be stored is shared among those who read it at once, and no longer.
                self.supersede(&live);
                continue;
            }
            let is_new_target = refresh_target(&live, &resource);
            let is_known = live.lock().meta.is_some();
            if !is_known
                && !is_new_target
                && let Some(error) = self.remembered_failure(&live)
            {
                return Err(error);
            }
            let need = live.need_of(first);
            if need == Need::Origin {
                self.admit(live.key.origin())?;
            }
            if is_known {
                if is_new_target {
                    live.forget_refusal();
                }
                if let Validation::Changed = self.validate(&live, need).await? {
                    continue;
                }
            }
            match self.start_reading(&live, first, purpose).await {
                Ok(opened) => return Ok(opened),
                Err(error @ OpenError::Unsatisfiable { total_len }) => {
                    // The probe may have been another opener's, with another range.
                    if !is_satisfiable(first, total_len) {
                        return Err(error);
                    }
                    last = error;
                }
                Err(OpenError::Manager(ManagerError::Closed)) => {
                    self.check_open()?;
                    self.removals(&resource.key).await;
                    last = OpenError::Manager(ManagerError::Closed);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Waits until the entry is gone that is being removed, unless the index hangs.
    async fn removals(&self, key: &Arc<CacheKey>) {
        let patience = self.clock.now() + LOOK_UP;
        tokio::select! {
            biased;
            _gone = self.turns.shared(key) => {}
            () = self.clock.sleep_until(patience) => {}
        }
    }

    /// A reader at the first byte wanted, once it is known what the entry is.
    async fn start_reading(
        self: &Arc<Self>,
        live: &Arc<Live>,
        first: First,
        purpose: Purpose,
    ) -> Result<Opened, OpenError> {
        let (start, end) = match first {
            First::Span { start, end } => (Start::At(start), end),
            First::Suffix { len } => (Start::FromEnd(len), None),
            First::Nothing => (Start::At(0), Some(0)),
        };
        let is_known = live.lock().meta.is_some();
        // To learn what the entry is, at least one byte has to be asked for.
        let probed_end = if is_known {
            end
        } else {
            end.map(|end| end.max(1))
        };
        let mut reader = ChunkReader::open(
            Arc::clone(self),
            Arc::clone(live),
            start,
            probed_end,
            purpose,
        );
        if live.is_leaving() || live.lock().is_superseded {
            // It was removed, or replaced, while its origin was asked.
            return Err(ManagerError::Closed.into());
        }
        if !is_known {
            reader.awaits_answer();
            located(live, reader.seen_failures()).await?;
        }
        let total_len = live.lock().total_len();
        if let Some(total_len) = total_len {
            let is_past_end = match start {
                Start::At(start) => start >= total_len && first != First::Nothing,
                Start::FromEnd(len) => len == 0,
            };
            if is_past_end && !(total_len == 0 && start == Start::At(0)) {
                return Err(OpenError::Unsatisfiable {
                    total_len: Some(total_len),
                });
            }
        }
        reader.located();
        if first == First::Nothing {
            reader.set_end(0);
        }
        self.resume_jobs(live);
        if self.fill
            && first != First::Nothing
            && let Some(whole) = total_len.and_then(|len| chunk_core::ByteRange::try_new(0, len))
        {
            self.tell(Input::Requested {
                source: live.source,
                range: whole,
                priority: Priority::Low,
            });
        }
        Ok(Opened {
            entry: Entry::new(Arc::clone(self), Arc::clone(live)),
            reader,
        })
    }

    /// Durable work of this entry that waited for its origin to be asked again.
    pub(crate) fn resume_jobs(&self, live: &Live) {
        if self.jobs().rows(live.entry).is_empty() {
            return;
        }
        {
            let jobs = self.jobs();
            if jobs.resting(live.entry).is_some() {
                // It may be new to the scheduler.
                self.tell(Input::OrdersSuspended {
                    source: live.source,
                });
            }
        }
        live.asked_again();
        let (done, total_len) = {
            let state = live.lock();
            (state.recorded.clone(), state.total_len())
        };
        if self.jobs().settle(live.entry, &done, total_len) {
            self.dirty.mark_jobs(live.entry);
        }
        for job in self.jobs().rows(live.entry) {
            self.tell(Input::Requested {
                source: live.source,
                range: job.range,
                priority: job.priority,
            });
        }
    }

    pub(crate) fn supersede(&self, live: &Arc<Live>) {
        self.start_over(live);
        // At once, so that others who are about to ask the origin the same need not.
        live.supersede();
        drop(self.commands.send(Command::Superseded {
            live: Arc::clone(live),
        }));
    }

    /// A refusal that is still fresh: the origin is not asked again at once.
    fn remembered_failure(&self, live: &Live) -> Option<OpenError> {
        let ttl = chunk_core::RetryPolicy::DEFAULT.negative_ttl;
        let error = live.failure_since(self.clock.now() - ttl)?;
        matches!(
            error,
            OpenError::NotFound { .. }
                | OpenError::Denied { .. }
                | OpenError::Rejected { .. }
                | OpenError::Refused { .. }
        )
        .then_some(error)
    }

    /// A body of unknown length has ended well: its generation is no longer provisional.
    pub(crate) fn length_learned(&self, live: &Arc<Live>) {
        {
            let mut state = live.lock();
            state.is_length_new = true;
            let stored: Vec<_> = state.stored.iter().collect();
            for range in stored {
                state.note_pending(range);
            }
        }
        self.dirty.mark(live);
    }

    /// Removes an entry of which nothing was ever known, unless somebody wants it after all.
    pub(crate) async fn remove_unused(self: &Arc<Self>, live: &Arc<Live>) {
        let _alone = self.turns.alone(&live.key).await;
        // The origin may have been out of reach, or the index: what is recorded stays.
        let is_recorded = self.store.entry(&live.key).await.map_or(true, |record| {
            record.is_some_and(|record| record.current.is_some())
        });
        let is_wanted = is_recorded
            || self.registry().contains_key(&live.key)
            || !self.jobs().rows(live.entry).is_empty()
            // Somebody may come to see what has become of the order.
            || self.jobs().withdrawn(live.entry).is_some()
            || live.lock().pinned;
        // An entry that the index could not be asked about is not in it.
        if is_wanted || Self::is_volatile(live.entry) {
            return;
        }
        self.keys.forget(live.entry);
        if let Err(error) = self
            .commit_now(vec![StoreWrite::RemoveEntry(live.entry)])
            .await
        {
            tracing::warn!(key = %live.key, %error, "an unused entry stays in the index");
        }
    }

    /// The index has taken up a representation after it was replaced, perhaps after its successor: that is
    /// the current one.
    async fn keep_current(&self, former: &Live) {
        let meta = self
            .live_now(&former.key)
            .filter(|now| now.entry == former.entry && now.generation_now().is_some())
            .and_then(|now| now.lock().meta.as_deref().cloned());
        if let Some(meta) = meta
            && let Err(error) = self
                .store
                .begin_generation(former.entry, new_generation(meta))
                .await
        {
            tracing::warn!(key = %former.key, %error, "the index may have a former version as the present one");
        }
    }

    /// Removes what no entry refers to any more.
    pub(crate) async fn remove_retired(self: &Arc<Self>) -> Result<(), ManagerError> {
        for generation in self.store.retired_generations().await? {
            self.remove_unless_in_use(generation).await?;
        }
        Ok(())
    }

    /// What the origin has now must not be kept: what was kept of it before goes as well, unless somebody reads it still;
    /// then whoever opens it next sees to it.
    pub(crate) fn keep_nothing(self: &Arc<Self>, live: &Live) {
        let (inner, key) = (Arc::clone(self), Arc::clone(&live.key));
        tokio::spawn(async move {
            let removed = async {
                let record = inner.store.entry(&key).await?;
                match record.and_then(|record| record.current) {
                    Some(current) => inner.remove_unless_in_use(current.id).await,
                    None => Ok(()),
                }
            };
            if let Err(error) = removed.await {
                tracing::warn!(%key, %error, "what must not be kept stays for now");
            }
        });
    }

    async fn remove_unless_in_use(
        self: &Arc<Self>,
        generation: GenerationId,
    ) -> Result<(), ManagerError> {
        if self.generations_in_use().contains(&generation) {
            return Ok(());
        }
        let former: Vec<Arc<Live>> = self
            .known_lives()
            .into_iter()
            .filter(|live| live.generation_now() == Some(generation))
            .collect();
        let _alone = self.rows.lock().await;
        // A write that is under way ends first, or it would bring a file back. None begins any more.
        join_all(former.iter().map(|live| live.give_up())).await;
        self.commit_now(vec![StoreWrite::RemoveGeneration(generation)])
            .await?;
        self.bytes.remove_generation(generation).await?;
        self.space.generation_removed(generation);
        Ok(())
    }
}

impl Live {
    /// What it takes to begin reading at `first`.
    fn need_of(&self, first: First) -> Need {
        let state = self.lock();
        let total_len = state.total_len();
        let start = match first {
            _ if state.meta.is_none() => return Need::Origin,
            First::Nothing => return Need::Nothing,
            First::Span { start, .. } => start,
            First::Suffix { len } => match total_len {
                Some(total_len) => total_len.saturating_sub(len),
                None => return Need::Origin,
            },
        };
        let is_past_end = total_len.is_some_and(|total_len| start >= total_len);
        if is_past_end || state.readable.contains(start) {
            Need::Nothing
        } else {
            Need::Origin
        }
    }
}

/// Makes the index know a representation that has just been met. Runs beside the transfer: no byte waits
/// for it.
pub(crate) async fn index_generation(inner: Arc<Inner>, live: Arc<Live>, meta: Meta) {
    // Of what has been replaced, or removed, the index is to know nothing more.
    if live.lock().is_given_up() {
        live.generation.send_replace(Generation::Unindexed);
        return;
    }
    let new = new_generation(meta);
    // The nonce makes the next order the same one, whatever becomes of this.
    match inner.store.begin_generation(live.entry, new).await {
        Ok(GenerationRecord { id, .. }) => {
            live.generation.send_replace(Generation::Indexed(id));
            inner.dirty.mark(&live);
            if live.lock().is_given_up() {
                inner.keep_current(&live).await;
            }
            if let Err(error) = inner.remove_retired().await {
                tracing::warn!(%error, "bytes of a former version could not be removed");
            }
        }
        Err(error) => {
            tracing::warn!(key = %live.key, %error, "the index did not take the entry; bytes are passed through");
            inner.counters.store_failing.store(true, Ordering::Relaxed);
            live.lock().caching = match error {
                ChunkStoreError::Unavailable(_) | ChunkStoreError::Full(_) => Caching::Failing {
                    retry_at: inner.clock.now() + STORE_RETRY,
                },
                _ => Caching::Never,
            };
            live.generation.send_replace(Generation::Unindexed);
            inner.cap_window(&live);
            inner.mend_later(&live);
        }
    }
}

fn new_generation(meta: Meta) -> NewGeneration {
    NewGeneration {
        representation: meta.representation,
        accepts_ranges: meta.accepts_ranges,
        segment_size: meta.segment_size,
        nonce: meta.nonce,
        freshness: meta.freshness,
    }
}

/// Waits until the origin has told what the entry is.
///
/// `seen` counts the failures from before the reader was made known: a probe may fail before this is polled.
async fn located(live: &Arc<Live>, seen: u64) -> Result<(), OpenError> {
    let mut wait = LengthWait { live, token: None };
    poll_fn(|cx| {
        live.poll_for(&mut wait.token, cx.waker(), |state, _| {
            if state.meta.is_some() {
                return Look::Done(Ok(()));
            }
            match state.hopeless(seen) {
                Some(ReadError::Failed(error)) => Look::Done(Err(error)),
                Some(ReadError::Changed | ReadError::Closed) => {
                    Look::Done(Err(OpenError::Manager(ManagerError::Closed)))
                }
                None => Look::Await {
                    offset: LENGTH,
                    requested_from: None,
                },
            }
        })
    })
    .await
}

/// Unregisters the waiter however the wait ends.
struct LengthWait<'a> {
    live: &'a Live,
    token: Option<crate::waiters::Token>,
}

impl Drop for LengthWait<'_> {
    fn drop(&mut self) {
        self.live.lock().waiters.remove(&mut self.token);
    }
}

/// Takes over today's target and credentials; returns whether they differ from the former ones.
fn refresh_target(live: &Live, resource: &Resource) -> bool {
    let mut state = live.lock();
    let is_new = !state.resource.is_asked_for_like(resource);
    if is_new {
        state.resource = resource.clone();
    }
    is_new
}

fn is_satisfiable(first: First, total_len: Option<u64>) -> bool {
    match first {
        First::Span { start, .. } => total_len.is_some_and(|len| start < len),
        First::Suffix { len } => len > 0 && total_len != Some(0),
        First::Nothing => total_len != Some(0),
    }
}
