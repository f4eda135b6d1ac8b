//! A byte store that answers in time, or counts as unavailable.
//!
//! As with the index (`timely.rs`): a disk that hangs lets calls neither succeed nor fail, and everything in this crate
//! knows what to do without a byte store, once it is told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunk_core::{GenerationId, Tick};
use chunk_ports::{ByteStore, ByteStoreError, Clock, SegmentKey, Window};

/// How long a batch may take to be written. Readers have its bytes, but the next ones are not asked for meanwhile; a
/// player has this much ready.
const WRITE: Duration = Duration::from_secs(5);
/// How long a reader waits for bytes that are stored: longer than a disk takes to spin up, because what does not come is
/// forgotten.
const READ: Duration = Duration::from_secs(20);
/// How long a flush may take. Nobody waits for it, and what it would have made durable comes from the origin again: so
/// as long as the slowest disk takes that still gets there.
const FLUSH: Duration = Duration::from_secs(30);
/// How long to take bytes away, or to look at what is there.
const CHORE: Duration = Duration::from_secs(10);
/// How long to ask about the space that is left: whoever asks holds up a run.
const LOOK_UP: Duration = Duration::from_secs(2);
/// How long no further call of its kind is made after one that has not come back.
const AFTER_SILENCE: Duration = Duration::from_secs(60);

/// The byte store within, with a limit to each call.
///
/// A call whose time is up goes on by itself, because a disk that hangs cannot be told to stop. While one does, no other
/// of its kind is made but now and then, so that nobody waits out the same limit again and again, and no pool of threads
/// fills with calls that hang. A write that comes to its end after all writes bytes that belong where it writes them; in
/// a segment that was given up meanwhile, they go with their generation.
#[derive(Debug)]
pub(crate) struct TimelyBytes {
    inner: Arc<dyn ByteStore>,
    clock: Arc<dyn Clock>,
    writes: Arc<Silence>,
    flushes: Arc<Silence>,
    look_ups: Arc<Silence>,
}

/// Calls that have not come back.
#[derive(Debug, Default)]
struct Silence {
    calls: AtomicUsize,
    last: Mutex<Option<Tick>>,
}

impl Silence {
    fn lasts(&self, now: Tick) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.calls.load(Ordering::Acquire) > 0 && last.is_some_and(|at| now < at + AFTER_SILENCE)
    }

    /// Waits for `call` in the background.
    fn begin(self: &Arc<Self>, now: Tick, call: impl Future<Output = ()> + Send + 'static) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.calls.fetch_add(1, Ordering::AcqRel);
        let silence = Arc::clone(self);
        tokio::spawn(async move {
            call.await;
            silence.calls.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

impl TimelyBytes {
    pub(crate) fn new(inner: Arc<dyn ByteStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            clock,
            writes: Arc::default(),
            flushes: Arc::default(),
            look_ups: Arc::default(),
        }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, ByteStoreError>> + Send,
    ) -> Result<T, ByteStoreError> {
        let enough = self.clock.now() + limit;
        tokio::select! {
            biased;
            outcome = call => outcome,
            () = self.clock.sleep_until(enough) => Err(silent()),
        }
    }

    /// The same for a call that is not to be repeated while it goes on.
    async fn one_after_the_other<T: Send + 'static>(
        &self,
        silence: &Arc<Silence>,
        limit: Duration,
        call: impl Future<Output = Result<T, ByteStoreError>> + Send + 'static,
    ) -> Result<T, ByteStoreError> {
        if silence.lasts(self.clock.now()) {
            return Err(silent());
        }
        let mut call = Box::pin(call);
        let outcome = self.within(limit, async { Ok(call.as_mut().await) }).await;
        outcome.unwrap_or_else(|error| {
            silence.begin(self.clock.now(), async move { drop(call.await) });
            Err(error)
        })
    }
}

fn silent() -> ByteStoreError {
    ByteStoreError::Unavailable("it does not answer".into())
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ByteStore for TimelyBytes {
    async fn write(
        &self,
        key: SegmentKey,
        offset: u64,
        data: Vec<Bytes>,
    ) -> Result<(), ByteStoreError> {
        let inner = Arc::clone(&self.inner);
        let call = async move { inner.write(key, offset, data).await };
        self.one_after_the_other(&self.writes, WRITE, call).await
    }

    async fn read(
        &self,
        key: SegmentKey,
        offset: u64,
        len: usize,
    ) -> Result<Option<Bytes>, ByteStoreError> {
        self.within(READ, self.inner.read(key, offset, len)).await
    }

    fn window(&self, key: SegmentKey, offset: u64, len: usize) -> Option<Box<dyn Window>> {
        self.inner.window(key, offset, len)
    }

    async fn flush(&self, key: SegmentKey) -> Result<(), ByteStoreError> {
        let inner = Arc::clone(&self.inner);
        let call = async move { inner.flush(key).await };
        self.one_after_the_other(&self.flushes, FLUSH, call).await
    }

    async fn remove(&self, keys: Vec<SegmentKey>) -> Result<(), ByteStoreError> {
        self.within(CHORE, self.inner.remove(keys)).await
    }

    async fn remove_generation(&self, generation: GenerationId) -> Result<(), ByteStoreError> {
        self.within(CHORE, self.inner.remove_generation(generation))
            .await
    }

    async fn generations(&self) -> Result<Vec<GenerationId>, ByteStoreError> {
        self.within(CHORE, self.inner.generations()).await
    }

    async fn free_space(&self) -> Result<Option<u64>, ByteStoreError> {
        let inner = Arc::clone(&self.inner);
        let call = async move { inner.free_space().await };
        self.one_after_the_other(&self.look_ups, LOOK_UP, call)
            .await
    }
}
