//! Orders for whole files, and what is told of them while they are carried out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chunk_core::{CacheKey, Priority};
use chunk_manager::{EntryState, EntryStatus, ManagerError, OpenError};
use chunk_ports::{
    CacheEvent, ChunkStoreError, EventSource, EventSubscription, Received, Resource,
};
use tokio::sync::mpsc;

use crate::host::Host;
use crate::units::{Size, approximate_size};
use crate::wire::{FetchEvent, waits_for_line};

/// How often progress is told while nothing else happens. Ends are told by events, at once.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// For how many turns a file may be neither whole nor queued before that counts as an end: an arrival is
/// out of the queue for up to a commit interval before it is recorded.
const PATIENCE: u32 = 25;

/// For how many turns a queue may stand still while nothing is asked of the origin: 10 s.
const QUIET: u32 = 50;

/// The same while the file is being fetched: an origin may ask for two minutes of patience, and a slow one
/// needs time for a block.
const QUIET_IN_FLIGHT: u32 = 750;

/// Begins with `resources`, in their order, and tells of them until each has ended, the receiver has gone
/// or the host closes.
pub(crate) fn start(host: Arc<Host>, resources: Vec<Resource>) -> mpsc::Receiver<FetchEvent> {
    let (sender, receiver) = mpsc::channel(64);
    // Subscribed before anything is ordered, so that no end can be missed.
    let events = host.events.subscribe();
    tokio::spawn(async move {
        let mut closing = host.closing();
        tokio::select! {
            () = closing.wait() => {}
            () = sender.closed() => {}
            () = follow(&host, resources, events, &sender) => {}
        }
    });
    receiver
}

#[derive(Debug, Default)]
struct Job {
    told: Option<FetchEvent>,
    idle_turns: u32,
    /// How many turns in a row have brought nothing.
    quiet_turns: u32,
    /// The most that was ever here: what is evicted and fetched again is no progress.
    most_here: u64,
    /// What had come from origins by the last turn.
    received: u64,
}

/// What became of an order to begin.
#[derive(Debug)]
enum Begun {
    /// It is in the durable queue.
    Queued,
    /// It is a file without bytes, which is always there in whole.
    Empty,
    /// It cannot be had, for this reason.
    Refused(String),
}

/// Why an order could not begin, in the words of the command line.
fn reason(error: &OpenError) -> String {
    match error {
        OpenError::TooLarge {
            total_len,
            max_size,
            pinned,
        } => {
            let len = approximate_size(*total_len);
            let cap = Size(*max_size);
            match pinned {
                0 => format!("{len} do not fit in --max-size {cap}"),
                _ => format!(
                    "{len} do not fit in --max-size {cap}, of which {} are pinned",
                    approximate_size(*pinned)
                ),
            }
        }
        OpenError::Manager(ManagerError::Index(error))
            if matches!(**error, ChunkStoreError::Full(_)) =>
        {
            "the disk is full, and nothing more could be evicted from it; the order was not taken"
                .to_owned()
        }
        other => other.to_string(),
    }
}

async fn follow(
    host: &Arc<Host>,
    resources: Vec<Resource>,
    mut events: Box<dyn EventSubscription>,
    sender: &mpsc::Sender<FetchEvent>,
) {
    let (begun_sender, mut begun) = mpsc::channel::<(Arc<CacheKey>, Begun)>(16);
    let manager = host.manager.clone();
    let begin = async move {
        for resource in resources {
            let key = Arc::clone(&resource.key);
            let order = manager.prefetch(resource, Priority::Medium).await;
            let order = match order {
                Ok(_) => Begun::Queued,
                Err(OpenError::Unsatisfiable { total_len: Some(0) }) => Begun::Empty,
                Err(error) => Begun::Refused(reason(&error)),
            };
            if begun_sender.send((key, order)).await.is_err() {
                return;
            }
        }
        drop(begun_sender);
    };
    let tell = async {
        let mut jobs: HashMap<Arc<CacheKey>, Job> = HashMap::new();
        let mut more = true;
        let mut turn = tokio::time::interval(TELL_EVERY);
        while more || !jobs.is_empty() {
            let told = tokio::select! {
                order = begun.recv(), if more => match order {
                    Some((key, Begun::Queued)) => {
                        let job = Job::default();
                        jobs.insert(Arc::clone(&key), job);
                        look(host, &mut jobs, Some(&key), sender).await
                    }
                    Some((key, Begun::Empty)) => {
                        let path = key.to_string();
                        let done = FetchEvent::Done { path, total_bytes: 0 };
                        sender.send(done).await.is_ok()
                    }
                    Some((key, Begun::Refused(reason))) => {
                        let path = key.to_string();
                        sender.send(FetchEvent::Failed { path, reason }).await.is_ok()
                    }
                    None => {
                        more = false;
                        true
                    }
                },
                received = events.recv() => match received {
                    Received::Event(
                        CacheEvent::EntryCompleted { cache_key, .. }
                        | CacheEvent::RangeFailed { cache_key, .. },
                    ) if jobs.contains_key(&cache_key) => {
                        look(host, &mut jobs, Some(&cache_key), sender).await
                    }
                    Received::Closed => return false,
                    _ => true,
                },
                _ = turn.tick() => look(host, &mut jobs, None, sender).await,
            };
            if !told {
                return false;
            }
        }
        true
    };
    let ((), heard) = tokio::join!(begin, tell);
    if heard {
        // Whoever listens no longer needs no end either.
        let _ = sender.send(FetchEvent::End).await;
    }
}

