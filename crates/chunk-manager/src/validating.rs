//! Whether what is cached of an entry still holds.

use std::sync::Arc;

use chunk_core::{Admission, Representation};
use chunk_ports::{
    Condition, FetchError, FetchOutcome, FetchRequest, FetchedBody, Freshness, Resource,
    StoreWrite, Verdict, Wanted,
};

use crate::counters::add;
use crate::error::OpenError;
use crate::inner::Inner;
use crate::live::Live;
use crate::opening::Need;
use crate::run::is_page_for_media;
use crate::writer::INDEX_WAIT;

/// Whether the origin still has what we have.
pub(crate) enum Validation {
    Same,
    Changed,
}

impl Inner {
    /// Asks the origin, once per session of the entry, whether what is cached still holds, unless it is fresh.
    pub(crate) async fn validate(
        self: &Arc<Self>,
        live: &Arc<Live>,
        need: Need,
    ) -> Result<Validation, OpenError> {
        // A new version's bytes are not its own, and nothing would tell them apart.
        if live.is_cut_short() {
            return Ok(Validation::Changed);
        }
        if live.is_validated() {
            return Ok(Validation::Same);
        }
        if let Some(ask_at) = live.asked_in_vain() {
            self.check_refusal(live)?;
            if self.clock.now() >= ask_at {
                self.ask_again(live);
            }
            return Ok(Validation::Same);
        }
        let Ok(_permit) = live.validation.acquire().await else {
            return Ok(Validation::Same);
        };
        if live.is_validated() {
            return Ok(Validation::Same);
        }
        self.check_refusal(live)?;
        let now = self.clock.unix_seconds();
        let (known, resource, is_fresh) = {
            let state = live.lock();
            if state.is_superseded {
                return Ok(Validation::Changed);
            }
            let Some(meta) = &state.meta else {
                return Ok(Validation::Same);
            };
            (
                meta.representation.clone(),
                state.resource.clone(),
                meta.freshness.is_fresh(now),
            )
        };
        if is_fresh {
            live.set_validated(true);
            return Ok(Validation::Same);
        }
        let request = question(resource, &known);
        // What is here is not held up by an origin that is known to be out of reach, nor by finding out whether it
        // still is; once it is not, it is asked.
        if need == Need::Nothing {
            match self.reach.admit(live.key.origin(), self.clock.now()) {
                Admission::Free => {}
                Admission::Look => {
                    add(&self.counters.origin_requests, 1);
                    self.look(request);
                    return Ok(Validation::Same);
                }
                Admission::Refused { .. } => return Ok(Validation::Same),
            }
        }
        self.ask_whether_same(live, known, request).await
    }

    /// A question of this session had no answer that tells. What is here is served meanwhile, and nobody waits for
    /// the next one.
    fn ask_again(self: &Arc<Self>, live: &Arc<Live>) {
        let Ok(permit) = Arc::clone(&live.validation).try_acquire_owned() else {
            return;
        };
        // Whoever may look whether an origin is back looks by this.
        if let Admission::Refused { retry_after } =
            self.reach.admit(live.key.origin(), self.clock.now())
        {
            return live.ask_again_at(self.clock.now() + retry_after);
        }
        let (known, resource) = {
            let state = live.lock();
            let Some(meta) = &state.meta else { return };
            (meta.representation.clone(), state.resource.clone())
        };
        let (inner, live) = (Arc::clone(self), Arc::clone(live));
        tokio::spawn(async move {
            let _alone = permit;
            let request = question(resource, &known);
            if let Ok(Validation::Changed) = inner.ask_whether_same(&live, known, request).await {
                inner.supersede(&live);
            }
        });
    }

    /// A refusal to confirm is the answer for a while (RFC 9111, 4.3.3).
    fn check_refusal(&self, live: &Live) -> Result<(), OpenError> {
        let ttl = chunk_core::RetryPolicy::DEFAULT.negative_ttl;
        match live.refusal_since(self.clock.now() - ttl) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn ask_whether_same(
        self: &Arc<Self>,
        live: &Arc<Live>,
        known: Representation,
        request: FetchRequest,
    ) -> Result<Validation, OpenError> {
        add(&self.counters.origin_requests, 1);
        match self.ask(request).await {
            Ok(FetchOutcome::NotModified(verdict)) => {
                self.confirm(live, verdict).await;
                Ok(Validation::Same)
            }
            Ok(FetchOutcome::Body(body)) if known.is_confirmed_by(&body.representation) => {
                self.confirm(live, body.verdict).await;
                Ok(Validation::Same)
            }
            Ok(FetchOutcome::Body(FetchedBody {
                representation: now,
                ..
            })) if is_page_for_media(&known, &now) => Ok(keep_in_spite_of_page(live)),
            Err(FetchError::Changed { now }) if is_page_for_media(&known, &now) => {
                Ok(keep_in_spite_of_page(live))
            }
            Ok(_) | Err(FetchError::Changed { .. }) => Ok(Validation::Changed),
            // RFC 9111, 4.3.3: such an answer is the answer. What is cached stays, for the day it is another one.
            Err(
                error @ (FetchError::NotFound { .. }
                | FetchError::Denied { .. }
                | FetchError::Rejected { .. }),
            ) => {
                let error = OpenError::from(&error);
                live.refuse(error.clone(), self.clock.now());
                Err(error)
            }
            // Unreachable is not changed: what is verified is served.
            Err(error) => {
                tracing::warn!(key = %live.key, %error, "the origin cannot confirm the cached file; it is served as it is");
                let pause = chunk_core::RetryPolicy::DEFAULT.negative_ttl;
                let pause = error.retry_after().map_or(pause, |asked| asked.max(pause));
                live.ask_again_at(self.clock.now() + pause);
                Ok(Validation::Same)
            }
        }
    }

    async fn confirm(&self, live: &Live, verdict: Verdict) {
        let now = self.clock.unix_seconds();
        let fresh_for = i64::try_from(verdict.fresh_for.as_secs()).unwrap_or(i64::MAX);
        let freshness = Freshness {
            validated_unix: now,
            fresh_until_unix: now.saturating_add(fresh_for),
        };
        if let Some(meta) = &mut live.lock().meta {
            Arc::make_mut(meta).freshness = freshness;
        }
        live.set_validated(true);
        if let Some(generation) = live.generation_now() {
            let refresh = StoreWrite::Refresh {
                generation,
                freshness,
            };
            let (store, key) = (Arc::clone(&self.store), Arc::clone(&live.key));
            let noted = tokio::spawn(async move {
                if let Err(error) = store.commit(vec![refresh]).await {
                    tracing::warn!(%key, %error, "the index did not note a confirmation");
                }
            });
            // Nobody is kept from playing by an index that hangs.
            let patience = self.clock.now() + INDEX_WAIT;
            tokio::select! {
                biased;
                _ = noted => {}
                () = self.clock.sleep_until(patience) => {}
            }
        }
    }
}

/// Whether the origin has another representation than `known`.
fn question(resource: Resource, known: &Representation) -> FetchRequest {
    FetchRequest {
        resource,
        wanted: Wanted::Span {
            start: 0,
            end: Some(1),
        },
        condition: Condition::IfChanged(known.clone()),
    }
}

/// A login page is no new version. What is cached stays good until somebody says otherwise.
fn keep_in_spite_of_page(live: &Live) -> Validation {
    tracing::warn!(key = %live.key, "the origin answered with a page in place of the file");
    live.set_validated(true);
    Validation::Same
}
