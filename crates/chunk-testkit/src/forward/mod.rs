//! What everybody who passes requests on to an origin must do.
//!
//! [`forward_conformance!`](crate::forward_conformance) expands to one named test per rule of the port's
//! contract, each run twice: on the adapter by value and behind `Arc<dyn OriginForward>`.

pub mod rules;

/// Expands to the conformance tests of an adapter that passes requests on.
///
/// The argument names an `async fn(OriginWorld) -> (F, G)` in scope: an adapter whose unnamed origin serves that
/// world, and whatever must live as long as it does. The calling crate needs `chunk-ports`, and `tokio` with
/// macros, a runtime and `test-util`: every test runs in paused time.
#[macro_export]
macro_rules! forward_conformance {
    ($fresh:ident) => {
        $crate::forward_conformance! {
            @rules $fresh,
            a_body_goes_up_and_the_answer_comes_back,
            a_request_without_a_body_has_none,
            only_listed_fields_go_up,
            only_listed_fields_come_back,
            nothing_hop_by_hop_travels,
            any_status_is_an_answer,
            a_redirect_goes_back_as_it_is,
            nothing_is_retried,
            the_head_comes_before_the_body,
            a_body_that_breaks_off_ends_with_an_error,
            what_the_client_sends_badly_is_not_passed_on_as_whole,
            dropping_the_call_ends_the_exchange,
            dropping_the_body_ends_the_exchange,
            concurrent_calls_do_not_disturb_each_other,
            fault48_no_error_of_a_forwarded_request_tells_the_target,
        }
    };
    (@rules $fresh:ident, $($rule:ident,)+) => {
        mod by_value {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    let world = $crate::forward::rules::world();
                    let (forward, _alive) = $fresh(world.clone()).await;
                    $crate::forward::rules::$rule(&forward, &world).await;
                }
            )+
        }
        mod behind_dyn {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    let world = $crate::forward::rules::world();
                    let (forward, _alive) = $fresh(world.clone()).await;
                    let forward: ::std::sync::Arc<dyn ::chunk_ports::OriginForward> =
                        ::std::sync::Arc::new(forward);
                    $crate::forward::rules::$rule(&*forward, &world).await;
                }
            )+
        }
    };
}
