/// Expands to the conformance tests of a fetcher.
///
/// The argument names an `async fn(OriginWorld) -> (F, G)` in scope: a fetcher whose unnamed origin serves
/// that world, with a progress timeout of 10 s, and whatever must live as long as it does. The calling
/// crate needs `chunk-ports`, and `tokio` with macros, a runtime and `test-util`: every test runs in paused
/// time, which goes on only when nothing is left to do, sockets on loopback included.
///
/// ```
/// use chunk_testkit::fetcher::ScriptedFetcher;
/// use chunk_testkit::origin::{Link, OriginWorld};
///
/// async fn fresh(world: OriginWorld) -> (ScriptedFetcher, ()) {
///     (ScriptedFetcher::new(world, Link::new()), ())
/// }
///
/// chunk_testkit::fetcher_conformance!(fresh);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! fetcher_conformance {
    ($fresh:ident) => {
        $crate::fetcher_conformance! {
            @rules $fresh,
            a_range_comes_right_and_says_what_it_is,
            an_open_range_goes_to_the_end,
            trap12_a_suffix_is_the_end_of_the_file,
            trap12_a_whole_suffix_tells_a_total_that_is_left_open,
            trap12_a_range_that_reaches_past_the_end_is_clipped,
            trap12_a_range_past_the_end_is_unsatisfiable,
            an_empty_range_is_not_asked_for,
            one_call_is_one_request,
            concurrent_calls_do_not_disturb_each_other,
            a_part_may_end_earlier_than_asked,
            a_body_without_length_ends_well,
            no_store_and_private_are_not_storable,
            what_forbids_stale_answers_is_told,
            an_unchanged_file_is_confirmed,
            a_changed_file_comes_with_its_bytes,
            dropping_a_body_ends_the_transfer,
            dropping_the_call_ends_the_transfer,
            what_is_not_polled_is_not_read,
            fault01_a_200_to_a_range_starts_at_0_and_says_so,
            a_whole_that_was_asked_for_tells_nothing_against_ranges,
            fault02_a_part_with_a_wrong_or_no_range_is_refused,
            trap10_a_part_of_another_file_is_not_continued,
            fault03_short_body_is_interrupted_and_resumed_exactly,
            fault03_a_part_that_closes_early_is_interrupted,
            fault04_a_longer_body_is_cut,
            fault05_another_tag_time_or_length_is_a_change,
            fault06_weak_validators_are_not_sent_as_if_range,
            fault07_coded_and_multipart_answers_are_refused,
            fault08_head_is_never_asked,
            fault09_missing_and_denied_are_told_at_once,
            fault09_other_refusals_keep_their_status,
            fault09_a_refusal_tells_what_else_it_says,
            fault10_patience_is_told,
            fault13_a_stall_ends_at_the_progress_timeout,
            fault13_a_byte_now_and_then_is_no_progress,
            fault13_time_without_polling_does_not_count,
            fault13_time_between_polls_is_not_waiting,
            fault13_a_silent_origin_is_given_up,
            fault14_a_login_page_is_not_content,
            fault48_no_error_tells_the_target,
        }
    };
    (@rules $fresh:ident, $($rule:ident,)+) => {
        mod by_value {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    let world = $crate::fetcher::rules::world();
                    let (fetcher, _alive) = $fresh(world.clone()).await;
                    $crate::fetcher::rules::$rule(&fetcher, &world).await;
                }
            )+
        }
        mod behind_dyn {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    let world = $crate::fetcher::rules::world();
                    let (fetcher, _alive) = $fresh(world.clone()).await;
                    let fetcher: ::std::sync::Arc<dyn ::chunk_ports::ChunkFetcher> =
                        ::std::sync::Arc::new(fetcher);
                    $crate::fetcher::rules::$rule(&*fetcher, &world).await;
                }
            )+
        }
    };
}
