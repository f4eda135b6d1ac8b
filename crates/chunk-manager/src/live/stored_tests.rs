//! Bytes that come back after they were forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake, Waker};

use bytes::Bytes;
use chunk_core::ByteRange;
use chunk_core::scheduler::SourceId;

use super::*;

const LEN: u64 = 256 * 1024;

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A file of which the first bytes came and were evicted while their write was on its way.
fn evicted_under_a_write() -> (Live, u32) {
    let key = Arc::new(CacheKey::new("", "/film", &[""; 0]).unwrap());
    let resource = Resource::from_key(key);
    let memory = Arc::new(MemoryBudget::new(1 << 30));
    let live = Live::new(
        SourceId::new(1),
        EntryId::new(1),
        resource,
        false,
        0,
        memory,
    );
    live.publish(0, &Bytes::from(vec![7; 256 * 1024]), None);
    let mut state = live.lock();
    state.forget(ByteRange::new(0, LEN).unwrap());
    state.segments.entry(0).or_default().begin_epoch();
    let epoch = state.epoch(0);
    drop(state);
    (live, epoch)
}

/// Looks for the first byte as a reader does.
fn look(live: &Live, token: &mut Option<Token>, waker: &Waker) -> Poll<()> {
    live.poll_for(token, waker, |state, _| {
        if state.readable.contains(0) {
            Look::Done(())
        } else {
            Look::Await {
                offset: 0,
                requested_from: None,
            }
        }
    })
}

#[test]
fn who_waits_for_evicted_bytes_is_woken_by_the_write_that_brings_them_back() {
    let (live, epoch) = evicted_under_a_write();
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut token = None;
    assert!(look(&live, &mut token, &waker).is_pending());
    let written = ByteRange::new(0, LEN).unwrap();
    assert_eq!(
        live.stored(written, 0, epoch - 1, true),
        None,
        "a former file"
    );
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    assert_eq!(live.stored(written, 0, epoch, true), Some(true));
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(look(&live, &mut token, &waker).is_ready());
    assert_eq!(
        live.stored(written, 0, epoch, true),
        Some(false),
        "nothing new"
    );
}
