//! Every error is one line that says what was wrong and what would be right, and an exit code.

use std::process::Output;

use crate::program::{Bench, text};

/// The one line of a command that failed with `code`.
fn error(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    said.trim_end().to_owned()
}

#[tokio::test]
async fn usage_errors_are_told_and_exit_with_2() {
    let bench = Bench::new().await;
    for (arguments, message) in [
        (
            &["serve"][..],
            "chunkd: no origin is given; say for example `chunkd serve --origin https://media.example.org/library/`",
        ),
        (
            &["serve", "--origin", "http://a/", "--origin", "b=http://b/"],
            "chunkd: an origin without a name takes the whole of `/`, so that there can be no other; name each of \
             them: --origin NAME=URL",
        ),
        (
            &["serve", "--origin", "media.example.org"],
            "chunkd: the URL of --origin: it does not begin with http:// or https://; say for example \
             https://media.example.org/library/",
        ),
        (
            &["serve", "--origin", "my:films=http://a/"],
            "chunkd: `my:films` is no name for an origin: letters, digits, `_` and `-` make one; say myfilms",
        ),
        (
            &["serve", "--origin", "a=http://h/,b=http://h/"],
            "chunkd: the URL of --origin: it holds a `,` and goes on like another one; several are separated by blanks \
             (CHUNKD_ORIGIN='a=URL b=URL') or have an --origin NAME=URL each",
        ),
        (
            &["fetch", "/a"],
            "chunkd: `/a` lies under no origin of this cache; there is none yet: say --origin \
             https://media.example.org/library/",
        ),
        (
            &[
                "fetch",
                "--origin",
                "http://a/",
                "http://b/film.mkv?token=t",
            ],
            "chunkd: that URL lies under no origin of this cache; there is / (http://a/)",
        ),
        (
            &["fetch", "--origin", "http://a/", "film.mkv"],
            "chunkd: `film.mkv` is neither a URL nor a path: a path begins with `/`, as players ask for it",
        ),
        (
            &["status", "--log", "a=b=c"],
            "chunkd: log: `a=b=c` is no filter; say a level (error, warn, info, debug, trace) or levels by module, \
             as in `warn,chunk_manager=debug`",
        ),
    ] {
        let output = bench.run(arguments).await;
        assert_eq!(error(&output, 2), message);
    }
    for (arguments, message) in [
        (
            &["serve", "--chunk-size", "10"][..],
            "10 has no unit: say 10MiB",
        ),
        (
            &["serve", "--read-ahead", "5m"],
            "`m` is no unit of time: say 5min",
        ),
        (
            &["serve", "--listen", "8787"],
            "say for example 127.0.0.1:8787",
        ),
        (&["play"], "unrecognized subcommand"),
        (&["evict"], "chunkd evict <PATH> | --all"),
        (
            &["serve", "--max-downloads", "four"],
            "`four` is no whole number; say for example 4",
        ),
        (
            &["serve", "--chunk-size", "10elephants"],
            "`elephants` is no unit of size: say 10MiB",
        ),
    ] {
        let output = bench.run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(message), "{output:?}");
    }
}

