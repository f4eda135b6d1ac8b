//! One process at a time holds the folder, and work goes on when another takes over.

use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Child;

use crate::program::{Bench, signal_to, text, twice_at_most};

const LEN: u64 = 8_000_000;
const BLOCK: u64 = 65_536;

/// A `fetch` of a slow film that has come some way; how far is recorded.
async fn under_way(bench: &Bench, arguments: &[&str]) -> (Child, u64) {
    let fetch = bench.command(arguments).spawn().unwrap();
    let entry = bench
        .entry_until("/film.mkv", |entry| {
            entry["recorded_bytes"].as_u64().unwrap() >= LEN / 8
        })
        .await;
    assert_eq!(entry["state"], "downloading");
    (fetch, entry["recorded_bytes"].as_u64().unwrap())
}

/// Checks that a status tells of an order for the film and of nobody who carries it out.
fn assert_idle(report: &Value) {
    assert_eq!(report["entries"][0]["path"], "/film.mkv", "{report}");
    assert_eq!(report["entries"][0]["state"], "paused", "{report}");
    assert_eq!(report["queue"]["entries"], 1, "{report}");
    assert_eq!(report["queue"]["transfers"], 0, "{report}");
}

fn last_line(stdout: &[u8]) -> Value {
    serde_json::from_str(text(stdout).lines().last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_over_the_work_of_a_fetch_which_follows_on() {
    let bench = Bench::slow("film.mkv", LEN).await;
    let url = bench.origin.url();
    let arguments = ["fetch", "--origin", &url, "--json", "/film.mkv"];
    let (fetch, recorded) = under_way(&bench, &arguments).await;
    let asked = bench.origin.journal().requests();
    // It says that it serves only once the fetch has let go.
    let server = bench.serve().await;
    let output = fetch.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(last_line(&output.stdout)["event"], "done");
    let entry = bench.entry("/film.mkv").await.unwrap();
    assert_eq!(entry["state"], "complete");
    // What had been recorded was not asked for again.
    let later = bench.origin.journal().records().split_off(asked);
    assert!(!later.is_empty());
    let again: u64 = later.iter().map(|record| record.body_sent).sum();
    assert!(
        again <= LEN - recorded + twice_at_most(&later),
        "{again} bytes although {recorded} of {LEN} were recorded"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_by_itself_when_the_server_ends() {
    let bench = Bench::slow("film.mkv", LEN).await;
    let server = bench.serve().await;
    let (fetch, _) = under_way(&bench, &["fetch", "--json", "/film.mkv"]).await;
    server.stop().await;
    let output = fetch.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(last_line(&output.stdout)["event"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_an_interrupted_fetch_is_finished_by_the_next_server_unasked() {
    let bench = Bench::slow("film.mkv", LEN).await;
    let url = bench.origin.url();
    let arguments = ["fetch", "--origin", &url, "--json", "/film.mkv"];
    let (fetch, recorded) = under_way(&bench, &arguments).await;
    signal_to(&fetch, Signal::INT);
    let output = fetch.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("the rest goes on with `chunkd serve`"),
        "{output:?}"
    );
    // Looking shows the queue and does not work it off.
    let requests = bench.origin.journal().requests();
    let report = &bench.json(&["status", "--json"]).await[0];
    let queued = report["queue"]["bytes"].as_u64().unwrap();
    assert!(queued > 0 && queued <= LEN - recorded + BLOCK, "{report}");
    assert_idle(report);
    assert_eq!(bench.origin.journal().requests(), requests);
    let server = bench.serve_with(&["--origin", &url]).await;
    bench
        .entry_until("/film.mkv", |entry| entry["state"] == "complete")
        .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_nobody_is_said_to_be_downloading() {
    let bench = Bench::slow("film.mkv", LEN).await;
    let url = bench.origin.url();
    for signal in [Signal::KILL, Signal::TERM] {
        let arguments = ["fetch", "--origin", &url, "--json", "/film.mkv"];
        let fetch = match signal {
            Signal::KILL => under_way(&bench, &arguments).await.0,
            _ => {
                let fetch = bench.command(&arguments).spawn().unwrap();
                let running = |entry: &Value| entry["state"] == "downloading";
                bench.entry_until("/film.mkv", running).await;
                fetch
            }
        };
        signal_to(&fetch, signal);
        let output = fetch.wait_with_output().await.unwrap();
        assert!(!output.status.success(), "{output:?}");
        let asked = bench.origin.journal().requests();
        assert_idle(&bench.json(&["status", "--json"]).await[0]);
        assert_eq!(bench.origin.journal().requests(), asked);
    }
}
