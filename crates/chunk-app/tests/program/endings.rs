//! An order that cannot be carried out ends with its reason, and leaves nothing behind.

use std::time::Duration;

use chunk_testkit::origin::OriginObject;
use serde_json::Value;

use crate::http;
use crate::program::{Bench, text};

/// Far more than any of these takes: only what never ends runs into it.
const NEVER: Duration = Duration::from_secs(60);

const MIB: u64 = 1 << 20;

/// Runs `fetch --json`, which must fail; the reason.
async fn refused(bench: &Bench, path: &str, more: &[&str]) -> String {
    let mut arguments = vec!["fetch", "--json", path];
    arguments.extend(more);
    let output = tokio::time::timeout(NEVER, bench.run(&arguments))
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let last = text(&output.stdout);
    let last: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "failed", "{output:?}");
    assert_eq!(last["path"], path);
    last["reason"].as_str().unwrap().to_owned()
}

async fn queued_bytes(bench: &Bench) -> Value {
    let status = bench.json(&["status", "--json"]).await.remove(0);
    status["queue"]["bytes"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_larger_than_the_cache_is_refused_at_once() {
    let bench = Bench::with("big", 30_000_000).await;
    bench.put("film", 3 * MIB);
    let limits = ["--max-size", "12MiB", "--chunk-size", "1MiB"];
    let url = bench.origin.url();
    let mut flags = vec!["--origin", &*url];
    flags.extend(limits);
    let server = bench.serve_with(&flags).await;
    let reason = refused(&bench, "/big", &[]).await;
    assert_eq!(reason, "28.6 MiB do not fit in --max-size 12MiB");
    assert_eq!(queued_bytes(&bench).await, 0);
    // What fits still does.
    bench.json(&["fetch", "--json", "/film"]).await;
    bench.json(&["pin", "--json", "/film"]).await;
    bench.put("long", 10 * MIB);
    let reason = refused(&bench, "/long", &[]).await;
    assert_eq!(
        reason,
        "10.0 MiB do not fit in --max-size 12MiB, of which 3.0 MiB are pinned"
    );
    assert_eq!(queued_bytes(&bench).await, 0);
    server.stop().await;

    // The same without a server.
    let reason = refused(&bench, "/big", &flags).await;
    assert!(reason.starts_with("28.6 MiB do not fit"), "{reason}");
    bench.put("short", 4 * MIB);
    let mut short = vec!["fetch", "--json", "/short"];
    short.extend(flags);
    bench.json(&short).await;
    assert_eq!(queued_bytes(&bench).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_be_stored_is_refused_at_once() {
    let bench = Bench::new().await;
    bench
        .origin
        .put(OriginObject::new("nostore", 300_000).header("Cache-Control", "no-store"));
    let server = bench.serve().await;
    let reason = refused(&bench, "/nostore", &[]).await;
    assert!(reason.contains("does not let it be kept"), "{reason}");
    assert_eq!(queued_bytes(&bench).await, 0);
    // It plays all the same.
    assert_eq!(server.get("/nostore", "").await.body.len(), 300_000);
    server.stop().await;
    let reason = refused(&bench, "/nostore", &["--origin", &bench.origin.url()]).await;
    assert!(reason.contains("does not let it be kept"), "{reason}");
    assert_eq!(queued_bytes(&bench).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_ends_an_order_with_the_reason() {
    let bench = Bench::with("film", 3 * MIB).await;
    // More than any disk has.
    let url = bench.origin.url();
    let flags = ["--origin", &*url, "--min-free", "1000TiB"];
    let server = bench.serve_with(&flags).await;
    let reason = refused(&bench, "/film", &[]).await;
    assert!(reason.contains("--min-free"), "{reason}");
    assert_eq!(queued_bytes(&bench).await, 3 * MIB);
    assert_eq!(server.get("/film", "").await.body.len(), 3 << 20);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_about_a_folder_that_is_not_there_makes_none() {
    let bench = Bench::with("a", 10).await;
    let typo = bench.home.path().join("typo");
    let empty = bench.home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for folder in [&typo, &empty] {
        let dir = folder.to_str().unwrap();
        for command in [
            &["status"][..],
            &["status", "--json"],
            &["verify"],
            &["evict", "/a"],
            &["evict", "--all"],
            &["pin", "/a"],
            &["why", "/a", "0"],
        ] {
            let mut arguments = command.to_vec();
            arguments.extend(["--cache-dir", dir]);
            let output = bench.run(&arguments).await;
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = text(&output.stderr);
            let start = format!("chunkd: there is no cache in {dir}; say --cache-dir DIR");
            assert!(said.starts_with(&start), "{said}");
        }
    }
    assert!(!typo.exists());
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn localhost_is_an_address_and_banana_is_no_log_level() {
    let bench = Bench::with("a", 10).await;
    let url = bench.origin.url();
    let server = bench
        .serve_with(&["--origin", &url, "--listen", "localhost:0"])
        .await;
    assert!(server.address.ip().is_loopback());
    assert_eq!(server.get("/a", "").await.body.len(), 10);
    server.stop().await;
    let output = bench.run(&["status", "--log", "banana"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("say a level"), "{output:?}");
    let help = text(&bench.run(&["evict", "--help"]).await.stdout);
    assert!(help.contains("whatever its query"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rate_is_told_once_transfers_have_ended() {
    let bench = Bench::with("a", 3 * MIB).await;
    let server = bench.serve().await;
    bench.json(&["fetch", "--json", "/a"]).await;
    let ended = |status: &Value| status["queue"]["transfers"] == 0;
    for _ in 0..crate::program::LOOKS {
        let answer = http::try_order(&bench.folder(), "GET", "/v1/status", "").await;
        let status = answer.unwrap().json();
        if ended(&status) {
            assert_eq!(status["activity"]["download_bytes_per_second"], 0);
            assert!(status["entries"][0]["download_bytes_per_second"].is_null());
            server.stop().await;
            return;
        }
        crate::program::look_later().await;
    }
    panic!("the transfer never ended");
}
