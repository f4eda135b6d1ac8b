//! The strict index in memory keeps the rules it is the reference for.

use chunk_store_memory::MemoryChunkStore;

chunk_testkit::chunk_store_conformance!(memory, (MemoryChunkStore::new(), ()));
chunk_testkit::tally_store_conformance!(memory_tally, (MemoryChunkStore::new(), ()));
