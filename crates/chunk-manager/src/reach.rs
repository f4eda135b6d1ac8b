//! Which origins cannot be reached, so that those who come later need not find out for themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chunk_core::{Admission, Breaker, BreakerPolicy, Tick};
use chunk_ports::{FetchError, FetchOutcome, FetchRequest};

use crate::error::OpenError;
use crate::inner::Inner;

/// The origins whose last connection failed, by name. One that answers is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    failing: Mutex<HashMap<Box<str>, Breaker>>,
}

impl Reach {
    /// Whether somebody who needs `origin` may ask it.
    pub(crate) fn admit(&self, origin: &str, now: Tick) -> Admission {
        self.lock()
            .get_mut(origin)
            .map_or(Admission::Free, |breaker| breaker.admit(now))
    }

    /// When it may be worth asking `origin` again; `None` where it is not out of reach.
    pub(crate) fn retry_after(&self, origin: &str, now: Tick) -> Option<Duration> {
        self.lock().get(origin)?.retry_after(now)
    }

    /// Returns whether an origin has come back that could not be connected to.
    fn note(&self, origin: &str, now: Tick, answer: &Result<FetchOutcome, FetchError>) -> bool {
        match answer {
            Err(FetchError::NoConnection(_)) => {
                self.lock()
                    .entry(origin.into())
                    .or_insert_with(|| Breaker::new(BreakerPolicy::DEFAULT))
                    .failed(now);
                false
            }
            // Silence after a connection may be that of one file, or of where a redirect led.
            Err(
                FetchError::Unreachable(_)
                | FetchError::Interrupted(_)
                | FetchError::Stalled
                | FetchError::Forbidden { .. },
            ) => false,
            _ => self.lock().remove(origin).is_some(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Breaker>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Asks an origin, and notes whether it could be reached.
    pub(crate) async fn ask(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        let key = Arc::clone(&request.resource.key);
        let answer = self.fetcher.fetch(request).await;
        self.heard(key.origin(), &answer);
        answer
    }

    /// Asks an origin only to find out whether it is back; nobody waits for it.
    pub(crate) fn look(self: &Arc<Self>, request: FetchRequest) {
        let (inner, fetcher) = (Arc::downgrade(self), Arc::clone(&self.fetcher));
        tokio::spawn(async move {
            let key = Arc::clone(&request.resource.key);
            let answer = fetcher.fetch(request).await;
            if let Some(inner) = inner.upgrade() {
                inner.heard(key.origin(), &answer);
            }
        });
    }

    fn heard(&self, origin: &str, answer: &Result<FetchOutcome, FetchError>) {
        if self.reach.note(origin, self.clock.now(), answer) {
            self.resume_orders_from(origin);
        }
    }

    /// Lets somebody through who needs bytes that are not here, unless their origin is out of reach.
    pub(crate) fn admit(&self, origin: &str) -> Result<(), OpenError> {
        match self.reach.admit(origin, self.clock.now()) {
            Admission::Free | Admission::Look => Ok(()),
            Admission::Refused { retry_after } => Err(OpenError::Away { retry_after }),
        }
    }
}
