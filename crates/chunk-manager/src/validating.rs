//! Whether what is cached of an entry still holds, and who waits how long for its origin to say so.

use std::sync::Arc;
use std::time::Duration;

use chunk_core::Admission;

use crate::asking::{Answer, Question};
use crate::error::OpenError;
use crate::inner::Inner;
use crate::live::Live;
use crate::opening::Need;

/// How long what is cached waits for its origin to confirm it: several round trips to anywhere, and no more than a
/// viewer takes for a pause.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the origin still has what we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validation {
    /// As far as is known, and may be given out.
    Same,
    /// It has another version: whoever opens the entry starts over.
    Changed,
}

/// What is to be done before bytes that are here are given out.
enum Standing {
    /// Nothing.
    Settled(Validation),
    /// The origin is asked, and its silence changes nothing.
    MayBeStale,
    /// The origin is asked, and has to answer (RFC 9111, 4.2.4).
    MustBeConfirmed,
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
            self.supersede(live);
            return Ok(Validation::Changed);
        }
        if live.is_validated() {
            return Ok(Validation::Same);
        }
        self.check_refusal(live)?;
        match live.standing(self.clock.unix_seconds()) {
            Standing::Settled(validation) => Ok(validation),
            Standing::MayBeStale => self.validate_in_time(live, need).await,
            Standing::MustBeConfirmed => self.validate_for_certain(live, need).await,
        }
    }

    /// What is here is held up for [`PATIENCE`] at most, and once per session. It is not held up at all by an origin
    /// that was silent a moment ago, nor by finding out whether it still is.
    async fn validate_in_time(
        self: &Arc<Self>,
        live: &Arc<Live>,
        need: Need,
    ) -> Result<Validation, OpenError> {
        let now = self.clock.now();
        if let Some(ask_at) = live.asked_in_vain() {
            if now >= ask_at {
                self.ask_beside(live);
            }
            return Ok(Validation::Same);
        }
        if need == Need::Origin {
            // Whoever needs its bytes as well waits for it anyway.
            return match self.ask_about(live).needed_answer().await {
                Answer::Untold { .. } => self.as_it_stands(live, need).await,
                told => told.or_as_it_is(),
            };
        }
        let mut question = match live.question() {
            Some(question) => question,
            None => match self.reach.admit_confirming(live.key.origin(), now) {
                Admission::Free => self.ask_about(live),
                Admission::Look => {
                    live.ask_again_at(now);
                    self.ask_about(live);
                    return Ok(Validation::Same);
                }
                Admission::Refused { .. } => return Ok(Validation::Same),
            },
        };
        let enough = question.begun() + PATIENCE;
        tokio::select! {
            biased;
            answer = question.answer() => match answer {
                Answer::Untold { .. } => {}
                told => return told.or_as_it_is(),
            },
            () = self.clock.sleep_until(enough) => {
                self.reach.kept_waiting(live.key.origin(), enough);
                // Its answer counts for whoever comes after it, and nobody waits for it any more.
                live.ask_again_at(enough);
                tracing::warn!(key = %live.key, "the origin takes long to confirm the cached file");
            }
        }
        self.as_it_stands(live, need).await
    }

    /// No answer told anything. What is here may have been changed or replaced since the question was put; else it is
    /// given out as it is.
    async fn as_it_stands(
        self: &Arc<Self>,
        live: &Arc<Live>,
        need: Need,
    ) -> Result<Validation, OpenError> {
        match live.standing(self.clock.unix_seconds()) {
            Standing::Settled(validation) => Ok(validation),
            Standing::MustBeConfirmed => self.validate_for_certain(live, need).await,
            Standing::MayBeStale => Ok(Validation::Same),
        }
    }

    /// What its origin forbids to be given out unconfirmed waits until it is confirmed (RFC 9111, 5.2.2.2).
    async fn validate_for_certain(
        self: &Arc<Self>,
        live: &Arc<Live>,
        need: Need,
    ) -> Result<Validation, OpenError> {
        // Whoever needs bytes has been let through already.
        if need == Need::Nothing
            && let Admission::Refused { retry_after } =
                self.reach.admit(live.key.origin(), self.clock.now())
        {
            let retry_after = Some(retry_after);
            return Err(OpenError::Unconfirmed { retry_after });
        }
        self.ask_about(live).needed_answer().await.or_not_at_all()
    }

    /// Asks while what is here is served, and nobody waits for the answer.
    pub(crate) fn ask_beside(self: &Arc<Self>, live: &Arc<Live>) {
        if live.question().is_some() {
            return;
        }
        let now = self.clock.now();
        match self.reach.admit_confirming(live.key.origin(), now) {
            // Whoever may look whether an origin is back looks by this.
            Admission::Free | Admission::Look => drop(self.ask_about(live)),
            Admission::Refused { retry_after } => live.ask_again_at(now + retry_after),
        }
    }

    /// A refusal to confirm is the answer for a while (RFC 9111, 4.3.3).
    fn check_refusal(&self, live: &Live) -> Result<(), OpenError> {
        let ttl = chunk_core::RetryPolicy::DEFAULT.negative_ttl;
        match live.refusal_since(self.clock.now() - ttl) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Live {
    fn standing(&self, now_unix: i64) -> Standing {
        let (freshness, is_asked) = {
            let state = self.lock();
            if state.is_superseded {
                return Standing::Settled(Validation::Changed);
            }
            let Some(meta) = &state.meta else {
                return Standing::Settled(Validation::Same);
            };
            (meta.freshness, state.ask_again_at.is_some())
        };
        // What was promised for a while does not hold where there is doubt since.
        if !is_asked && freshness.is_fresh(now_unix) {
            self.set_validated(true);
            return Standing::Settled(Validation::Same);
        }
        if freshness.may_be_stale() {
            Standing::MayBeStale
        } else {
            Standing::MustBeConfirmed
        }
    }

    /// The question that is under way, if there is one.
    fn question(&self) -> Option<Question> {
        let question = self.lock().question.clone();
        question.filter(Question::is_open)
    }
}

impl Answer {
    /// Unreachable is not changed: what is verified is served.
    fn or_as_it_is(self) -> Result<Validation, OpenError> {
        match self {
            Self::Same | Self::Untold { .. } => Ok(Validation::Same),
            Self::Changed => Ok(Validation::Changed),
            Self::Refused(error) => Err(error),
        }
    }

    fn or_not_at_all(self) -> Result<Validation, OpenError> {
        match self {
            Self::Untold { retry_after } => Err(OpenError::Unconfirmed { retry_after }),
            told => told.or_as_it_is(),
        }
    }
}
