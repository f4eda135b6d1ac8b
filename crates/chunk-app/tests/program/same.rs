//! Every command, on two copies of one cache: one of them served, the other not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chunk_testkit::origin::OriginObject;
use serde_json::Value;

use crate::http;
use crate::program::{Bench, Server, files, text};

const LEN: u64 = 300_001;

/// A cache folder of its own, filled from the bench's origin.
struct Copy<'a> {
    bench: &'a Bench,
    folder: String,
}

/// What a command answered, without what tells of the process that did, or of this moment.
#[derive(Debug, PartialEq)]
struct Said {
    code: Option<i32>,
    answer: Vec<Value>,
    text: String,
    /// Errors; what is logged besides is whoever's who does the work.
    errors: Vec<String>,
}

impl<'a> Copy<'a> {
    fn of(bench: &'a Bench, name: &str) -> Self {
        let folder = bench.home.path().join(name);
        copy(&bench.folder(), &folder);
        Self {
            bench,
            folder: folder.to_str().unwrap().to_owned(),
        }
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        let mut command = self.bench.command(arguments);
        command.env("CHUNKD_CACHE_DIR", &self.folder);
        let output = command.output().await.unwrap();
        let (mut answer, mut plain) = (Vec::new(), String::new());
        for line in text(&output.stdout).lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(line) if line["event"] == "progress" => {}
                Ok(mut line) => {
                    forget_the_moment(&mut line);
                    answer.push(line);
                }
                Err(_) => {
                    plain.push_str(line);
                    plain.push('\n');
                }
            }
        }
        // Files that are fetched at once end in any order.
        answer.sort_by_key(Value::to_string);
        let errors = text(&output.stderr);
        let errors = errors.lines().filter(|line| line.starts_with("chunkd: "));
        Said {
            code: output.status.code(),
            answer,
            text: plain,
            errors: errors.map(str::to_owned).collect(),
        }
    }

    async fn serve(&self, url: &str) -> Server {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--origin", url];
        let mut command = self.bench.command(&arguments);
        command.env("CHUNKD_CACHE_DIR", &self.folder);
        Server::of(command).await
    }

    /// Flips a bit of every file.
    fn damage(&self) {
        for file in files(&Path::new(&self.folder).join("data")) {
            let mut bytes = fs::read(&file).unwrap();
            bytes[70_000] ^= 1;
            fs::write(&file, bytes).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let to = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &to);
        } else {
            fs::copy(item.path(), to).unwrap();
        }
    }
}

/// Removes what names the answering process or the moment: when something was read, what a process remembers, and
/// how many requests and bytes it happened to take to fetch a file.
fn forget_the_moment(value: &mut Value) {
    const MOMENTARY: &[&str] = &[
        "accessed_unix",
        "history",
        "remembered_from_ms",
        "moments",
        "origin_requests",
        "bytes_wasted",
        "bytes_from_origin",
    ];
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !MOMENTARY.contains(&name.as_str()));
            fields.values_mut().for_each(forget_the_moment);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_the_moment),
        _ => {}
    }
}

/// The sums of `text` that are counted in requests, which two runs may differ in.
fn without_sums(mut said: Said) -> Said {
    let lines = said.text.lines();
    let lines =
        lines.filter(|line| !line.starts_with("served ") && !line.starts_with("nothing is known"));
    let lines = lines.filter(|line| !line.starts_with("nothing has happened"));
    said.text = lines.map(str::trim_end).collect::<Vec<_>>().join("\n");
    said
}

