//! The rules, one function each. They panic where a store breaks them.

pub use chunk_ports::TallyStore;

use chunk_ports::Tally;
use futures_util::future::join_all;

/// Sums that are all different, so that none can stand in for another.
fn sample(first: u64) -> Tally {
    Tally {
        bytes_served: first,
        bytes_served_from_cache: first + 1,
        bytes_from_origin: first + 2,
        bytes_wasted: first + 3,
        hits: first + 4,
        misses: first + 5,
        origin_requests: first + 6,
        evicted_bytes: first + 7,
        checksum_failures: first + 8,
    }
}

async fn kept<S: TallyStore + ?Sized>(store: &S) -> Tally {
    store.tally().await.expect("a tally")
}

/// Before anything is kept there are no sums, which is no error.
pub async fn a_fresh_store_has_counted_nothing<S: TallyStore + ?Sized>(store: &S) {
    assert_eq!(kept(store).await, Tally::default());
}

/// No sum is lost or taken for another.
pub async fn every_sum_comes_back_as_itself<S: TallyStore + ?Sized>(store: &S) {
    store.keep_tally(sample(1)).await.expect("kept");
    assert_eq!(kept(store).await, sample(1));
}

/// Sums are replaced, not added up and not compared.
pub async fn the_last_tally_stands_even_where_it_is_smaller<S: TallyStore + ?Sized>(store: &S) {
    for tally in [sample(100), sample(7), Tally::default(), sample(8)] {
        store.keep_tally(tally).await.expect("kept");
        assert_eq!(kept(store).await, tally);
    }
}

/// Whoever does not know whether it was kept keeps it again.
pub async fn keeping_one_twice_changes_nothing<S: TallyStore + ?Sized>(store: &S) {
    for _ in 0..2 {
        store.keep_tally(sample(1)).await.expect("kept");
    }
    assert_eq!(kept(store).await, sample(1));
}

/// Counting never fails for the number it has come to.
pub async fn a_sum_beyond_the_largest_number_is_kept_as_that<S: TallyStore + ?Sized>(store: &S) {
    const LARGEST: u64 = i64::MAX as u64;
    let mut tally = sample(1);
    (tally.hits, tally.misses, tally.bytes_served) = (u64::MAX, LARGEST + 1, LARGEST);
    store.keep_tally(tally).await.expect("kept");
    (tally.hits, tally.misses) = (LARGEST, LARGEST);
    assert_eq!(kept(store).await, tally);
}

/// A tally is one thing: never some sums of one and some of another.
pub async fn tallies_kept_at_once_leave_one_of_them_whole<S: TallyStore + ?Sized>(store: &S) {
    let tallies: Vec<_> = (1..=8).map(|n| sample(n * 100)).collect();
    let outcomes = join_all(tallies.iter().map(|&tally| store.keep_tally(tally))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let kept = kept(store).await;
    assert!(tallies.contains(&kept), "{kept:?}");
}
