//! Retry timing: bounds, jitter, Retry-After and the end of it.

use std::collections::BTreeSet;
use std::time::Duration;

use chunk_core::{RetryPolicy, RetryState, Tick};
use proptest::prelude::*;

const POLICY: RetryPolicy = RetryPolicy::DEFAULT;

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

proptest! {
    #[test]
    fn a_delay_is_between_half_its_ceiling_and_all_of_it(failures in 1..200_u32, seed in any::<u64>()) {
        let ceiling = Duration::from_millis(250)
            .saturating_mul(1 << (failures - 1).min(20))
            .min(Duration::from_secs(30));
        let delay = POLICY.delay(failures, seed, None);
        prop_assert!(ceiling / 2 <= delay && delay <= ceiling, "{delay:?} of {ceiling:?}");
        prop_assert_eq!(delay, POLICY.delay(failures, seed, None));
    }

    #[test]
    fn retry_after_is_honoured_capped_and_jittered_upwards(
        failures in 1..20_u32,
        seed in any::<u64>(),
        asked in prop_oneof![0..30_u64, 0..1_000_u64],
    ) {
        let asked = Duration::from_secs(asked);
        let honoured = asked.min(POLICY.retry_after_cap);
        let own = POLICY.delay(failures, seed, None);
        let delay = POLICY.delay(failures, seed, Some(asked));
        prop_assert!(delay >= honoured && delay >= own);
        prop_assert!(delay <= own.max(honoured + honoured / 8));
    }

    #[test]
    fn nothing_overflows(
        failures in any::<u32>(),
        seed in any::<u64>(),
        (base, cap, after_cap, after) in (duration(), duration(), duration(), duration()),
    ) {
        let policy = POLICY.with_backoff(base, cap).with_retry_after_cap(after_cap);
        let delay = policy.delay(failures, seed, Some(after));
        prop_assert!(delay <= cap.max(after_cap.min(after).saturating_mul(2)));
        prop_assert!(Tick::NEVER + delay == Tick::NEVER);
    }
}

#[test]
fn seeds_spread_what_failed_together() {
    let delays: BTreeSet<_> = (0..1_000).map(|seed| POLICY.delay(4, seed, None)).collect();
    assert!(delays.len() > 990, "{} different delays", delays.len());
    // The four quarters of the jitter's range (1 to 2 seconds) are about equally full.
    for quarter in 0..4_u32 {
        let from = Duration::from_secs(1) + Duration::from_millis(250) * quarter;
        let within = delays
            .range(from..from + Duration::from_millis(250))
            .count();
        assert!(
            (200..300).contains(&within),
            "{within} in quarter {quarter}"
        );
    }
}

#[test]
fn seeds_spread_what_was_told_to_come_back_at_once() {
    let minute = Duration::from_secs(60);
    let delays: BTreeSet<_> = (0..100)
        .map(|seed| POLICY.delay(1, seed, Some(minute)))
        .collect();
    assert!(delays.len() > 95, "{} different delays", delays.len());
}

#[test]
fn a_short_retry_after_does_not_shorten_the_back_off() {
    let own = POLICY.delay(6, 1, None);
    assert_eq!(POLICY.delay(6, 1, Some(Duration::from_secs(1))), own);
}

#[test]
fn six_failures_in_a_row_are_the_end() {
    let mut state = RetryState::new(7);
    let mut now = Tick::ZERO;
    for failure in 1..6 {
        let next = state.failed(&POLICY, now, None).unwrap();
        assert_eq!(state.failures(), failure);
        assert_eq!(next, now + POLICY.delay(failure, 7, None));
        now = next;
    }
    assert_eq!(state.failed(&POLICY, now, None), None);
    // As the policy's documentation says: 4 to 8 seconds in all.
    let waited = now.since(Tick::ZERO);
    assert!(waited >= Duration::from_millis(3_875) && waited <= Duration::from_millis(7_750));
}

#[test]
fn progress_makes_the_next_failure_a_first_one() {
    let policy = POLICY.with_max_attempts(2);
    let mut state = RetryState::new(1);
    for _ in 0..100 {
        assert!(state.failed(&policy, Tick::ZERO, None).is_some());
        state.progressed();
    }
    assert!(state.failed(&policy, Tick::ZERO, None).is_some());
    assert_eq!(state.failed(&policy, Tick::ZERO, None), None);
}

#[test]
fn no_attempts_count_as_one() {
    for attempts in [0, 1] {
        let policy = POLICY.with_max_attempts(attempts);
        let mut state = RetryState::new(1);
        assert_eq!(state.failed(&policy, Tick::ZERO, None), None);
    }
}

#[test]
fn permanent_failures_are_remembered_for_ten_seconds() {
    assert_eq!(POLICY.negative_ttl, Duration::from_secs(10));
    let hour = Duration::from_secs(3600);
    assert_eq!(POLICY.with_negative_ttl(hour).negative_ttl, hour);
}
