//! Making room: what was used least recently goes first, and nothing that is being read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chunk_core::scheduler::Input;
use chunk_core::{ByteRange, EntryId, GenerationId, Tick};
use chunk_ports::{CacheEvent, SegmentKey, StoreWrite};

use crate::counters::add;
use crate::error::ManagerError;
use crate::inner::Inner;
use crate::live::Live;
use crate::orders::Load;
use crate::space::Item;
use crate::timeline::Happening;

impl Inner {
    /// Looks at the free space at most once a second: that is often enough against a link, and cheap.
    pub(crate) async fn observe_free_space(&self) {
        const EVERY: Duration = Duration::from_secs(1);
        let now = self.clock.now();
        {
            let mut state = self.space.lock();
            if state.free_seen.is_some_and(|seen| now.since(seen) < EVERY) {
                return;
            }
            state.free_seen = Some(now);
        }
        if let Ok(Some(free)) = self.bytes.free_space().await {
            self.space.observe_free(free);
        }
    }

    /// Evicts what is above cap or floor, as far as it may go.
    pub(crate) async fn evict_excess(self: &Arc<Self>) {
        self.observe_free_space().await;
        if self.space.missing_for(0) > 0
            && let Err(error) = self.make_room(0, None).await
        {
            tracing::warn!(%error, "nothing could be evicted");
        }
    }

    /// Evicts until there is room for `wanted` bytes more, or nothing is left to evict; returns whether there is.
    ///
    /// What is missing is looked at anew before each step: of many who are short of the same room, the first makes it for
    /// all. Where the room is for the entry `by`, what orders have brought may have to stay.
    pub(crate) async fn make_room(
        self: &Arc<Self>,
        wanted: u64,
        by: Option<EntryId>,
    ) -> Result<bool, ManagerError> {
        let Ok(turn) = Arc::clone(&self.space.evicting).acquire_owned().await else {
            return Ok(false);
        };
        let inner = Arc::clone(self);
        // By itself: whoever waits for it may stop waiting, and a segment is not left forgotten with its row in place.
        let evicting = tokio::spawn(async move {
            let evicted = inner.evict_for(wanted, by).await;
            inner.space.is_late.store(false, Ordering::Release);
            drop(turn);
            evicted
        });
        evicting.await.unwrap_or_else(|error| {
            tracing::error!(%error, "an eviction ended early");
            Ok(false)
        })
    }

    /// What has come of an eviction by `enough`. Those who come after somebody who has waited so long for it do not
    /// wait at all.
    pub(crate) async fn unless_late(
        &self,
        enough: Tick,
        made: impl Future<Output = Result<bool, ManagerError>>,
    ) -> Result<bool, ManagerError> {
        let is_late = &self.space.is_late;
        let enough = match is_late.load(Ordering::Acquire) {
            true => self.clock.now(),
            false => enough,
        };
        tokio::select! {
            biased;
            made = made => made,
            () = self.clock.sleep_until(enough) => {
                is_late.store(true, Ordering::Release);
                Ok(false)
            }
        }
    }

    async fn evict_for(
        self: &Arc<Self>,
        wanted: u64,
        by: Option<EntryId>,
    ) -> Result<bool, ManagerError> {
        let spared = self.spared(by);
        while self.space.missing_for(wanted) > 0 {
            if self.is_closed.load(Ordering::Acquire) {
                return Ok(false);
            }
            let Some(item) = self.next_victim(&spared) else {
                return Ok(false);
            };
            match item {
                Item::Entry { entry, .. } => self.take_apart(item, entry).await?,
                Item::Segment {
                    entry,
                    generation,
                    segment,
                } => {
                    let freed = self.evict_segment(entry, generation, segment).await?;
                    add(&self.counters.evicted_bytes, freed);
                }
            }
        }
        Ok(true)
    }

