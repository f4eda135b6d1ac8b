//! The memory byte store keeps the contract of the byte store port.

use chunk_store_memory::MemoryByteStore;

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
