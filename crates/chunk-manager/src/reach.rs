//! Which origins cannot be reached, so that those who come later need not find out for themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use chunk_core::{Admission, Breaker, BreakerPolicy, Tick};
use chunk_ports::{FetchError, FetchOutcome, FetchRequest};

use crate::error::OpenError;
use crate::inner::Inner;
use crate::validating::PATIENCE;

/// The origins that did not answer the last time, by name. One that answers is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    origins: Mutex<HashMap<Box<str>, Failing>>,
    /// By the name of the origin; held for as long as somebody listens to its silence.
    listening: Mutex<HashMap<Box<str>, Weak<()>>>,
}

/// An origin that may be out of reach.
#[derive(Debug)]
struct Failing {
    /// For who needs it: whether it can be connected to.
    connections: Breaker,
    /// For who has what it needs: whether it answers, and soon.
    confirmations: Breaker,
}

impl Reach {
    /// Whether somebody who needs `origin` may ask it.
    pub(crate) fn admit(&self, origin: &str, now: Tick) -> Admission {
        self.lock()
            .get_mut(origin)
            .map_or(Admission::Free, |failing| failing.connections.admit(now))
    }

    /// Whether somebody who has what it needs may wait until `origin` has confirmed it.
    pub(crate) fn admit_confirming(&self, origin: &str, now: Tick) -> Admission {
        self.lock()
            .get_mut(origin)
            .map_or(Admission::Free, |failing| failing.confirmations.admit(now))
    }

    /// When it may be worth asking `origin` again; `None` where it is not out of reach.
    pub(crate) fn retry_after(&self, origin: &str, now: Tick) -> Option<Duration> {
        self.lock().get(origin)?.connections.retry_after(now)
    }

    /// Somebody who has what it needs has waited long enough for `origin` to confirm it.
    pub(crate) fn kept_waiting(&self, origin: &str, now: Tick) {
        self.change(origin, |failing| failing.confirmations.failed(now));
    }

    /// Lets one question that nobody waits for any more wait on for `origin`, so that it is heard when it is back; `None`
    /// while another one does. The others would take up connections that those need who have nothing.
    pub(crate) fn listen(&self, origin: &str) -> Option<Arc<()>> {
        let mut all = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, listening| listening.strong_count() > 0);
        if all.contains_key(origin) {
            return None;
        }
        let listening = Arc::new(());
        all.insert(origin.into(), Arc::downgrade(&listening));
        Some(listening)
    }

    /// Returns whether an origin has come back.
    fn note(&self, origin: &str, now: Tick, answer: &Result<FetchOutcome, FetchError>) -> bool {
        match answer {
            Err(FetchError::NoConnection(_)) => {
                self.change(origin, |failing| {
                    failing.connections.failed(now);
                    failing.confirmations.failed(now);
                });
                false
            }
            answer if is_silence(answer) => false,
            _ => self.lock().remove(origin).is_some(),
        }
    }

    fn change(&self, origin: &str, change: impl FnOnce(&mut Failing)) {
        let mut origins = self.lock();
        change(origins.entry(origin.into()).or_insert_with(|| Failing {
            connections: Breaker::new(BreakerPolicy::DEFAULT),
            confirmations: Breaker::new(BreakerPolicy::AT_ONCE),
        }));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Failing>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Silence after a connection may be that of one file, or of where a redirect led.
const fn is_silence(answer: &Result<FetchOutcome, FetchError>) -> bool {
    matches!(
        answer,
        Err(FetchError::Unreachable(_)
            | FetchError::Interrupted(_)
            | FetchError::Stalled
            | FetchError::Forbidden { .. })
    )
}

impl Inner {
    /// Asks an origin, and notes whether it could be reached.
    pub(crate) async fn ask(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        let key = Arc::clone(&request.resource.key);
        let answer = self.fetcher.fetch(request).await;
        self.heard(key.origin(), &answer);
        answer
    }

    /// Notes what came of a confirmation that was asked for at `begun`.
    pub(crate) fn heard_in_answer(
        &self,
        origin: &str,
        begun: Tick,
        answer: &Result<FetchOutcome, FetchError>,
    ) {
        self.heard(origin, answer);
        let now = self.clock.now();
        // One that ends at once keeps nobody waiting.
        if is_silence(answer) && now.since(begun) >= PATIENCE {
            self.reach.kept_waiting(origin, now);
        }
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