#[tokio::test]
async fn an_unknown_key_in_the_settings_names_its_nearest_neighbour() {
    let bench = Bench::new().await;
    let file = bench.home.path().join("c.toml");
    std::fs::write(&file, "chunk_sise = \"1MiB\"\n").unwrap();
    let path = file.to_str().unwrap();
    let output = bench.run(&["status", "--config", path]).await;
    assert_eq!(
        error(&output, 2),
        format!("chunkd: {path}: unknown key `chunk_sise`; did you mean `chunk_size`?")
    );
    let output = bench.run(&["status", "--config", "missing.toml"]).await;
    assert!(error(&output, 2).starts_with("chunkd: cannot read the settings file missing.toml: "));
    for (settings, message) in [
        (
            "max_downloads = \"four\"",
            "max_downloads: `four` is no whole number; say for example 4",
        ),
        (
            "max_downloads = -4",
            "max_downloads: `-4` is no whole number; say for example 4",
        ),
        (
            "origin = \"http://h/\"",
            "@: `origin` is not a table; say [origin] and below it url = \"…\"",
        ),
        (
            "listen = 8787",
            "@: `listen` must be a text, in quotes; say listen = \"127.0.0.1:8787\"",
        ),
        (
            "[origin]\nimmutable = true",
            "[origin] has no url; say url = \"https://media.example.org/library/\"",
        ),
    ] {
        let other = bench.home.path().join("other.toml");
        std::fs::write(&other, settings).unwrap();
        let output = bench
            .run(&["serve", "--config", other.to_str().unwrap()])
            .await;
        let message = message.replace('@', other.to_str().unwrap());
        assert_eq!(error(&output, 2), format!("chunkd: {message}"));
    }
    // The usual place is read without being told.
    let usual = bench.home.path().join(".config/chunkd");
    std::fs::create_dir_all(&usual).unwrap();
    std::fs::rename(&file, usual.join("config.toml")).unwrap();
    assert!(error(&bench.run(&["status"]).await, 2).contains("did you mean"));
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_to_is_told_with_the_way_out() {
    let bench = Bench::new().await;
    let file = bench.home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("cache");
    let output = bench
        .run(&["status", "--cache-dir", below.to_str().unwrap()])
        .await;
    let said = error(&output, 1);
    assert!(
        said.starts_with(&format!(
            "chunkd: cannot write to the cache folder {}: ",
            below.display()
        )),
        "{said}"
    );
    assert!(
        said.ends_with("; choose another with --cache-dir DIR"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_one_that_is_free() {
    let bench = Bench::with("a", 10).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let url = bench.origin.url();
    let output = bench
        .run(&["serve", "--origin", &url, "--listen", &listen])
        .await;
    let said = error(&output, 1);
    let start = format!(
        "chunkd: port {port} on 127.0.0.1 is in use by another program; say --listen 127.0.0.1:"
    );
    let free: u16 = said.strip_prefix(&start).unwrap().parse().unwrap();
    assert_ne!(free, port);
    // The advice can be followed.
    let mut server = bench
        .serve_with(&["--origin", &url, "--listen", &format!("127.0.0.1:{free}")])
        .await;
    assert!(server.child.try_wait().unwrap().is_none());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault26_a_second_server_on_one_folder_is_refused_in_one_line() {
    let bench = Bench::with("a", 10).await;
    let server = bench.serve().await;
    let output = bench
        .run(&[
            "serve",
            "--origin",
            &bench.origin.url(),
            "--listen",
            "127.0.0.1:0",
        ])
        .await;
    let said = error(&output, 1);
    let pid = server.child.id().unwrap();
    assert!(
        said.starts_with(&format!(
            "chunkd: another chunkd (process {pid}) serves the cache folder "
        )),
        "{said}"
    );
    // The first one is none the worse for it.
    assert_eq!(server.get("/a", "").await.body.len(), 10);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_the_running_server_does_not_have_is_refused_and_its_own_is_not() {
    let bench = Bench::with("a", 10).await;
    let url = bench.origin.url();
    let films = format!("films={url}");
    let server = bench.serve_with(&["--origin", &films]).await;
    let requests = bench.origin.journal().requests();
    let other = format!("other={}", url.replace("http://", "http://user:hunter2@"));
    let elsewhere = "films=http://127.0.0.1:1/";
    for given in [other.as_str(), elsewhere, url.as_str()] {
        let output = bench
            .run(&["fetch", "--origin", given, "/films/a", "/a", "/other/a"])
            .await;
        let said = error(&output, 2);
        assert!(
            said.contains("is not among them; there is /films/"),
            "{said}"
        );
        let named = given.replace("user:hunter2@", "");
        assert!(said.contains(&format!("`--origin {named}")), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert_eq!(bench.origin.journal().requests(), requests);
    let output = bench.run(&["fetch", "--origin", &films, "/films/a"]).await;
    assert!(output.status.success(), "{output:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_cached_cannot_be_evicted_or_pinned() {
    let bench = Bench::with("a", 10).await;
    bench.serve().await.stop().await;
    for arguments in [&["evict", "/b"], &["pin", "/b"], &["unpin", "/b"]] {
        let output = bench.run(arguments).await;
        assert_eq!(
            error(&output, 1),
            "chunkd: nothing is cached for /b; `chunkd status` lists what is"
        );
    }
}