/// Looks at one job or at all, tells what is new, and forgets those that have ended. `false` where nobody
/// listens any more.
async fn look(
    host: &Arc<Host>,
    jobs: &mut HashMap<Arc<CacheKey>, Job>,
    only: Option<&Arc<CacheKey>>,
    sender: &mpsc::Sender<FetchEvent>,
) -> bool {
    let keys: Vec<_> = match only {
        Some(key) => vec![Arc::clone(key)],
        None => jobs.keys().map(Arc::clone).collect(),
    };
    for key in keys {
        let event = match host.manager.entry_status(&key).await {
            Ok(status) => {
                let Some(job) = jobs.get_mut(&key) else {
                    continue;
                };
                let statistics = host.manager.statistics();
                if only.is_none() {
                    job.idle_turns = job.idle_turns.saturating_add(1);
                    job.turn(status.as_ref(), statistics.bytes_from_origin);
                }
                job.event(
                    &key,
                    status.as_ref(),
                    statistics.store_failing,
                    host.is_metered,
                )
            }
            Err(error) => FetchEvent::Failed {
                path: key.to_string(),
                reason: error.to_string(),
            },
        };
        let ended = !matches!(event, FetchEvent::Progress { .. });
        let Some(job) = jobs.get_mut(&key) else {
            continue;
        };
        let is_new = job.told.as_ref() != Some(&event);
        if ended {
            jobs.remove(&key);
        } else {
            job.told = Some(event.clone());
        }
        if is_new && sender.send(event).await.is_err() {
            return false;
        }
    }
    true
}

impl Job {
    /// Another turn has passed: whether it has brought anything.
    fn turn(&mut self, status: Option<&EntryStatus>, received: u64) {
        self.quiet_turns = self.quiet_turns.saturating_add(1);
        let Some(status) = status else {
            return;
        };
        // Nothing of a file whose length nobody knows is recorded before it ends.
        let here = match status.total_len {
            Some(_) => status.recorded_bytes,
            None => status.readable_bytes,
        };
        let has_grown = here > self.most_here;
        // It waits for its turn while others are fetched.
        let others_come = status.download_rate.is_none() && received > self.received;
        if has_grown || others_come {
            self.quiet_turns = 0;
        }
        self.most_here = self.most_here.max(here);
        self.received = received;
    }

    fn event(
        &mut self,
        key: &CacheKey,
        status: Option<&EntryStatus>,
        store_failing: bool,
        is_metered: bool,
    ) -> FetchEvent {
        let path = key.to_string();
        let Some(status) = status else {
            return FetchEvent::Failed {
                path,
                reason: "it was removed".to_owned(),
            };
        };
        // It may have to wait for hours, and has been told so.
        if waits_for_line(status, is_metered) && !store_failing {
            self.idle_turns = 0;
            self.quiet_turns = 0;
            return progress(path, status, is_metered);
        }
        match &status.state {
            EntryState::Complete => FetchEvent::Done {
                path,
                total_bytes: status.total_len.unwrap_or(status.recorded_bytes),
            },
            EntryState::Failed(reason) => FetchEvent::Failed {
                path,
                reason: reason.to_string(),
            },
            EntryState::Downloading | EntryState::Probing
                if self.quiet_turns <= QUIET_IN_FLIGHT
                    && !(store_failing && self.quiet_turns > QUIET) =>
            {
                self.idle_turns = 0;
                progress(path, status, is_metered)
            }
            // Nothing is asked of the origin for it; that may be because others come first.
            EntryState::Paused | EntryState::NotStarted
                if status.queued_bytes > 0 && !store_failing && self.quiet_turns <= QUIET =>
            {
                self.idle_turns = 0;
                progress(path, status, is_metered)
            }
            EntryState::WaitingForRoom if self.quiet_turns > QUIET => FetchEvent::Failed {
                path,
                reason: "there is no room for it under --max-size and above --min-free; the order stays in its \
                         queue and goes on when there is"
                    .to_owned(),
            },
            EntryState::WaitingForRoom => progress(path, status, is_metered),
            // All tries have been made by then, and the next ones may be hours away from an answer.
            EntryState::WaitingForOrigin => FetchEvent::Failed {
                path,
                reason: "its origin does not answer; the order stays in its queue and goes on when it does, while \
                         chunkd runs (see: chunkd status)"
                    .to_owned(),
            },
            _ if store_failing && self.idle_turns.max(self.quiet_turns) > PATIENCE => {
                FetchEvent::Failed {
                    path,
                    reason: "the cache cannot be written to, or has no room left under --max-size and above \
                             --min-free; the order stays in its queue"
                        .to_owned(),
                }
            }
            _ if status.queued_bytes > 0 && self.quiet_turns > QUIET => FetchEvent::Failed {
                path,
                reason: "nothing more of it comes; the order stays in its queue".to_owned(),
            },
            EntryState::Downloading | EntryState::Probing if self.quiet_turns > QUIET_IN_FLIGHT => {
                FetchEvent::Failed {
                    path,
                    reason: "nothing more of it comes".to_owned(),
                }
            }
            _ if self.idle_turns > PATIENCE => FetchEvent::Failed {
                path,
                reason:
                    "it is no longer queued; it was cancelled, may not be stored, or does not fit"
                        .to_owned(),
            },
            _ => progress(path, status, is_metered),
        }
    }
}

const fn progress(path: String, status: &EntryStatus, is_metered: bool) -> FetchEvent {
    FetchEvent::Progress {
        path,
        recorded_bytes: status.recorded_bytes,
        readable_bytes: status.readable_bytes,
        total_bytes: status.total_len,
        bytes_per_second: status.download_rate,
        waits_for_line: waits_for_line(status, is_metered),
    }
}
