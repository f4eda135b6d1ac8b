//! The memory byte store keeps the contract of the byte store port.

use chunk_store_memory::MemoryByteStore;
use chunk_testkit::faulty::CrashByteStore;

async fn unbounded() -> (MemoryByteStore, ()) {
    (MemoryByteStore::new(), ())
}

async fn bounded() -> (MemoryByteStore, ()) {
    (MemoryByteStore::with_capacity(1 << 30), ())
}

mod without_a_bound {
    use super::unbounded;
    chunk_testkit::byte_store_conformance!(unbounded);
}

mod with_a_bound {
    use super::bounded;
    chunk_testkit::byte_store_conformance!(bounded);
}

/// The store is its own model here: what this proves is that its reads agree with the content's function,
/// that holes stay holes, and that the model test terminates.
#[test]
fn agrees_with_itself_under_random_operations() {
    chunk_testkit::byte_store::assert_like_model(64, unbounded, MemoryByteStore::new);
}

/// The testkit's crash model has no model of its own to be held against; this store is one.
#[test]
fn the_crash_model_agrees_with_it_while_nothing_crashes() {
    let fresh = || async { (CrashByteStore::new(), ()) };
    chunk_testkit::byte_store::assert_like_model(64, fresh, MemoryByteStore::new);
}
