//! What every byte store must do.
//!
//! [`byte_store_conformance!`](crate::byte_store_conformance) expands to one named test per rule of the
//! port's contract, each run twice: on the store by value and behind `Arc<dyn ByteStore>`.
//! [`assert_like_model`] runs random operations on a store and on a model side by side. Content is a
//! function of where it stands ([`content`]), so that every byte read can be checked without a copy.

pub mod content;
mod model;
pub mod rules;

pub use model::{Op, assert_like_model, ops, run_ops};

/// Expands to the conformance tests of a byte store.
///
/// The argument names an `async fn() -> (S, G)` in scope: a fresh store and whatever must live as long as
/// it does (a temporary folder, or `()`). The calling crate needs `chunk-ports`, and `tokio` with macros
/// and a runtime.
///
/// ```
/// use chunk_testkit::faulty::CrashByteStore;
///
/// async fn fresh() -> (CrashByteStore, ()) {
///     (CrashByteStore::new(), ())
/// }
///
/// chunk_testkit::byte_store_conformance!(fresh);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! byte_store_conformance {
    ($fresh:ident) => {
        $crate::byte_store_conformance! {
            @rules $fresh,
            never_written_is_none,
            written_bytes_read_back,
            a_write_of_many_pieces_is_one_run_of_bytes,
            a_read_past_the_end_is_short_or_none,
            any_part_reads_back,
            an_extension_keeps_what_was_there,
            the_later_half_may_come_first,
            a_flush_changes_nothing_read,
            writing_the_same_again_is_harmless,
            generation_segment_and_epoch_keep_apart,
            the_largest_numbers_are_names_too,
            many_segments_keep_apart,
            removal_takes_effect_at_once,
            removal_takes_only_what_is_named,
            removing_what_is_not_there_is_ok,
            removing_a_generation_takes_all_its_segments,
            generations_lists_what_is_stored,
            disjoint_writes_at_once_do_not_disturb_each_other,
            reads_beside_writes_see_whole_bytes,
            a_read_beside_a_removal_sees_right_bytes_or_none,
            a_dropped_write_touches_only_its_own_bytes,
            free_space_answers,
        }
    };
    (@rules $fresh:ident, $($rule:ident,)+) => {
        mod by_value {
            use super::*;
            $(
                #[tokio::test]
                async fn $rule() {
                    let (store, _alive) = $fresh().await;
                    $crate::byte_store::rules::$rule(&store).await;
                }
            )+
        }
        mod behind_dyn {
            use super::*;
            $(
                #[tokio::test]
                async fn $rule() {
                    let (store, _alive) = $fresh().await;
                    let store: ::std::sync::Arc<dyn ::chunk_ports::ByteStore> =
                        ::std::sync::Arc::new(store);
                    $crate::byte_store::rules::$rule(&*store).await;
                }
            )+
        }
    };
}