/// A film in whole, a part of another, and an order that is not carried out.
async fn filled() -> Bench {
    let bench = Bench::with("a", LEN).await;
    for object in ["b", "c", "d", "e/f"] {
        bench.put(object, LEN);
    }
    let server = bench.serve().await;
    for _ in 0..3 {
        assert_eq!(server.get("/a", "").await.body.len() as u64, LEN);
    }
    server.get("/b", "Range: bytes=0-99999\r\n").await;
    let recorded = |entry: &Value| entry["recorded_bytes"] == LEN;
    bench.entry_until("/a", recorded).await;
    server.stop().await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_answers_the_same_with_and_without_serve() {
    let bench = filled().await;
    let url = bench.origin.url();
    let url_of_c = format!("{url}/c");
    let (served, alone) = (Copy::of(&bench, "served"), Copy::of(&bench, "alone"));
    let server = served.serve(&url).await;
    let before: &[&[&str]] = &[
        &["status"],
        &["status", "--json"],
        &["why", "/a", "0"],
        &["why", "/a", "0", "--json"],
        &["why", "/b", "290000", "--json"],
        &["why", "/a", "1GiB", "--json"],
        &["why", "/none", "0"],
        &["verify"],
        &["verify", "--json"],
        &["verify", "--repair", "--json"],
        &["pin", "/a"],
        &["pin", "/a", "--json"],
        &["pin", "/none"],
        &["pin", "none"],
        &["pin", "http://elsewhere.example/a"],
        &["status", "--json"],
        &["unpin", "/a"],
        &["unpin", "/a", "--json"],
        &["unpin", "/none", "--json"],
        &["evict", "/none"],
        &["evict", "none", "--json"],
        &["fetch", "/a"],
        &["fetch", "--json", "/a"],
        &["fetch", "--json", "/b", &url_of_c],
        &["fetch", "/d", "/e/f"],
        &["fetch", "missing"],
        &["fetch", "http://elsewhere.example/a"],
        &["fetch", "--origin", &url, "--json", "/a"],
        &["status"],
        &["status", "--json"],
    ];
    for arguments in before {
        let said = (served.run(arguments).await, alone.run(arguments).await);
        assert_eq!(
            without_sums(said.0),
            without_sums(said.1),
            "{arguments:?}, with and without"
        );
    }
    served.damage();
    alone.damage();
    let after: &[&[&str]] = &[
        &["verify"],
        &["verify", "--json"],
        &["verify", "--repair"],
        &["verify", "--json"],
        &["status", "--json"],
        &["fetch", "--json", "/a", "/b", "/c", "/d", "/e/f"],
        &["verify"],
        &["status", "--json"],
        &["evict", "/a"],
        &["evict", "/c", "--json"],
        &["pin", "/d"],
        &["evict", "--all", "--json"],
        &["evict", "/d"],
        &["evict", "--all"],
        &["status"],
        &["status", "--json"],
        // A server lists for a while what it could not get.
        &["fetch", "/missing"],
        &["fetch", "--json", "/missing", "/d"],
    ];
    for arguments in after {
        let said = (served.run(arguments).await, alone.run(arguments).await);
        assert_eq!(
            without_sums(said.0),
            without_sums(said.1),
            "{arguments:?} after the damage, with and without"
        );
    }
    server.stop().await;
}

/// To the last digit, since it is one cache: sums go on in whichever process.
#[tokio::test(flavor = "multi_thread")]
async fn status_says_the_same_before_and_after_the_server_ends_and_in_the_next_one() {
    let bench = filled().await;
    let other = Bench::new().await;
    let one = format!("one={}", bench.origin.url());
    let two = format!("two={}", other.origin.url());
    let both = ["--origin", &one, "--origin", &two];
    let first = bench.json(&["status", "--json"]).await;
    assert!(
        first[0]["activity"]["hit_ratio"].as_f64().unwrap() > 0.0,
        "{first:?}"
    );
    assert_eq!(first[0]["activity"]["bytes_served"], 3 * LEN + 100_000);
    let server = bench.serve_with(&both).await;
    assert_eq!(server.get("/one/a", "").await.body.len() as u64, LEN);
    bench
        .entry_until("/one/a", |entry| entry["state"] == "complete")
        .await;
    settled(&bench).await;
    let during = bench.json(&["status", "--json"]).await;
    let table = text(&bench.run(&["status"]).await.stdout);
    assert_eq!(during[0]["activity"]["bytes_served"], 4 * LEN + 100_000);
    assert_eq!(during[0]["origins"].as_array().unwrap().len(), 2);
    server.stop().await;
    assert_eq!(bench.json(&["status", "--json"]).await, during);
    assert_eq!(text(&bench.run(&["status"]).await.stdout), table);
    let server = bench.serve_with(&both).await;
    assert_eq!(bench.json(&["status", "--json"]).await, during);
    // What a process exports to be watched is its own.
    let metrics = http::order(&bench.folder(), "GET", "/metrics", "")
        .await
        .text();
    assert!(
        metrics.contains("\nchunkd_bytes_served_total 0\n"),
        "{metrics}"
    );
    server.stop().await;
    // With one of them no longer served, both ways.
    let server = bench.serve_with(&["--origin", &one]).await;
    let during = bench.json(&["status", "--json"]).await;
    assert_eq!(during[0]["origins"].as_array().unwrap().len(), 1);
    let refused = bench.run(&["fetch", "/two/a"]).await;
    server.stop().await;
    assert_eq!(bench.json(&["status", "--json"]).await, during);
    let alone = bench.run(&["fetch", "/two/a"]).await;
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
    assert_eq!(alone.status.code(), refused.status.code());
    assert_eq!(alone.stderr, refused.stderr);
}

/// Waits until nothing is read and all that was noted of a reading is in the index.
async fn settled(bench: &Bench) {
    let mut last = BTreeMap::new();
    let mut same = 0;
    while same < 200 {
        let status = http::order(&bench.folder(), "GET", "/v1/status", "").await;
        let status = status.json();
        let now = BTreeMap::from([("status", status.clone())]);
        let is_idle = status["activity"]["readers"] == 0 && status["queue"]["transfers"] == 0;
        same = if is_idle && now == last { same + 1 } else { 0 };
        last = now;
        crate::program::look_later().await;
    }
}

/// Everything that can be said of an origin, said to `serve` alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_without_serve_asks_as_serve_did_or_says_what_it_lacks() {
    let bench = Bench::new().await;
    for name in ["p", "q", "r", "s", "t"] {
        // Kept only by a cache that may keep what is meant for one person.
        let object = OriginObject::new(name, LEN);
        bench
            .origin
            .put(object.header("Cache-Control", "private, max-age=3600"));
    }
    let home = bench.home.path();
    let (config, key) = (home.join("serve.toml"), home.join("key"));
    let settings = |plain: &str| {
        format!(
            "[origin]\nurl = \"http://user:hunter2@{}/\"\nprivate_cache = true\n\
             headers = {{ X-Env = {{ env = \"TOKEN\" }}, X-File = {{ file = \"key\" }}, X-Plain = \"{plain}\" }}\n",
            bench.origin.address()
        )
    };
    fs::write(&config, settings("as written")).unwrap();
    fs::write(&key, "from a file\n").unwrap();
    let mut serve = bench.command(&["serve", "--listen", "127.0.0.1:0", "--max-size", "12MiB"]);
    serve
        .args(["--config", config.to_str().unwrap()])
        .env("TOKEN", "from the environment");
    let server = Server::of(serve).await;
    // Whoever only orders needs nothing of it.
    bench.json(&["fetch", "--json", "/p"]).await;
    server.stop().await;
    assert_eq!(sent(&bench, "p"), expected("as written"));

    // Nor does who only looks.
    bench.json(&["status", "--json"]).await;
    bench.json(&["pin", "--json", "/p"]).await;
    let output = bench.run(&["fetch", "/q"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(
        text(&output.stderr),
        "chunkd: the origin at /, as it was last used: the header X-Env is to come from the environment variable \
         TOKEN, which is not set; set it; or say with --config FILE how to ask it\n"
    );
    let with_token = async |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        command.env("TOKEN", "from the environment");
        command.output().await.unwrap()
    };
    let output = with_token(&["fetch", "--json", "/q"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(sent(&bench, "q"), expected("as written"));
    // Named again without more, it is the same origin.
    let url = bench.origin.url();
    let output = with_token(&["fetch", "--origin", &url, "--json", "/r"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(sent(&bench, "r"), expected("as written"));
    // What the command itself is told counts more.
    let other = home.join("other.toml");
    fs::write(&other, settings("otherwise")).unwrap();
    let output = with_token(&["fetch", "--config", other.to_str().unwrap(), "/s"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(sent(&bench, "s"), expected("otherwise"));
    // Nothing of what is secret was written down, so it is read where it stands, and missed where it stood.
    for file in files(&bench.folder()) {
        let content = text(&fs::read(&file).unwrap());
        for secret in [
            "hunter2",
            "as written",
            "otherwise",
            "from a file",
            "from the env",
        ] {
            assert!(!content.contains(secret), "{secret} in {}", file.display());
        }
    }
    fs::remove_file(&other).unwrap();
    let output = with_token(&["fetch", "/t"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("other.toml"), "{output:?}");

    // The limits of the server hold as well.
    bench.put("big", 30_000_000);
    fs::write(&other, settings("otherwise")).unwrap();
    let output = with_token(&["fetch", "--json", "/big"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    assert!(
        said.contains("28.6 MiB do not fit in --max-size 12MiB"),
        "{said}"
    );
    let output = with_token(&["fetch", "--json", "--max-size", "none", "/big"]).await;
    assert!(output.status.success(), "{output:?}");
}

/// The secrets that came with the first request for `object`.
fn sent(bench: &Bench, object: &str) -> Vec<Option<String>> {
    let asked = &bench.origin.journal().records_of(object)[0];
    ["authorization", "x-env", "x-file", "x-plain"]
        .map(|name| asked.header(name).map(str::to_owned))
        .to_vec()
}

fn expected(plain: &str) -> Vec<Option<String>> {
    // `user:hunter2`, as RFC 7617 has it.
    let login = "Basic dXNlcjpodW50ZXIy";
    [login, "from the environment", "from a file", plain]
        .map(|text| Some(text.to_owned()))
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_looks_evicts_nothing_whatever_the_limits_it_would_serve_with() {
    let bench = Bench::with("a", LEN).await;
    let url = bench.origin.url();
    let server = bench
        .serve_with(&["--origin", &url, "--max-size", "none"])
        .await;
    bench.json(&["fetch", "--json", "/a"]).await;
    server.stop().await;
    let config = bench.home.path().join("small.toml");
    fs::write(&config, "max_size = \"64KiB\"\nmin_free = \"1000TiB\"\n").unwrap();
    let config = config.to_str().unwrap();
    for command in [
        &["status", "--json"][..],
        &["verify", "--json"],
        &["pin", "--json", "/a"],
        &["unpin", "--json", "/a"],
    ] {
        let mut arguments = command.to_vec();
        arguments.extend(["--config", config]);
        // Without what the tests set, so that it is the file that speaks.
        let output = bench
            .command(&arguments)
            .env_remove("CHUNKD_MIN_FREE")
            .output()
            .await;
        assert!(output.unwrap().status.success(), "{arguments:?}");
    }
    let status = bench.json(&["status", "--json"]).await;
    assert_eq!(status[0]["stored_bytes"], LEN);
    assert_eq!(status[0]["activity"]["evicted_bytes"], 0);
}