    /// The segment used least recently that is neither pinned nor being read, and of none of the entries
    /// `spared`.
    fn next_victim(&self, spared: &BTreeSet<EntryId>) -> Option<Item> {
        let played = self.played();
        let state = self.space.lock();
        state
            .index
            .older_than(i64::MAX)
            .map(|victim| victim.key)
            .filter(|item| !spared.contains(&item.entry()))
            .find(|item| !played.is_reading(*item))
    }

    /// Whether somebody has come to read it, or has pinned it, while its eviction waited for its turn.
    fn is_spared_now(&self, item: Item) -> bool {
        self.played().is_reading(item) || self.space.lock().pinned.contains(&item.entry())
    }

    fn played(&self) -> Played {
        let mut lives = self.all_lives();
        lives.retain(|live| live.is_played());
        Played {
            lives,
            window: self.limits().initial_buffer,
        }
    }

    /// What is on disk, for those who weigh the orders for `entries`.
    pub(crate) fn load_of(&self, entries: &BTreeSet<EntryId>) -> Load {
        let played = self.played();
        let state = self.space.lock();
        let mut load = Load {
            most: state.ledger.most(),
            ..Load::default()
        };
        for &entry in entries {
            let bytes = state.items_of(entry).map(|(_, bytes)| bytes).sum();
            if bytes > 0 {
                load.held.insert(entry, bytes);
            }
        }
        let pinned = state.pinned.difference(entries);
        load.fixed = pinned
            .flat_map(|&entry| state.items_of(entry))
            .map(|(_, bytes)| bytes)
            .sum();
        let played_entries: BTreeSet<EntryId> =
            played.lives.iter().map(|live| live.entry).collect();
        for &entry in played_entries.difference(entries) {
            if !state.pinned.contains(&entry) {
                let items = state.items_of(entry);
                let read = items.filter(|&(item, _)| played.is_reading(item));
                load.fixed += read.map(|(_, bytes)| bytes).sum::<u64>();
            }
        }
        load
    }

    /// Learns an entry's segments, so that some of them can go and others stay.
    async fn take_apart(self: &Arc<Self>, item: Item, entry: EntryId) -> Result<(), ManagerError> {
        // Nobody removes the entry, or opens it, between the look at its rows and their entry in the books.
        let mut _settled = None;
        let record = match self.keys.of(entry) {
            Some(key) => {
                _settled = Some(self.turns.alone(&key).await);
                self.store.entry(&key).await?
            }
            None => None,
        };
        let current =
            record.and_then(|record| record.current.map(|current| (current, record.pinned)));
        if let Some((current, pinned)) = current
            && current.id == item.generation()
        {
            let segments = self.store.segments(current.id).await?;
            self.space.opened(entry, &current, &segments, pinned);
            return Ok(());
        }
        // Another version has taken its place.
        self.remove_retired().await?;
        // What could not be removed stays counted.
        self.space.lock().index.remove(item);
        Ok(())
    }

    /// The open representation of a generation, be it its entry's current one or a former one.
    pub(crate) fn live_of(&self, generation: GenerationId) -> Option<Arc<Live>> {
        self.all_lives()
            .into_iter()
            .find(|live| live.generation_now() == Some(generation))
    }

    /// What is still to be recorded of a generation that is closed. Whoever changes that has the turn alone, or somebody
    /// opens the entry by the rows from before.
    pub(crate) fn closed_live_of(&self, generation: GenerationId) -> Option<Arc<Live>> {
        self.dirty
            .lives()
            .into_iter()
            .find(|live| live.generation_now() == Some(generation))
    }

