//! What a crash leaves.

use chunk_testkit::origin::verify_content;

use crate::program::{Bench, twice_at_most};

const LEN: u64 = 8_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn fault24_after_a_kill_in_mid_fill_only_what_was_not_recorded_is_fetched_again() {
    let bench = Bench::slow("film.mkv", LEN).await;
    let server = bench.serve().await;
    let fetch = bench
        .command(&["fetch", "--json", "/film.mkv"])
        .spawn()
        .unwrap();
    let entry = bench
        .entry_until("/film.mkv", |entry| {
            entry["recorded_bytes"].as_u64().unwrap() >= LEN / 4
        })
        .await;
    let recorded = entry["recorded_bytes"].as_u64().unwrap();
    assert!(recorded < LEN, "{entry}");
    server.kill().await;
    // The command would go on by itself; this test is about the next server.
    drop(fetch);
    let asked = bench.origin.journal().requests();
    let server = bench.serve().await;
    bench
        .entry_until("/film.mkv", |entry| entry["state"] == "complete")
        .await;
    let later = bench.origin.journal().records().split_off(asked);
    let after: u64 = later.iter().map(|request| request.body_sent).sum();
    assert!(
        after <= LEN - recorded + twice_at_most(&later),
        "{after} bytes again although {recorded} of {LEN} were recorded"
    );
    let whole = server.get("/film.mkv", "").await;
    assert_eq!(whole.body.len() as u64, LEN);
    assert_eq!(verify_content("film.mkv", 1, 0, &whole.body), Ok(()));
    assert_eq!(bench.origin.journal().requests(), asked + later.len());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault21_a_malformed_index_is_set_aside_loudly_and_the_cache_serves() {
    let bench = Bench::with("a", 100_000).await;
    let url = bench.origin.url();
    bench
        .json(&["fetch", "--origin", &url, "--json", "/a"])
        .await;
    std::fs::write(bench.folder().join("index.db"), vec![b'x'; 8192]).unwrap();
    let mut server = bench.serve().await;
    let line = server.logged("the index was damaged").await;
    assert!(
        line.contains("ERROR") && line.contains("index.db.damaged-1"),
        "{line}"
    );
    let whole = server.get("/a", "").await;
    assert_eq!(verify_content("a", 1, 0, &whole.body), Ok(()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_a_dead_process_left_is_no_obstacle() {
    let bench = Bench::with("a", 10).await;
    bench.serve().await.kill().await;
    assert!(bench.folder().join("chunkd.sock").exists());
    let report = &bench.json(&["status", "--json"]).await[0];
    assert_eq!(report["schema"], 1);
    bench.serve().await.stop().await;
}
