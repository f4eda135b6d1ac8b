//! Whether to ask an origin that could not be connected to.

use core::time::Duration;

use crate::Tick;

/// When an origin counts as out of reach, and how often one looks whether it is back.
///
/// ```text
/// closed → open       at a failure, once `failures` of them in a row span `patience`
/// pause               = first, doubled with each failed look, at most `longest`
/// open → one look     once the pause is over; nobody else until its outcome, or for `look` without one
/// open → closed       at any answer, whoever got it
/// ```
///
/// `patience` is what the tries of one fetch take ([`RetryPolicy`](crate::RetryPolicy)): the first to meet a dead
/// origin gets all of its tries, and whoever comes later gets none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerPolicy {
    /// How many failures in a row it takes, at least.
    pub failures: u32,
    /// How long they must have gone on.
    pub patience: Duration,
    /// The first pause.
    pub first: Duration,
    /// The longest pause. Failures further apart than this are not in a row.
    pub longest: Duration,
    /// How long a look may go without an outcome before there is another: whoever made it may have left.
    pub look: Duration,
}

/// What an origin's failures to be connected to, and its answers, come to. Asks nothing itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: State,
}

/// Whether somebody who needs the origin may ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a caller acts on each")]
pub enum Admission {
    /// Like anybody.
    Free,
    /// As the one who finds out whether it is back.
    Look,
    /// Not now: nobody is to ask before so long.
    Refused {
        /// When it may be worth asking again.
        retry_after: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In reach as far as is known.
    Closed,
    /// The last connections failed.
    Failing { count: u32, since: Tick, last: Tick },
    /// Out of reach.
    Open {
        until: Tick,
        pause: Duration,
        looking: Option<Tick>,
    },
}

impl BreakerPolicy {
    /// Three failures over 4 s; pauses of 1 s doubling to 30 s; 10 s for a look, which is what a connection may
    /// take.
    pub const DEFAULT: Self = Self {
        failures: 3,
        patience: Duration::from_secs(4),
        first: Duration::from_secs(1),
        longest: Duration::from_secs(30),
        look: Duration::from_secs(10),
    };
    /// The default, but for who has what it needs and only wants it confirmed: the first failure is enough.
    pub const AT_ONCE: Self = Self {
        failures: 1,
        patience: Duration::ZERO,
        ..Self::DEFAULT
    };
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Breaker {
    /// Nothing has failed yet.
    #[must_use]
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            state: State::Closed,
        }
    }

    /// Whether the origin counts as out of reach.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Somebody needs the origin at `now`. Where the answer is [`Admission::Look`], its outcome is awaited.
    pub fn admit(&mut self, now: Tick) -> Admission {
        let policy = self.policy;
        let State::Open { until, looking, .. } = &mut self.state else {
            return Admission::Free;
        };
        if now < *until {
            let retry_after = until.since(now);
            return Admission::Refused { retry_after };
        }
        match looking {
            Some(begun) if now.since(*begun) < policy.look => Admission::Refused {
                retry_after: policy.first,
            },
            _ => {
                *looking = Some(now);
                Admission::Look
            }
        }
    }

    /// When it may be worth asking again, as far as is known at `now`; `None` where it is not open.
    #[must_use]
    pub fn retry_after(&self, now: Tick) -> Option<Duration> {
        match self.state {
            State::Open { until, .. } => Some(until.since(now).max(self.policy.first)),
            _ => None,
        }
    }

    /// The origin has answered somebody, whatever it said.
    pub const fn answered(&mut self) {
        self.state = State::Closed;
    }

    /// Somebody could not connect to the origin at `now`.
    pub fn failed(&mut self, now: Tick) {
        let policy = self.policy;
        self.state = match self.state {
            State::Failing { count, since, last } if now.since(last) <= policy.longest => {
                failing(policy, count.saturating_add(1), since, now)
            }
            State::Closed | State::Failing { .. } => failing(policy, 1, now, now),
            // Somebody who waits in the middle of a file tries on; during a pause that is no news.
            State::Open { until, .. } if now < until => self.state,
            State::Open { pause, .. } => opened(now, pause.saturating_mul(2).min(policy.longest)),
        };
    }
}

/// So many failures in a row, the first of them at `since`.
fn failing(policy: BreakerPolicy, count: u32, since: Tick, now: Tick) -> State {
    if count >= policy.failures && now.since(since) >= policy.patience {
        opened(now, policy.first)
    } else {
        let last = now;
        State::Failing { count, since, last }
    }
}

fn opened(now: Tick, pause: Duration) -> State {
    State::Open {
        until: now + pause,
        pause,
        looking: None,
    }
}
