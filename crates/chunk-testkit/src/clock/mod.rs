//! What every clock must do.
//!
//! [`clock_conformance!`](crate::clock_conformance) expands to one named test per rule of the port's
//! contract, each run twice: on the clock by value and behind `Arc<dyn Clock>`.

pub mod rules;

/// Expands to the conformance tests of a clock.
///
/// The argument names a `fn() -> C` in scope: a fresh clock whose time is that of the tokio runtime it is made
/// in. The calling crate needs `chunk-ports`, and `tokio` with macros, a runtime and `test-util`: every test runs in
/// paused time, so that none depends on how fast the machine is.
///
/// ```
/// use async_trait::async_trait;
/// use chunk_core::Tick;
/// use chunk_ports::Clock;
/// use tokio::time::Instant;
///
/// #[derive(Debug)]
/// struct Simple(Instant);
///
/// #[async_trait]
/// impl Clock for Simple {
///     fn now(&self) -> Tick {
///         Tick::ZERO + self.0.elapsed()
///     }
///
///     async fn sleep_until(&self, deadline: Tick) {
///         tokio::time::sleep(deadline.since(self.now())).await;
///     }
///
///     fn unix_seconds(&self) -> i64 {
///         1_700_000_000
///     }
/// }
///
/// fn fresh() -> Simple {
///     Simple(Instant::now())
/// }
///
/// chunk_testkit::clock_conformance!(fresh);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! clock_conformance {
    ($fresh:ident) => {
        $crate::clock_conformance! {
            @rules $fresh,
            now_never_goes_back,
            now_goes_on_with_time,
            a_sleep_ends_at_its_deadline_and_not_before,
            a_deadline_that_has_passed_is_no_wait,
            sleeps_end_in_the_order_of_their_deadlines,
            a_dropped_sleep_wakes_nobody,
            a_dropped_sleep_disturbs_no_other,
            never_does_not_come,
            the_wall_clock_counts_from_1970,
        }
    };
    (@rules $fresh:ident, $($rule:ident,)+) => {
        mod by_value {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    $crate::clock::rules::$rule(&$fresh()).await;
                }
            )+
        }
        mod behind_dyn {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    let clock: ::std::sync::Arc<dyn ::chunk_ports::Clock> =
                        ::std::sync::Arc::new($fresh());
                    $crate::clock::rules::$rule(&*clock).await;
                }
            )+
        }
    };
}
