//! The conformance suite of [`TallyStore`](chunk_ports::TallyStore).
//!
//! [`tally_store_conformance!`](crate::tally_store_conformance) makes one test per rule, each run on the store itself
//! and behind `Arc<dyn TallyStore>`.

pub mod rules;

/// Makes one `#[tokio::test]` per rule of a store of sums.
///
/// The first argument names the module they stand in. The second is an expression that gives a fresh store and whatever
/// must live as long as it (a temporary folder, or `()`); it may await. The crate that calls this needs tokio with
/// `macros` and `rt` among its dev-dependencies.
///
/// ```ignore
/// chunk_testkit::tally_store_conformance!(memory, (MemoryChunkStore::new(), ()));
/// ```
#[macro_export]
macro_rules! tally_store_conformance {
    ($module:ident, $make:expr) => {
        $crate::tally_store_conformance! {
            @rules $module, $make,
            a_fresh_store_has_counted_nothing,
            every_sum_comes_back_as_itself,
            the_last_tally_stands_even_where_it_is_smaller,
            keeping_one_twice_changes_nothing,
            a_sum_beyond_the_largest_number_is_kept_as_that,
            tallies_kept_at_once_leave_one_of_them_whole,
        }
    };
    (@rules $module:ident, $make:expr, $($rule:ident,)+) => {
        mod $module {
            use super::*;

            mod by_value {
                use super::*;
                $(
                    #[tokio::test]
                    async fn $rule() {
                        let (store, _guard) = $make;
                        $crate::tally::rules::$rule(&store).await;
                    }
                )+
            }

            mod behind_a_pointer {
                use super::*;
                $(
                    #[tokio::test]
                    async fn $rule() {
                        let (store, _guard) = $make;
                        let store: std::sync::Arc<dyn $crate::tally::rules::TallyStore> =
                            std::sync::Arc::new(store);
                        $crate::tally::rules::$rule(&*store).await;
                    }
                )+
            }
        }
    };
}

#[cfg(test)]
mod tests {
    /// A rule that the list leaves out is run by nobody.
    #[test]
    fn every_rule_is_listed() {
        let list = include_str!("mod.rs");
        let names: Vec<_> = include_str!("rules.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn ")?.split('<').next())
            .collect();
        assert!(names.len() > 4, "the rules are found: {names:?}");
        for name in names {
            let lines = list.lines().map(|line| line.trim().trim_end_matches(','));
            assert_eq!(lines.filter(|&line| line == name).count(), 1, "{name}");
        }
    }
}
