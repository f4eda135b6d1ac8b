//! What an origin out of reach costs those who come later, whatever happens in whichever order.

use std::time::Duration;

use chunk_core::{Admission, Breaker, BreakerPolicy, RetryPolicy, Tick};
use proptest::prelude::*;

const POLICY: BreakerPolicy = BreakerPolicy::DEFAULT;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A breaker that has just opened, and when.
fn opened() -> (Breaker, Tick) {
    let mut breaker = Breaker::new(POLICY);
    for at in [0, 2, 4] {
        assert!(!breaker.is_open());
        breaker.failed(Tick::ZERO + secs(at));
    }
    (breaker, Tick::ZERO + secs(4))
}

#[test]
fn nobody_is_refused_before_failures_have_gone_on() {
    let mut breaker = Breaker::new(POLICY);
    // Many at once are one moment of trouble, as when a server restarts.
    for _ in 0..100 {
        breaker.failed(Tick::ZERO);
        assert_eq!(breaker.admit(Tick::ZERO), Admission::Free);
    }
    breaker.failed(Tick::ZERO + secs(4));
    assert!(breaker.is_open());
}

#[test]
fn who_only_wants_a_confirmation_is_told_after_the_first_failure() {
    let mut breaker = Breaker::new(BreakerPolicy::AT_ONCE);
    breaker.failed(Tick::ZERO);
    let retry_after = secs(1);
    assert_eq!(
        breaker.admit(Tick::ZERO),
        Admission::Refused { retry_after }
    );
    assert_eq!(breaker.admit(Tick::ZERO + secs(1)), Admission::Look);
    breaker.answered();
    assert_eq!(breaker.admit(Tick::ZERO + secs(1)), Admission::Free);
}

#[test]
fn failures_far_apart_are_not_in_a_row() {
    let mut breaker = Breaker::new(POLICY);
    for minute in 0..100 {
        breaker.failed(Tick::ZERO + secs(60 * minute));
        assert!(!breaker.is_open());
    }
}

#[test]
fn one_looks_and_the_others_are_told_to_wait() {
    let (mut breaker, at) = opened();
    assert_eq!(
        breaker.admit(at + secs(1) / 4),
        Admission::Refused {
            retry_after: secs(1) * 3 / 4
        }
    );
    assert_eq!(breaker.admit(at + secs(1)), Admission::Look);
    let others = breaker.admit(at + secs(1));
    assert_eq!(
        others,
        Admission::Refused {
            retry_after: secs(1)
        }
    );
    breaker.answered();
    assert_eq!(breaker.admit(at + secs(1)), Admission::Free);
}

#[test]
fn pauses_double_up_to_the_longest() {
    let (mut breaker, mut at) = opened();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let Admission::Refused { retry_after } = breaker.admit(at) else {
            panic!("open, and no pause");
        };
        pauses.push(retry_after.as_secs());
        at = at + retry_after;
        assert_eq!(breaker.admit(at), Admission::Look);
        breaker.failed(at);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
}

#[test]
fn a_look_whose_outcome_never_comes_is_followed_by_another() {
    let (mut breaker, at) = opened();
    assert_eq!(breaker.admit(at + secs(1)), Admission::Look);
    assert!(matches!(
        breaker.admit(at + secs(10)),
        Admission::Refused { .. }
    ));
    assert_eq!(breaker.admit(at + secs(11)), Admission::Look);
}

#[test]
fn who_tries_on_in_the_middle_of_a_file_makes_no_pause_longer() {
    let (mut breaker, at) = opened();
    for tenth in 0..10 {
        breaker.failed(at + secs(1) * tenth / 10);
    }
    assert_eq!(breaker.admit(at + secs(1)), Admission::Look);
}

/// The tries of the first to meet a dead origin are all made before anybody is refused.
#[test]
fn the_first_to_fail_gets_all_its_tries() {
    let retry = RetryPolicy::DEFAULT;
    for seed in 0..200 {
        let mut breaker = Breaker::new(POLICY);
        let mut at = Tick::ZERO;
        for failures in 1..retry.max_attempts {
            breaker.failed(at);
            assert!(!breaker.is_open(), "after {failures} tries, seed {seed}");
            at = at + retry.delay(failures, seed, None);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Pass(u64),
    Admit,
    Answered,
    Failed,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..5_000_u64).prop_map(Op::Pass),
        1 => (0..60_000_u64).prop_map(Op::Pass),
        6 => Just(Op::Admit),
        6 => Just(Op::Failed),
        1 => Just(Op::Answered),
    ];
    prop::collection::vec(op, 0..200)
}

proptest! {
    #[test]
    fn whatever_happens_no_refusal_is_wrong_or_lasts(ops in ops()) {
        let mut breaker = Breaker::new(POLICY);
        let mut replayed = breaker;
        let mut now = Tick::ZERO;
        // What the paper says, told the long way: all failures since the last answer.
        let mut failures: Vec<Tick> = Vec::new();
        let mut looks: Vec<Tick> = Vec::new();
        for op in ops {
            match op {
                Op::Pass(millis) => now = now + Duration::from_millis(millis),
                Op::Failed => {
                    breaker.failed(now);
                    replayed.failed(now);
                    failures.push(now);
                }
                Op::Answered => {
                    breaker.answered();
                    replayed.answered();
                    failures.clear();
                    looks.clear();
                    prop_assert!(!breaker.is_open());
                }
                Op::Admit => {
                    let admission = breaker.admit(now);
                    prop_assert_eq!(admission, replayed.admit(now));
                    prop_assert_eq!(admission == Admission::Free, !breaker.is_open());
                    match admission {
                        Admission::Free => {}
                        Admission::Look => {
                            // Never two within the shortest pause.
                            let before = looks.last().map(|&look| now.since(look));
                            prop_assert!(before.is_none_or(|gap| gap >= POLICY.first));
                            looks.push(now);
                        }
                        Admission::Refused { retry_after } => {
                            prop_assert!(failures.len() >= POLICY.failures as usize);
                            let spanned = failures[failures.len() - 1].since(failures[0]);
                            prop_assert!(spanned >= POLICY.patience);
                            prop_assert!(retry_after > Duration::ZERO);
                            prop_assert!(retry_after <= POLICY.longest);
                            // Whoever has the patience is let through in the end, with nobody's help.
                            let mut later = breaker;
                            let last = later.admit(now + POLICY.longest + POLICY.look);
                            prop_assert_eq!(last, Admission::Look);
                        }
                    }
                }
            }
            prop_assert_eq!(breaker.retry_after(now).is_some(), breaker.is_open());
        }
    }
}
