//! Secrets appear in requests to their origin and nowhere else.

use chunk_testkit::origin::{Fault, When};

use crate::http;
use crate::program::{Bench, Server, files, text};

/// In URLs, headers, user information and players' credentials.
const PLANTED: &[&str] = &[
    "hunter-in-url",
    "hunter-in-header",
    "hunter-in-userinfo",
    "hunter-of-player",
];

fn assert_clean(what: &str, bytes: &[u8]) {
    for secret in PLANTED {
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} in {what}: {}", text(bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault48_no_secret_is_printed_logged_or_stored() {
    let bench = Bench::with("a", 200_000).await;
    bench.put("b", 200_000);
    bench.put("c", 200_000);
    bench
        .origin
        .fault("denied", When::Always, Fault::status(403));
    let elsewhere = Fault::redirect("http://127.0.0.1:1/x?token=hunter-in-url");
    bench.origin.fault("moved", When::Always, elsewhere);
    let settings = format!(
        "[origin]\nurl = \"http://user:hunter-in-userinfo@{}/\"\nauth = \"forward\"\n\
         headers = {{ X-Token = {{ env = \"TOKEN\" }} }}\n",
        bench.origin.address()
    );
    let file = bench.home.path().join("c.toml");
    std::fs::write(&file, settings).unwrap();
    let config = file.to_str().unwrap();
    let with_secrets = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        command
            .env("CHUNKD_CONFIG", config)
            .env("CHUNKD_LOG", "trace")
            .env("TOKEN", "hunter-in-header");
        command
    };
    let server = Server::of(with_secrets(&["serve", "--listen", "127.0.0.1:0"])).await;
    assert_clean("the first line", server.first_line.as_bytes());
    let credentials = "Authorization: Bearer hunter-of-player\r\n";
    for target in ["/a", "/denied", "/moved", "/none"] {
        let target = format!("{target}?token=hunter-in-url&v=1");
        let answer = server.get(&target, credentials).await;
        assert_clean("a head", answer.head.as_bytes());
        if answer.status != 200 {
            assert_clean("a body", &answer.body);
        }
    }
    // They did arrive where they belong, so that their absence elsewhere means something.
    let asked = bench.origin.journal().records_of("a");
    assert!(asked[0].target.contains("token=hunter-in-url"));
    assert_eq!(asked[0].header("x-token"), Some("hunter-in-header"));
    assert_eq!(
        asked[0].header("authorization"),
        Some("Bearer hunter-of-player")
    );
    let orders: &[&[&str]] = &[
        &["fetch", "--json", "/b?token=hunter-in-url"],
        &[
            "fetch",
            "/denied?token=hunter-in-url",
            "/moved?token=hunter-in-url",
        ],
        &["fetch", "http://elsewhere/?token=hunter-in-url"],
        &["status"],
        &["status", "--json"],
        &["verify", "--json"],
        &["pin", "/b?token=hunter-in-url"],
        &["evict", "/b?token=hunter-in-url"],
    ];
    for order in orders {
        let output = with_secrets(order).output().await.unwrap();
        assert_clean("output", &output.stdout);
        assert_clean("messages", &output.stderr);
    }
    for page in ["/metrics", "/v1/status", "/v1/jobs"] {
        let answer = http::order(&bench.folder(), "GET", page, "").await;
        assert_clean(page, &answer.body);
    }
    let said = server.stop().await;
    assert!(
        said.contains("DEBUG") || said.contains("TRACE"),
        "the log is too quiet to prove a thing"
    );
    assert_clean("the log", said.as_bytes());
    // The same without a server, then everything on disk, the folder's lists included.
    let output = with_secrets(&["fetch", "/c?token=hunter-in-url"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_clean("output", &output.stdout);
    assert_clean("messages", &output.stderr);
    for file in files(&bench.folder()) {
        assert_clean(
            &file.display().to_string(),
            file.as_os_str().as_encoded_bytes(),
        );
        assert_clean(&file.display().to_string(), &std::fs::read(&file).unwrap());
    }
}

/// An operator's slips: what was meant for a secret place stands in another.
#[tokio::test]
async fn fault48_a_url_that_is_written_wrongly_is_not_repeated() {
    let bench = Bench::with("a", 1000).await;
    let mut orders: Vec<Vec<&str>> = Vec::new();
    for url in [
        "http://user:hunter-in-userinfo/2@127.0.0.1/",
        "http://user:1/hunter-in-userinfo@127.0.0.1/",
        "http://us/er:hunter-in-userinfo@127.0.0.1/",
        "http://user:1@2/hunter-in-userinfo@127.0.0.1/",
        "http://user:1\\hunter-in-userinfo@127.0.0.1/",
        "http:/user:hunter-in-userinfo@127.0.0.1/",
        "//user:hunter-in-userinfo@127.0.0.1/",
        "user:hunter-in-userinfo@127.0.0.1/",
    ] {
        orders.push(vec!["serve", "--origin", url]);
        orders.push(vec!["serve", url]);
        orders.push(vec!["serve", "--listen", url]);
        orders.push(vec![url]);
        orders.push(vec!["fetch", "--origin", "a=http://127.0.0.1:1/", url]);
        orders.push(vec!["pin", "/a", url]);
        orders.push(vec!["why", "/a", url]);
    }
    orders.push(vec![
        "serve",
        "--origin",
        "user:hunter-in-userinfo@h=http://h/",
    ]);
    orders.push(vec!["status", "http://h/?hunter-in-url"]);
    for order in &orders {
        let output = bench.run(order).await;
        assert_eq!(output.status.code(), Some(2), "{order:?}: {output:?}");
        assert_clean("output", &output.stdout);
        assert_clean("messages", &output.stderr);
        assert!(output.stderr.starts_with(b"chunkd: "), "{output:?}");
    }
    for file in files(&bench.folder()) {
        assert_clean("a file", &std::fs::read(&file).unwrap());
    }
}

/// Values of parameters that no list of signing schemes has.
#[tokio::test(flavor = "multi_thread")]
async fn fault48_query_parameters_that_the_operator_calls_secret_are_kept_nowhere() {
    for (secret_query, entries) in [("\"all\"", 2), ("[\"Pass*\"]", 1)] {
        let bench = Bench::with("a", 200_000).await;
        bench.put("b", 200_000);
        let settings = format!(
            "[origin]\nurl = \"{}\"\nsecret_query = {secret_query}\n",
            bench.origin.url()
        );
        let file = bench.home.path().join("c.toml");
        std::fs::write(&file, settings).unwrap();
        let mut serve = bench.command(&["serve", "--listen", "127.0.0.1:0"]);
        serve.args(["--config", file.to_str().unwrap()]);
        serve.env("CHUNKD_LOG", "trace");
        let server = Server::of(serve).await;
        for target in [
            "/a?passphrase=hunter-in-url&v=1",
            "/a?v=1&passphrase=hunter-in-url2",
        ] {
            assert_eq!(server.get(target, "").await.status, 200);
        }
        let asked = &bench.origin.journal().records_of("a")[0];
        assert_eq!(asked.target, "/a?passphrase=hunter-in-url&v=1");
        // Later commands know it without the settings, and name the same entry.
        let target = "/b?passphrase=hunter-in-url";
        for order in [
            &["fetch", "--json", target][..],
            &["pin", target],
            &["status"],
            &["status", "--json"],
            &["why", target, "0"],
        ] {
            let output = bench.run(order).await;
            assert!(output.status.success(), "{order:?}: {output:?}");
            assert_clean("output", &output.stdout);
            assert_clean("messages", &output.stderr);
        }
        let status = &bench.json(&["status", "--json"]).await[0];
        let of_a = status["entries"].as_array().unwrap().iter();
        let of_a = of_a.filter(|entry| entry["path"].as_str().unwrap().starts_with("/a"));
        assert_eq!(of_a.count(), entries, "{secret_query}: {status}");
        for page in ["/metrics", "/v1/status", "/v1/jobs"] {
            let answer = http::order(&bench.folder(), "GET", page, "").await;
            assert_clean(page, &answer.body);
        }
        assert_clean("the log", server.stop().await.as_bytes());
        // Without a server, and without the settings.
        let output = bench.run(&["fetch", "/b?passphrase=hunter-in-url3"]).await;
        assert!(output.status.success(), "{output:?}");
        let output = bench.run(&["evict", target]).await;
        assert!(output.status.success(), "{output:?}");
        for file in files(&bench.folder()) {
            let content = std::fs::read(&file).unwrap();
            assert_clean(&file.display().to_string(), &content);
        }
    }
}
