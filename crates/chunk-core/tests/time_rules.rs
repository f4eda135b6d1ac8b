//! Ticks: differences, and arithmetic that cannot panic.

use std::time::Duration;

use chunk_core::Tick;
use proptest::prelude::*;

proptest! {
    #[test]
    fn ticks_saturate(nanos in any::<u64>(), seconds in any::<u64>(), less in any::<u32>()) {
        let (tick, span) = (Tick::from_nanos(nanos), Duration::new(seconds, less % 1_000_000_000));
        let sum = u128::from(nanos) + span.as_nanos();
        prop_assert_eq!(u128::from((tick + span).as_nanos()), sum.min(u64::MAX.into()));
        let difference = u128::from(nanos).saturating_sub(span.as_nanos());
        prop_assert_eq!(u128::from((tick - span).as_nanos()), difference);
    }

    #[test]
    fn a_difference_is_never_negative(a in any::<u64>(), b in any::<u64>()) {
        let since = Tick::from_nanos(a).since(Tick::from_nanos(b));
        prop_assert_eq!(since, Duration::from_nanos(a.saturating_sub(b)));
    }
}

#[test]
fn never_is_the_last_of_all_instants() {
    assert!(Tick::from_millis(u64::MAX) <= Tick::NEVER);
    assert_eq!(Tick::from_millis(3), Tick::from_nanos(3_000_000));
    assert_eq!(format!("{:?}", Tick::NEVER), "Tick(never)");
    assert_eq!(format!("{:?}", Tick::from_millis(1_500)), "Tick(1.5s)");
}
