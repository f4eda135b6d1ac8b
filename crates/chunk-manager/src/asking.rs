//! The question whether an origin still has what is cached of it: asked once at a time for each entry, by a task of its
//! own, so that nobody who stops waiting takes the answer from those who come later.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chunk_core::{Representation, RetryPolicy, Tick};
use chunk_ports::{Condition, FetchError, FetchOutcome, FetchRequest, StoreWrite, Verdict, Wanted};
use tokio::sync::watch;

use crate::counters::add;
use crate::error::OpenError;
use crate::inner::Inner;
use crate::live::Live;
use crate::pages::{self, is_page_for_media};
use crate::validating::PATIENCE;
use crate::writer::INDEX_WAIT;

/// What came of a question.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The origin has what we have.
    Same,
    /// It has another version; what is cached has been superseded already.
    Changed,
    /// It refuses to say, and that is its answer.
    Refused(OpenError),
    /// There was no answer that tells.
    Untold {
        /// When it may be worth asking again, where that is known.
        retry_after: Option<Duration>,
    },
}

/// A question that was put to the origin. Clones are the same question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    begun: Tick,
    /// Whether anybody waits for the answer, however long it takes.
    is_needed: Arc<AtomicBool>,
    answer: watch::Receiver<Option<Answer>>,
}

impl Question {
    pub(crate) const fn begun(&self) -> Tick {
        self.begun
    }

    /// Whether the answer is still to come.
    pub(crate) fn is_open(&self) -> bool {
        self.answer.has_changed().is_ok() && self.answer.borrow().is_none()
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let answered = self.answer.wait_for(Option::is_some).await;
        let answer = answered.ok().and_then(|answer| answer.clone());
        // None comes any more where the manager has ended.
        answer.unwrap_or(Answer::Untold { retry_after: None })
    }

    /// The answer, for who cannot do without it.
    pub(crate) async fn needed_answer(&mut self) -> Answer {
        self.is_needed.store(true, Ordering::Release);
        self.answer().await
    }

    fn is(&self, other: &Self) -> bool {
        self.answer.same_channel(&other.answer)
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    /// Whether there is another version.
    Change,
    /// Whether the page that came in place of the file is there to stay.
    Page,
}

/// One question on its way.
struct Asking {
    live: Arc<Live>,
    known: Representation,
    topic: Topic,
    question: Question,
}

impl Inner {
    /// Asks the origin whether it still has `live`, or joins whoever is asking.
    pub(crate) fn ask_about(self: &Arc<Self>, live: &Arc<Live>) -> Question {
        let begun = self.clock.now();
        let (tell, answer) = watch::channel(None);
        let question = Question {
            begun,
            is_needed: Arc::default(),
            answer,
        };
        let (known, topic, resource) = {
            let mut state = live.lock();
            if let Some(open) = state.question.as_ref().filter(|open| open.is_open()) {
                return open.clone();
            }
            let Some(meta) = &state.meta else {
                // Nothing is known that could be another.
                tell.send_replace(Some(Answer::Same));
                return question;
            };
            let is_page_due = state.page.as_ref().is_some_and(|page| page.is_due(begun));
            let topic = if is_page_due {
                Topic::Page
            } else {
                Topic::Change
            };
            let known = meta.representation.clone();
            let resource = state.resource.clone();
            state.question = Some(question.clone());
            (known, topic, resource)
        };
        let request = FetchRequest {
            resource,
            wanted: Wanted::Span {
                start: 0,
                end: Some(1),
            },
            condition: match topic {
                Topic::Change => Condition::IfChanged(known.clone()),
                // As somebody would ask who knows nothing: what comes then is what the file is.
                Topic::Page => Condition::Any,
            },
        };
        add(&self.counters.origin_requests, 1);
        let asking = Asking {
            live: Arc::clone(live),
            known,
            topic,
            question: question.clone(),
        };
        tokio::spawn(asking.carry_out(Arc::downgrade(self), request, tell));
        question
    }

