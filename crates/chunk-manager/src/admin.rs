//! Questions and orders about entries as wholes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chunk_core::{CacheKey, GenerationId};
use chunk_ports::{CacheEvent, EntryRecord, StoreWrite};
use tokio::sync::oneshot;

use crate::counters::add;
use crate::driver::{Activity, Command};
use crate::error::ManagerError;
use crate::live::Live;
use crate::manager::ChunkManager;
use crate::orders::Rest;
use crate::status::{EntryState, EntryStatus};
use crate::timeline::{Happening, Span};

impl ChunkManager {
    /// Every entry at a glance, in order of number.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn status(&self) -> Result<Vec<EntryStatus>, ManagerError> {
        let mut all = Vec::new();
        for record in self.inner.store.entries().await? {
            all.push(self.status_of(record).await);
        }
        Ok(all)
    }

    /// One entry at a glance, `None` where nothing is known of it.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn entry_status(&self, key: &CacheKey) -> Result<Option<EntryStatus>, ManagerError> {
        match self.inner.store.entry(key).await? {
            Some(record) => Ok(Some(self.status_of(record).await)),
            None => Ok(None),
        }
    }

    /// Removes everything that is cached of an entry, and the entry; returns the bytes freed. Its durable
    /// requests go with it, a pin as well.
    ///
    /// # Errors
    /// [`ManagerError::InUse`] while it is being read.
    pub async fn evict(&self, key: &CacheKey) -> Result<u64, ManagerError> {
        let record = self
            .inner
            .store
            .entry(key)
            .await?
            .ok_or(ManagerError::NoSuchEntry)?;
        self.remove_entry(&record).await
    }

    /// Removes every entry that is neither pinned nor being read; returns the bytes freed.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn evict_all(&self) -> Result<u64, ManagerError> {
        let mut freed = 0;
        for record in self.inner.store.entries().await? {
            if record.pinned {
                continue;
            }
            match self.remove_entry(&record).await {
                Ok(bytes) => freed += bytes,
                Err(ManagerError::InUse) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(freed)
    }

    /// Pins or unpins an entry: a pinned one is never evicted to make room. One that is not known yet is
    /// made.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn pin(&self, key: &CacheKey, pinned: bool) -> Result<(), ManagerError> {
        let record = match self.inner.store.entry(key).await? {
            Some(record) => record,
            None if !pinned => return Err(ManagerError::NoSuchEntry),
            None => {
                let now = self.inner.clock.unix_seconds();
                let record = self.inner.store.ensure_entry(key, now).await?;
                self.inner.keys.remember(record.id, Arc::clone(&record.key));
                record
            }
        };
        self.inner
            .commit_now(vec![StoreWrite::Pin {
                entry: record.id,
                pinned,
            }])
            .await?;
        self.inner.space.pin(record.id, pinned);
        if let Some(live) = self.inner.live_now(key) {
            live.lock().pinned = pinned;
        }
        Ok(())
    }

    /// Somebody has changed the resource at its origin: the next one to open it, with whatever credentials, asks the
    /// origin first. Where a 304 could not tell the two versions apart, it begins anew.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn invalidate(&self, key: &CacheKey) -> Result<(), ManagerError> {
        let is_same = |other: &CacheKey| {
            (other.origin(), other.path(), other.query()) == (key.origin(), key.path(), key.query())
        };
        let open = self.inner.lives().into_iter();
        let mut keys: BTreeSet<Arc<CacheKey>> = open.map(|live| Arc::clone(&live.key)).collect();
        // What is open does not wait for the index.
        keys.retain(|key| is_same(key));
        for key in &keys {
            if let Some(live) = self.inner.live_now(key) {
                live.invalidate();
            }
        }
        let recorded = self.inner.store.entries().await?.into_iter();
        keys.extend(recorded.map(|record| record.key).filter(|key| is_same(key)));
        for key in keys {
            self.invalidate_one(&key).await?;
        }
        Ok(())
    }

    /// The same for those who ask with the same credentials.
    async fn invalidate_one(&self, key: &CacheKey) -> Result<(), ManagerError> {
        let live = self.inner.live_now(key);
        if let Some(live) = &live {
            live.invalidate();
            let is_in_doubt = live
                .lock()
                .meta
                .as_ref()
                .is_some_and(|meta| !meta.representation.is_confirmed_by_condition());
            if is_in_doubt {
                self.inner.supersede(live);
            }
        }
        if let Some(current) = self
            .inner
            .store
            .entry(key)
            .await?
            .and_then(|record| record.current)
        {
            if live.is_none() && !current.representation.is_confirmed_by_condition() {
                self.inner.suspects().insert(Arc::new(key.clone()));
            }
            self.inner
                .commit_now(vec![StoreWrite::Refresh {
                    generation: current.id,
                    freshness: current.freshness.invalidated(),
                }])
                .await?;
        }
        Ok(())
    }

    async fn remove_entry(&self, record: &EntryRecord) -> Result<u64, ManagerError> {
        if self.inner.is_former_read(record.id) {
            return Err(ManagerError::InUse);
        }
        // Nobody opens it while it is going away.
        let _settled = self.inner.turns.alone(&record.key).await;
        if let Some(live) = self.inner.live_now(&record.key) {
            if !live.leave() {
                return Err(ManagerError::InUse);
            }
            let (done, closed) = oneshot::channel();
            let close = Command::Close {
                live: Arc::clone(&live),
                done,
            };
            self.inner
                .commands
                .send(close)
                .map_err(|_| ManagerError::Closed)?;
            closed.await.map_err(|_| ManagerError::Closed)?;
            live.give_up().await;
            self.inner.dirty.forget(&live);
        }
        for former in self.inner.known_lives() {
            if former.entry == record.id {
                former.give_up().await;
                self.inner.dirty.forget(&former);
            }
        }
        let _alone = self.inner.rows.lock().await;
        // It may have become known, or another version, since it was looked up.
        let current = self
            .inner
            .store
            .entry(&record.key)
            .await?
            .filter(|now| now.id == record.id)
            .and_then(|now| now.current)
            .or_else(|| record.current.clone());
        self.inner.jobs().forget(record.id);
        self.inner.space.change();
        self.inner
            .commit_now(vec![StoreWrite::RemoveEntry(record.id)])
            .await?;
        let mut generations = self.inner.space.generations(record.id);
        generations.extend(current.map(|current| current.id));
        let mut freed = 0;
        for generation in generations {
            freed += self.remove_bytes(generation).await?;
        }
        self.inner.space.pin(record.id, false);
        self.inner.keys.forget(record.id);
        let now = self.inner.clock.now();
        self.inner
            .timeline
            .note(now, &record.key, Span::ALL, Happening::Evicted);
        self.inner
            .events
            .publish(CacheEvent::evicted(Arc::clone(&record.key), freed));
        Ok(freed)
    }

    async fn remove_bytes(&self, generation: GenerationId) -> Result<u64, ManagerError> {
        self.inner.bytes.remove_generation(generation).await?;
        let freed = self.inner.space.generation_removed(generation);
        add(&self.inner.counters.evicted_bytes, freed);
        Ok(freed)
    }

    async fn status_of(&self, record: EntryRecord) -> EntryStatus {
        let live = self.inner.live_now(&record.key);
        let activity = match &live {
            Some(live) => self.activity(live).await,
            None => Activity::default(),
        };
        let current = record.current.as_ref();
        let (total_len, recorded, readable, readers, content_type, failure, is_probing) =
            match &live {
                Some(live) => {
                    let state = live.lock();
                    (
                        state.total_len(),
                        state.recorded.len(),
                        state.readable.len(),
                        live.reader_count(),
                        state
                            .meta
                            .as_ref()
                            .and_then(|meta| meta.representation.content_type.clone()),
                        state.last_failure(),
                        state.meta.is_none(),
                    )
                }
                None => (
                    current.and_then(|current| current.representation.total_len),
                    current.map_or(0, |current| current.recorded_bytes),
                    current.map_or(0, |current| current.recorded_bytes),
                    0,
                    current.and_then(|current| current.representation.content_type.clone()),
                    None,
                    false,
                ),
            };
        let (rest, unanswered) = {
            let jobs = self.inner.jobs();
            (jobs.resting(record.id), jobs.times_unanswered(record.id))
        };
        let hopeless = live
            .as_ref()
            .filter(|_| rest == Some(Rest::Hopeless))
            .and_then(|live| self.inner.never_fits(live));
        // What was ordered and never there has nothing else to be known by.
        let withdrawn = if current.is_none() && live.as_ref().is_none_or(|_| is_probing) {
            self.inner.jobs().withdrawn(record.id)
        } else {
            None
        };
        let state = if total_len.is_some_and(|len| recorded >= len) {
            EntryState::Complete
        } else if is_probing && activity.is_fetching {
            EntryState::Probing
        } else if activity.is_fetching {
            EntryState::Downloading
        } else if let Some(error) = hopeless {
            EntryState::Failed(error.to_string().into())
        } else if matches!(rest, Some(Rest::Room | Rest::Hopeless)) {
            EntryState::WaitingForRoom
        } else if unanswered.is_some() {
            EntryState::WaitingForOrigin
        } else if activity.queued_bytes > 0 && failure.is_none() {
            EntryState::Downloading
        } else if let Some(error) = failure {
            EntryState::Failed(error.to_string().into())
        } else if let Some(why) = withdrawn {
            EntryState::Failed(why)
        } else if readable == 0 {
            EntryState::NotStarted
        } else {
            EntryState::Paused
        };
        EntryStatus {
            id: record.id,
            state,
            total_len,
            recorded_bytes: recorded,
            readable_bytes: readable,
            queued_bytes: activity
                .queued_bytes
                .max(self.inner.jobs().bytes(record.id)),
            pinned: record.pinned,
            readers,
            content_type,
            accessed_unix: record.accessed_unix,
            download_rate: live
                .as_ref()
                // The estimate outlives the last run by its window.
                .filter(|_| activity.is_fetching)
                .and_then(|live| live.download_rate(self.inner.clock.now())),
            key: record.key,
        }
    }

    async fn activity(&self, live: &Arc<Live>) -> Activity {
        let (answer, answered) = oneshot::channel();
        let ask = Command::Ask {
            source: live.source,
            answer,
        };
        if self.inner.commands.send(ask).is_err() {
            return Activity::default();
        }
        answered.await.unwrap_or_default()
    }

    /// Whether [`Self::shutdown`] has been called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed.load(Ordering::Acquire)
    }
}
