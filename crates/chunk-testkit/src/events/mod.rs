//! What every event bus must do.
//!
//! [`event_bus_conformance!`](crate::event_bus_conformance) expands to one named test per rule of the two
//! event ports' contracts, each run twice: on the bus by value and behind `Arc<dyn …>`.
//! [`assert_no_event_vanishes`] runs random operations and accounts for every event.

mod model;
pub mod rules;

pub use model::{Op, assert_no_event_vanishes, ops, run_ops};

/// Expands to the conformance tests of an event bus: a type that is an `EventSink` and an `EventSource`.
///
/// The argument names a `fn(usize) -> B` in scope: a fresh bus that keeps at least that many events for a
/// slow subscriber, and at most some thousands. The calling crate needs `chunk-ports`, and `tokio` with
/// macros and a runtime.
#[macro_export]
macro_rules! event_bus_conformance {
    ($fresh:ident) => {
        $crate::event_bus_conformance! {
            @rules $fresh,
            every_subscriber_sees_every_event_in_order,
            a_subscription_begins_now,
            publishing_to_nobody_is_fine,
            a_waiting_subscriber_wakes,
            a_dropped_recv_loses_no_event,
            one_publishers_events_stay_in_order_beside_others,
            fault33_a_slow_subscriber_is_told_that_it_lagged,
            a_slow_subscriber_holds_nobody_up,
            a_dropped_subscription_holds_nobody_up,
            what_was_published_comes_before_closed,
            closed_stays_closed,
            a_waiting_subscriber_learns_of_the_end,
        }
    };
    (@rules $fresh:ident, $($rule:ident,)+) => {
        mod by_value {
            use super::*;
            $(
                #[tokio::test]
                async fn $rule() {
                    let bus = ::std::sync::Arc::new($fresh($crate::events::rules::KEPT));
                    let source = ::std::sync::Arc::clone(&bus);
                    $crate::events::rules::$rule(bus, source).await;
                }
            )+
        }
        mod behind_dyn {
            use super::*;
            $(
                #[tokio::test]
                async fn $rule() {
                    let bus = ::std::sync::Arc::new($fresh($crate::events::rules::KEPT));
                    let source: ::std::sync::Arc<dyn ::chunk_ports::EventSource> = bus.clone();
                    let sink: ::std::sync::Arc<dyn ::chunk_ports::EventSink> = bus;
                    $crate::events::rules::$rule(sink, source).await;
                }
            )+
        }
    };
}
