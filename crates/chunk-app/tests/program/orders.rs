//! Each command gives the same answer with `serve` running and without.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::http;
use crate::program::{Bench, LOOKS, files, look_later, text};

const LEN: u64 = 300_001;

/// `status` without what the answering process counts for itself.
async fn status(bench: &Bench) -> Value {
    let mut lines = bench.json(&["status", "--json"]).await;
    assert_eq!(lines.len(), 1);
    let mut report = lines.remove(0);
    let activity = report.as_object_mut().unwrap().remove("activity").unwrap();
    assert!(activity["hit_ratio"].is_null() || activity["hit_ratio"].is_number());
    report
}

/// Runs `arguments` on two caches of the same content, one of them served.
async fn both_ways(prepare: &[&[&str]], arguments: &[&str]) -> (Vec<Value>, Value) {
    let mut answers = Vec::new();
    let mut url = String::new();
    for served in [false, true] {
        let mut bench = Bench::with("a", LEN).await;
        bench.put("b", LEN);
        // The first server makes the origin known.
        bench.serve().await.stop().await;
        if url.is_empty() {
            url = bench.origin.url();
        }
        for prepare in prepare {
            bench.json(prepare).await;
        }
        let server = if served {
            Some(bench.serve().await)
        } else {
            None
        };
        let lines = bench.json(arguments).await;
        let lines: Vec<_> = lines
            .into_iter()
            .filter(|line| line["event"] != "progress")
            .collect();
        let mut after = status(&bench).await;
        assert_eq!(
            after["origins"][0]["url"],
            format!("{}/", bench.origin.url())
        );
        after.as_object_mut().unwrap().remove("origins");
        for entry in after["entries"].as_array_mut().unwrap() {
            // When it was read, and how fast it comes, are of this moment.
            let entry = entry.as_object_mut().unwrap();
            for momentary in ["accessed_unix", "download_bytes_per_second"] {
                assert!(entry.remove(momentary).is_some());
            }
        }
        answers.push((lines, after));
        if let Some(server) = server {
            server.stop().await;
        }
        bench.origin.close().await;
    }
    let served = answers.pop().unwrap();
    let alone = answers.pop().unwrap();
    assert_eq!(alone, served);
    alone
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_answers_the_same_with_and_without_serve() {
    let (mut lines, after) = both_ways(&[], &["fetch", "--json", "/a", "/b"]).await;
    lines.sort_by_key(|line| line["path"].to_string());
    assert_eq!(
        lines,
        [
            json!({"event": "done", "path": "/a", "total_bytes": LEN}),
            json!({"event": "done", "path": "/b", "total_bytes": LEN}),
        ]
    );
    let entry = &after["entries"][0];
    assert_eq!(entry["state"], "complete");
    assert_eq!(entry["recorded_bytes"], LEN);
    assert_eq!(entry["coverage_percent"], 100.0);
    assert_eq!(after["stored_bytes"], 2 * LEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn pin_and_unpin_answer_the_same_with_and_without_serve() {
    let fetch = &["fetch", "--json", "/a"][..];
    let (lines, after) = both_ways(&[fetch], &["pin", "--json", "/a"]).await;
    assert_eq!(lines, [json!({"path": "/a", "pinned": true})]);
    assert_eq!(after["entries"][0]["pinned"], true);
    let (lines, after) = both_ways(
        &[fetch, &["pin", "--json", "/a"]],
        &["unpin", "--json", "/a"],
    )
    .await;
    assert_eq!(lines, [json!({"path": "/a", "pinned": false})]);
    assert_eq!(after["entries"][0]["pinned"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn evict_answers_the_same_with_and_without_serve() {
    let fetch = &["fetch", "--json", "/a", "/b"][..];
    let (lines, after) = both_ways(&[fetch], &["evict", "--json", "/a"]).await;
    assert_eq!(lines, [json!({"freed_bytes": LEN})]);
    assert_eq!(after["stored_bytes"], LEN);
    let pin = &["pin", "--json", "/b"][..];
    let (lines, after) = both_ways(&[fetch, pin], &["evict", "--json", "--all"]).await;
    assert_eq!(lines, [json!({"freed_bytes": LEN})]);
    assert_eq!(after["stored_bytes"], LEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_answers_the_same_with_and_without_serve() {
    let fetch = &["fetch", "--json", "/a"][..];
    let (lines, _) = both_ways(&[fetch], &["verify", "--json"]).await;
    assert_eq!(
        lines,
        [json!({"entries": 1, "blocks": 5, "bytes": LEN, "bad": [], "repaired": false})]
    );
}

/// `why` for one file.
async fn why(bench: &Bench, offset: &str) -> Value {
    let mut lines = bench.json(&["why", "--json", "/a", offset]).await;
    let files = lines.remove(0)["files"].take();
    assert_eq!(files.as_array().unwrap().len(), 1);
    files[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tells_what_the_running_server_did_and_without_one_only_where_the_byte_is() {
    let bench = Bench::with("a", LEN).await;
    let server = bench.serve().await;
    assert_eq!(server.get("/a", "").await.body.len() as u64, LEN);
    bench
        .entry_until("/a", |entry| entry["state"] == "complete")
        .await;
    let report = why(&bench, "64KiB").await;
    assert_eq!(report["offset"], 65_536);
    assert_eq!(report["place"], "verified");
    assert_eq!(report["history"], "known");
    let moments = report["moments"].as_array().unwrap();
    let at = |event: &str| moments.iter().position(|m| m["event"] == event);
    let order = ["started", "answered", "first_byte", "recorded"].map(at);
    assert!(order.iter().all(Option::is_some), "{report}");
    assert!(order.is_sorted(), "{report}");
    assert!(
        why(&bench, "0").await["moments"]
            .to_string()
            .contains("served")
    );
    let table = text(&bench.run(&["why", "/a", "64KiB"]).await.stdout);
    assert!(
        table.contains("SINCE START") && table.contains("asks the origin for bytes 0-"),
        "{table}"
    );
    assert!(
        table.ends_with("byte 65536 of /a: recorded and verified\n"),
        "{table}"
    );
    server.stop().await;

    let report = why(&bench, "65536").await;
    assert_eq!(
        (&report["place"], &report["history"]),
        (&json!("recorded"), &json!("unheld"))
    );
    let output = bench.run(&["why", "/a", "65536"]).await;
    assert_eq!(
        text(&output.stdout),
        "nothing is known of its history: no program that fetched it is running\n\
         byte 65536 of /a: recorded\n"
    );
    let output = bench.run(&["why", "/b", "0"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = bench.run(&["why", "/a", "ten"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_names_the_reader_that_another_one_has_to_wait_for() {
    let bench = Bench::slow("film", 64 << 20).await;
    bench.put("b", 64 << 20);
    let server = bench.serve().await;
    // A film as fast as the line never lets go of it.
    let address = server.address;
    let film = tokio::spawn(async move {
        http::get(address, "/film?chunkd-rate=16Mbit/s&token=s3cr3t", "").await
    });
    bench
        .entry_until("/film", |entry| entry["readers"] == 1)
        .await;
    let yielding = tokio::spawn(async move { http::get(address, "/b", "Priority: u=7\r\n").await });
    let mut told = String::new();
    for _ in 0..LOOKS {
        told = text(&bench.run(&["why", "/b", "0"]).await.stdout);
        if told.contains("goes first") {
            break;
        }
        look_later().await;
    }
    assert!(told.contains("has to wait: reader "), "{told}");
    let verdict = told.lines().last().unwrap();
    assert!(
        verdict.starts_with("byte 0 of /b: missing; reader ")
            && verdict.contains(" of /film at byte ")
            && verdict.contains("a player"),
        "{told}"
    );
    assert!(!told.contains("s3cr3t"), "{told}");
    film.abort();
    yielding.abort();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_block_is_found_and_repaired_and_fetched_again() {
    let bench = Bench::with("a", LEN).await;
    let url = bench.origin.url();
    bench
        .json(&["fetch", "--origin", &url, "--json", "/a"])
        .await;
    let damaged = files(&bench.folder().join("data"));
    let segment = damaged
        .iter()
        .find(|file| std::fs::metadata(file).unwrap().len() == LEN)
        .unwrap();
    let mut bytes = std::fs::read(segment).unwrap();
    bytes[70_000] ^= 1;
    std::fs::write(segment, &bytes).unwrap();
    let bad = json!([{"path": "/a", "start_byte": 65_536, "end_byte": 131_071}]);
    let found = bench.run(&["verify", "--json"]).await;
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    let answer: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((&answer["bad"], &answer["repaired"]), (&bad, &json!(false)));
    let repaired = bench.json(&["verify", "--repair", "--json"]).await;
    assert_eq!(
        (&repaired[0]["bad"], &repaired[0]["repaired"]),
        (&bad, &json!(true))
    );
    assert_eq!(bench.json(&["verify", "--json"]).await[0]["bad"], json!([]));
    let asked = bench.origin.journal().requests();
    bench
        .json(&["fetch", "--origin", &url, "--json", "/a"])
        .await;
    let again = bench.origin.journal().records().split_off(asked);
    assert_eq!(again[0].range.as_deref(), Some("bytes=65536-131071"));
    // A run may be cut and taken up again; nothing outside the block is asked for.
    for record in again {
        assert!(record.range.unwrap().ends_with("-131071"));
        assert!(record.content_start.unwrap() >= 65_536);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_the_origin_does_not_have_fails_without_holding_up_the_others() {
    let bench = Bench::with("a", LEN).await;
    let url = bench.origin.url();
    let output = bench
        .run(&["fetch", "--origin", &url, "--json", "/missing", "/a"])
        .await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = text(&output.stdout);
    assert!(
        lines.contains(
            r#"{"event":"failed","path":"/missing","reason":"the origin answered 404: no such file"}"#
        ),
        "{lines}"
    );
    assert!(
        lines.contains(r#"{"event":"done","path":"/a","total_bytes":300001}"#),
        "{lines}"
    );
    assert!(text(&output.stderr).contains("1 of 2 files could not be fetched in whole"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_bytes_is_there_in_whole() {
    let bench = Bench::with("empty", 0).await;
    let url = bench.origin.url();
    let lines = bench
        .json(&["fetch", "--origin", &url, "--json", "/empty"])
        .await;
    assert_eq!(
        lines,
        [json!({"event": "done", "path": "/empty", "total_bytes": 0})]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_status_lists_can_be_unpinned_and_evicted_whichever_origins_are_in_use_now() {
    let bench = Bench::with("films/a", LEN).await;
    bench.put("b", LEN);
    let url = bench.origin.url();
    let fetch = ["fetch", "--origin", &url, "--json", "/films/a", "/b"];
    bench.json(&fetch).await;
    for path in ["/films/a", "/b"] {
        bench.json(&["pin", "--json", path]).await;
    }
    // Another origin now, under the name of a folder of the former one.
    let other = Bench::with("a", 10).await;
    let films = format!("films={}", other.origin.url());
    let fetch = ["fetch", "--origin", &films, "--json", "/films/a"];
    bench.json(&fetch).await;
    let report = status(&bench).await;
    let listed = report["entries"].as_array().unwrap().iter();
    let listed: Vec<_> = listed.map(|e| e["path"].as_str().unwrap()).collect();
    assert_eq!(listed, ["/b", "/films/a", "/films/a"]);
    assert_eq!(report["stored_bytes"], 2 * LEN + 10);
    for path in listed {
        bench.json(&["unpin", "--json", path]).await;
    }
    let report = status(&bench).await;
    let mut entries = report["entries"].as_array().unwrap().iter();
    assert!(entries.all(|entry| entry["pinned"] == false), "{report}");
    let freed = bench.json(&["evict", "--json", "/b"]).await;
    assert_eq!(freed, [json!({"freed_bytes": LEN})]);
    // What is listed by one path goes by it.
    let freed = bench.json(&["evict", "--json", "/films/a"]).await;
    assert_eq!(freed, [json!({"freed_bytes": LEN + 10})]);
    let output = bench.run(&["evict", "/c"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_a_table() {
    let bench = Bench::with("a", LEN).await;
    let url = bench.origin.url();
    let output = bench.run(&["fetch", "--origin", &url, "/a"]).await;
    assert_eq!(text(&output.stdout), "/a: 292 KiB, complete\n");
    let output = bench.run(&["status", "--config", "/dev/null"]).await;
    let said = text(&output.stdout);
    let row = said.lines().find(|line| line.contains("complete")).unwrap();
    assert!(
        row.contains("/a") && row.contains("100.0 %") && row.contains("292 KiB"),
        "{row}"
    );
    let output = bench.run(&["verify"]).await;
    assert!(text(&output.stdout).ends_with("all good\n"), "{output:?}");
    // A fetch makes its origin known, so that what it fetched can be named.
    let output = bench.run(&["pin", "/a"]).await;
    assert_eq!(text(&output.stdout), "/a is pinned\n", "{output:?}");
    let output = bench.run(&["evict", &format!("{url}/a")]).await;
    assert_eq!(text(&output.stdout), "292 KiB freed\n", "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_make_no_sense_are_refused_with_a_reason() {
    let bench = Bench::with("a", 10).await;
    let server = bench.serve().await;
    for (path, body, part) in [
        ("/v1/fetch", "{", "not understood"),
        ("/v1/evict", r#"{"path": "b"}"#, "neither a URL nor a path"),
        ("/v1/pin", "[]", "not understood"),
    ] {
        let answer = http::order(&bench.folder(), "POST", path, body).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(
            answer.json()["error"].as_str().unwrap().contains(part),
            "{path}"
        );
    }
    let answer = http::order(&bench.folder(), "POST", "/v1/handover", "null").await;
    assert_eq!(answer.status, 409);
    // A page cannot be asked for by the wrong method.
    assert_eq!(
        http::order(&bench.folder(), "GET", "/v1/evict", "")
            .await
            .status,
        405
    );
    assert_eq!(
        http::order(&bench.folder(), "POST", "/v1/jobs", "")
            .await
            .status,
        405
    );
    assert_eq!(
        http::order(&bench.folder(), "GET", "/v1/jobs", "")
            .await
            .json(),
        json!([])
    );
    server.stop().await;
}

/// Nobody is kept waiting for an origin that may be away for hours; what was ordered is there when it is back.
#[tokio::test]
async fn an_order_from_an_origin_out_of_reach_is_queued_and_says_so() {
    let mut bench = Bench::with("a", 10).await;
    let url = bench.origin.url();
    bench.origin.close().await;
    let output = bench.run(&["fetch", "--origin", &url, "/a"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        said.contains("/a: failed: its origin does not answer; the order stays in its queue"),
        "{said}"
    );
    let output = bench.run(&["status", "--json"]).await;
    let said = text(&output.stdout);
    assert!(said.contains("\"/a\""), "{said}");
}

/// An order that waits says for what: in the events, once on standard error, and in `status`.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_on_a_metered_line_says_that_it_waits() {
    let bench = Bench::with("a", 3_000_000).await;
    let url = bench.origin.url();
    let server = bench.serve_with(&["--origin", &url, "--metered"]).await;
    let mut scripted = bench.command(&["fetch", "/a", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(scripted.stdout.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "progress", "{event}");
        if event["waits_for_line"] == true {
            break;
        }
    }
    let waits = |entry: &Value| entry["state"] == "waiting_for_line";
    let entry = bench.entry_until("/a", waits).await;
    assert!(entry["reason"].as_str().unwrap().contains("metered"));
    let mut read = bench.command(&["fetch", "/a"]).spawn().unwrap();
    let mut lines = BufReader::new(read.stderr.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    assert!(
        line.starts_with("chunkd: /a waits: the line is metered"),
        "{line}"
    );
    scripted.kill().await.unwrap();
    read.kill().await.unwrap();
    // Whoever plays it has it all the same.
    assert_eq!(server.get("/a", "").await.body.len(), 3_000_000);
    server.stop().await;
}