    /// Row first, then bytes: a crash in between leaves an orphan, never a row without bytes.
    async fn evict_segment(
        &self,
        entry: EntryId,
        generation: GenerationId,
        segment: u32,
    ) -> Result<u64, ManagerError> {
        let mut live = self.live_of(generation);
        let mut settled = None;
        if live.is_none()
            && let Some(key) = self.keys.of(entry)
        {
            // Nobody may open it by a row that is going away, and write where bytes are being removed.
            let turn = self.turns.alone(&key).await;
            live = self.live_of(generation);
            if live.is_none() {
                settled = Some(turn);
                live = self.closed_live_of(generation);
            }
        }
        let mut keys: BTreeSet<SegmentKey> = BTreeSet::new();
        let mut former = Vec::new();
        let mut removed = None;
        // What is written once the segment has been forgotten is recorded after its row is gone, not before: the row
        // that goes would be that of the new bytes.
        let alone = self.rows.lock().await;
        let item = Item::Segment {
            entry,
            generation,
            segment,
        };
        if let Some(live) = &live {
            // A write that is under way ends first, or its bytes would stay when the others go. Later ones go
            // to the next epoch.
            let _still = live.writing.write().await;
            if self.is_spared_now(item) {
                return Ok(0);
            }
            {
                let mut state = live.lock();
                let size = state.meta.as_ref().map_or(0, |meta| meta.segment_size);
                let total = state.total_len().unwrap_or(u64::MAX);
                let start = u64::from(segment).saturating_mul(size);
                if let Some(range) =
                    ByteRange::try_new(start, start.saturating_add(size).min(total))
                {
                    state.forget(range);
                    removed = Some(range);
                }
                former = state.segments.entry(segment).or_default().begin_epoch();
            }
            if let Some(range) = removed {
                self.tell(Input::Forgotten {
                    source: live.source,
                    range,
                });
            }
            keys.extend(self.space.files_of(generation, segment));
        } else {
            if self.is_spared_now(item) {
                return Ok(0);
            }
            keys.extend(self.space.files_of(generation, segment));
            let row = self.store.segment(generation, segment).await?;
            removed = row.as_ref().map(|row| row.extent);
            former.extend(row.map(|row| row.epoch));
        }
        keys.extend(former.iter().map(|&epoch| SegmentKey {
            generation,
            segment,
            epoch,
        }));
        let remove = StoreWrite::RemoveSegments {
            generation,
            segments: vec![segment],
        };
        if let Err(error) = self.commit_now(vec![remove]).await {
            // The row must still go; its bytes stay, and count, until then.
            if let Some(live) = &live {
                live.shrink(segment, former);
                self.dirty.mark(live);
            }
            return Err(error.into());
        }
        drop(alone);
        let keys: Vec<SegmentKey> = keys.into_iter().collect();
        self.bytes.remove(keys.clone()).await?;
        let bytes = self.space.removed(entry, &keys);
        drop(settled);
        if let Some(live) = &live {
            self.ask_again_for_lost(live);
        }
        if let Some(key) = self.keys.of(entry) {
            if let Some(range) = removed {
                let now = self.clock.now();
                self.timeline.note(now, &key, range, Happening::Evicted);
            }
            self.events.publish(CacheEvent::evicted(key, bytes));
        }
        Ok(bytes)
    }
}

/// What is open and has readers.
struct Played {
    lives: Vec<Arc<Live>>,
    window: u64,
}

impl Played {
    fn is_reading(&self, item: Item) -> bool {
        match item {
            Item::Entry { .. } => false,
            Item::Segment {
                generation,
                segment,
                ..
            } => self.lives.iter().any(|live| {
                live.generation_now() == Some(generation)
                    && is_being_read(live, segment, self.window)
            }),
        }
    }
}

/// Whether a reader stands in the segment or will come to it within its window.
fn is_being_read(live: &Live, segment: u32, window: u64) -> bool {
    let state = live.lock();
    let size = state.meta.as_ref().map_or(1, |meta| meta.segment_size);
    let start = u64::from(segment).saturating_mul(size);
    let Some(range) = ByteRange::try_new(start, start.saturating_add(size)) else {
        return false;
    };
    state.positions.values().any(|&position| {
        ByteRange::with_len(position, window.max(1)).is_ok_and(|needed| needed.overlaps(range))
    })
}
