//! The conformance suite of [`ChunkStore`](chunk_ports::ChunkStore): what every index has to do.
//!
//! [`chunk_store_conformance!`](crate::chunk_store_conformance) makes one test per rule, each run on the
//! store itself and behind `Arc<dyn ChunkStore>`. [`model`] compares a store with another, step by step.

pub mod model;
pub mod rules;
mod samples;

/// Makes one `#[tokio::test]` per rule of the index.
///
/// The first argument names the module they stand in. The second is an expression that gives a fresh,
/// empty store and whatever must live as long as it (a temporary folder, or `()`); it may await. The
/// crate that calls this needs tokio with `macros` and `rt` among its dev-dependencies.
///
/// ```ignore
/// chunk_testkit::chunk_store_conformance!(memory, (MemoryChunkStore::new(), ()));
/// ```
#[macro_export]
macro_rules! chunk_store_conformance {
    ($module:ident, $make:expr) => {
        mod $module {
            use super::*;

            mod by_value {
                use super::*;

                $crate::__chunk_store_rules!(by_value, $make);
            }

            mod behind_a_pointer {
                use super::*;

                $crate::__chunk_store_rules!(behind_a_pointer, $make);
            }
        }
    };
}

/// The list of rules. Not part of the interface.
#[doc(hidden)]
#[macro_export]
macro_rules! __chunk_store_rules {
    ($way:ident, $make:expr) => {
        $crate::__chunk_store_tests!(
            $way,
            $make,
            a_fresh_store_is_empty,
            an_entry_is_made_once,
            keys_that_differ_in_any_part_are_entries_of_their_own,
            tasks_that_ensure_one_key_at_once_get_one_entry,
            every_part_of_a_generation_comes_back,
            a_generation_of_a_missing_entry_is_missing,
            a_new_generation_retires_the_former_one,
            a_repeated_nonce_gives_the_same_generation,
            a_nonce_of_another_entry_is_refused,
            odd_segment_sizes_are_refused,
            numbers_beyond_the_largest_are_refused,
            ids_are_never_given_twice,
            a_recorded_segment_comes_back_whole,
            recording_twice_changes_nothing,
            summaries_are_in_order_of_segment,
            recorded_bytes_follow_every_change,
            trap07_the_short_last_chunk_is_recorded_like_any_other,
            trap09_fewer_blocks_forget_exactly_the_missing_ones,
            malformed_segments_are_refused,
            nothing_is_recorded_of_a_provisional_generation,
            a_length_is_set_once,
            trap15_a_write_to_what_is_not_there_is_missing,
            removing_what_is_not_there_is_fine,
            removing_segments_leaves_the_others,
            removing_the_current_generation_leaves_the_entry,
            removing_an_entry_removes_what_belongs_to_it,
            a_refresh_and_a_pin_are_kept,
            a_touch_reaches_rows_and_entry_and_nothing_else,
            a_touch_of_another_entrys_generation_is_refused,
            fault23_a_repeated_batch_changes_nothing,
            a_batch_is_all_or_nothing,
            a_batch_is_applied_in_order,
            a_large_batch_is_one_batch,
            r07_jobs_come_back_in_order_of_arrival,
            jobs_replace_all_the_entry_had,
            jobs_that_overlap_are_refused,
            jobs_of_a_level_that_is_not_durable_are_refused,
            no_jobs_for_a_missing_entry_are_fine,
            commits_at_once_all_take_effect
        );
    };
}

/// One test per rule. Not part of the interface.
#[doc(hidden)]
#[macro_export]
macro_rules! __chunk_store_tests {
    (by_value, $make:expr, $($rule:ident),+) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let (store, _guard) = $make;
                $crate::chunk_store::rules::$rule(&store).await;
            }
        )+
    };
    (behind_a_pointer, $make:expr, $($rule:ident),+) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let (store, _guard) = $make;
                let store: std::sync::Arc<dyn $crate::chunk_store::rules::ChunkStore> =
                    std::sync::Arc::new(store);
                $crate::chunk_store::rules::$rule(&*store).await;
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    /// A rule that the list leaves out is run by nobody.
    #[test]
    fn every_rule_is_listed() {
        let list = include_str!("mod.rs");
        let rules = [
            include_str!("rules/batches.rs"),
            include_str!("rules/entries.rs"),
            include_str!("rules/jobs.rs"),
            include_str!("rules/segments.rs"),
        ];
        let names: Vec<_> = rules
            .iter()
            .flat_map(|rules| rules.lines())
            .filter_map(|line| line.strip_prefix("    fn ")?.strip_suffix("(store) {"))
            .collect();
        assert!(names.len() > 30, "the rules are found: {names:?}");
        for name in names {
            let lines = list.lines().map(|line| line.trim().trim_end_matches(','));
            assert_eq!(lines.filter(|&line| line == name).count(), 1, "{name}");
        }
    }
}