    async fn confirm(&self, live: &Live, verdict: Verdict) {
        let now = self.clock.unix_seconds();
        let freshness = {
            let mut state = live.lock();
            let Some(meta) = &mut state.meta else { return };
            let freshness = meta.freshness.told(&verdict, now);
            Arc::make_mut(meta).freshness = freshness;
            freshness
        };
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

impl Asking {
    /// Does not keep the manager while it waits: the end need not wait for an origin that is silent.
    async fn carry_out(
        self,
        inner: Weak<Inner>,
        request: FetchRequest,
        tell: watch::Sender<Option<Answer>>,
    ) {
        let Some((fetcher, clock)) = inner
            .upgrade()
            .map(|inner| (Arc::clone(&inner.fetcher), Arc::clone(&inner.clock)))
        else {
            return;
        };
        let mut asked = pin!(fetcher.fetch(request));
        let mut listening = None;
        let enough = self.question.begun + PATIENCE;
        let outcome = tokio::select! {
            biased;
            outcome = &mut asked => outcome,
            () = clock.sleep_until(enough) => {
                if let Some(inner) = inner.upgrade() {
                    listening = inner.reach.listen(self.live.key.origin());
                    if listening.is_none() && !self.question.is_needed.load(Ordering::Acquire) {
                        tell.send_replace(Some(self.left_open(&inner)));
                        return;
                    }
                }
                asked.await
            }
        };
        drop(listening);
        let Some(inner) = inner.upgrade().filter(|inner| inner.check_open().is_ok()) else {
            return;
        };
        let origin = self.live.key.origin();
        inner.heard_in_answer(origin, self.question.begun, &outcome);
        let answer = if self.is_overtaken() {
            drop(outcome);
            inner.ask_about(&self.live).answer().await
        } else {
            self.judge(&inner, outcome).await
        };
        tell.send_replace(Some(answer));
    }

    /// The origin is silent, and there is somebody who listens to that already.
    fn left_open(&self, inner: &Inner) -> Answer {
        let now = inner.clock.now();
        inner.reach.kept_waiting(self.live.key.origin(), now);
        self.live.ask_again_at(now);
        Answer::Untold { retry_after: None }
    }

    /// Whether the resource was changed after this was asked, so that the answer may be about what it was before.
    fn is_overtaken(&self) -> bool {
        let state = self.live.lock();
        !state
            .question
            .as_ref()
            .is_some_and(|question| question.is(&self.question))
    }

    async fn judge(&self, inner: &Arc<Inner>, outcome: Result<FetchOutcome, FetchError>) -> Answer {
        let live = &self.live;
        if live.lock().is_given_up() {
            return Answer::Changed;
        }
        match outcome {
            Ok(FetchOutcome::NotModified(verdict)) => self.same(inner, verdict).await,
            Ok(FetchOutcome::Body(body)) if self.known.is_confirmed_by(&body.representation) => {
                self.same(inner, body.verdict).await
            }
            Ok(FetchOutcome::Body(body)) => self.other(inner, body.representation),
            Err(FetchError::Changed { now }) => self.other(inner, *now),
            Ok(_) => self.changed(inner),
            // RFC 9111, 4.3.3: such an answer is the answer. What is cached stays, for the day it is another one.
            Err(
                error @ (FetchError::NotFound { .. }
                | FetchError::Denied { .. }
                | FetchError::Rejected { .. }),
            ) => {
                let error = OpenError::from(&error);
                live.refuse(error.clone(), inner.clock.now());
                Answer::Refused(error)
            }
            Err(error) => {
                tracing::warn!(key = %live.key, %error, "the origin cannot confirm the cached file");
                let pause = match self.topic {
                    Topic::Change => RetryPolicy::DEFAULT.negative_ttl,
                    Topic::Page => pages::PAUSE,
                };
                let retry_after = error.retry_after();
                let pause = retry_after.map_or(pause, |asked| asked.max(pause));
                live.ask_again_at(inner.clock.now() + pause);
                Answer::Untold { retry_after }
            }
        }
    }

    /// The origin has what is here, which must go all the same where it may not be kept any longer (RFC 9111, 3 and 4.3.4).
    async fn same(&self, inner: &Arc<Inner>, verdict: Verdict) -> Answer {
        if !verdict.storable {
            return self.changed(inner);
        }
        inner.confirm(&self.live, verdict).await;
        Answer::Same
    }

    /// The origin has something else.
    fn other(&self, inner: &Arc<Inner>, now: Representation) -> Answer {
        if !is_page_for_media(&self.known, &now) {
            return self.changed(inner);
        }
        if self.topic == Topic::Page && self.live.is_known_page(&now) {
            tracing::warn!(key = %self.live.key, "the page in place of the file is there to stay");
            let answer = self.changed(inner);
            inner.take_up_page(&self.live);
            return answer;
        }
        let retry_after = Some(inner.meet_page(&self.live, now));
        Answer::Untold { retry_after }
    }

    /// Before anybody is told, so that those who are about to ask the same need not.
    fn changed(&self, inner: &Inner) -> Answer {
        inner.supersede(&self.live);
        Answer::Changed
    }
}
