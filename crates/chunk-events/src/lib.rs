//! The in-process event bus of a chunk cache.
//!
//! [`BroadcastEvents`] is both ends of the event ports: the manager publishes into it, whoever wants to know
//! subscribes. It keeps a fixed number of events; a subscriber that falls further behind is told how many
//! are gone and reads the state anew. It is not a log: nothing survives the process, and a sink without
//! subscribers keeps nothing for later ones.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use std::sync::Arc;
//! use chunk_core::{ByteRange, CacheKey};
//! use chunk_events::BroadcastEvents;
//! use chunk_ports::{CacheEvent, EventSink, EventSource, Received};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let events = BroadcastEvents::new(NonZeroUsize::new(64).unwrap());
//! let mut subscription = events.subscribe();
//!
//! let key = Arc::new(CacheKey::from_parts("", "/film.mkv", "", ""));
//! let event = CacheEvent::chunk_completed(key, ByteRange::new(0, 1024).unwrap());
//! events.publish(event.clone());
//! assert_eq!(subscription.recv().await, Received::Event(event));
//!
//! drop(events);
//! assert_eq!(subscription.recv().await, Received::Closed);
//! # }
//! ```
#![forbid(unsafe_code)]

use std::fmt;
use std::num::NonZeroUsize;

use async_trait::async_trait;
use chunk_ports::{CacheEvent, EventSink, EventSource, EventSubscription, Received};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// The most events that may be kept: room for them is made at once, and a subscriber a million events
/// behind is not helped by more.
const MOST_KEPT: usize = 1 << 20;

/// An event bus: publishing never waits, and slow subscribers are told that they lagged.
///
/// Clones are the same bus. It ends, and its subscriptions with it, when the last one is dropped.
#[derive(Clone)]
pub struct BroadcastEvents {
    sender: broadcast::Sender<CacheEvent>,
}

impl BroadcastEvents {
    /// How many events [`BroadcastEvents::default`] keeps: 1,024 chunks of 10 MiB are 10 GiB of progress,
    /// and about 100 KiB of memory.
    pub const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

    /// A bus that keeps at least the last `capacity` events for a slow subscriber (the next power of two,
    /// at most 2²⁰).
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            sender: broadcast::Sender::new(capacity.get().min(MOST_KEPT)),
        }
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.sender.receiver_count()
    }
}

impl Default for BroadcastEvents {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

impl fmt::Debug for BroadcastEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastEvents")
            .field("subscribers", &self.subscribers())
            .finish_non_exhaustive()
    }
}

impl EventSink for BroadcastEvents {
    fn publish(&self, event: CacheEvent) {
        // The only failure is that nobody listens, which is none to a publisher.
        let _ = self.sender.send(event);
    }
}

impl EventSource for BroadcastEvents {
    fn subscribe(&self) -> Box<dyn EventSubscription> {
        Box::new(Subscription {
            receiver: self.sender.subscribe(),
        })
    }
}

#[derive(Debug)]
struct Subscription {
    receiver: broadcast::Receiver<CacheEvent>,
}

#[async_trait]
impl EventSubscription for Subscription {
    async fn recv(&mut self) -> Received {
        match self.receiver.recv().await {
            Ok(event) => Received::Event(event),
            Err(RecvError::Lagged(gone)) => Received::Lagged(gone),
            Err(RecvError::Closed) => Received::Closed,
        }
    }
}
