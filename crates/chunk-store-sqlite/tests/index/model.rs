//! Random operations give the answers that the strict index in memory gives.

use chunk_store_memory::MemoryChunkStore;
use chunk_store_sqlite::SqliteChunkStore;
use chunk_testkit::chunk_store::model;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn answers_equal_those_of_the_reference(ops in model::ops(24)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let store = SqliteChunkStore::in_memory().await.expect("an index");
            model::compare(&store, &MemoryChunkStore::new(), &ops).await;
        });
    }
}
