//! Runs the binary in an environment of its own and collects all that it prints.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use chunk_testkit::origin::{Link, OriginObject, OriginWorld, RequestRecord, ScriptedOrigin};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::http;

/// How often to look again at what has no event of its own: enough for a minute, so that only what never
/// comes runs into it.
pub(crate) const LOOKS: usize = 12_000;

/// Bytes a second from a slow origin.
const SLOW: u64 = 2_000_000;

/// What the socket of a slow origin holds.
const SLOW_BUFFER: u64 = 64 * 1024;

/// A cache folder, and an origin to fill it from.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) home: TempDir,
    pub(crate) origin: ScriptedOrigin,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            origin: ScriptedOrigin::start().await.unwrap(),
        }
    }

    /// With an object of `len` bytes that takes seconds to come.
    pub(crate) async fn slow(object: &str, len: u64) -> Self {
        let line = Link::new()
            .total_rate(SLOW)
            .send_buffer(u32::try_from(SLOW_BUFFER).unwrap());
        let bench = Self {
            home: tempfile::tempdir().unwrap(),
            origin: ScriptedOrigin::start_with(OriginWorld::new(), line)
                .await
                .unwrap(),
        };
        bench.put(object, len);
        bench
    }

    /// With an object of `len` bytes that may be kept.
    pub(crate) async fn with(object: &str, len: u64) -> Self {
        let bench = Self::new().await;
        bench.put(object, len);
        bench
    }

    pub(crate) fn put(&self, object: &str, len: u64) {
        self.origin
            .put(OriginObject::new(object, len).header("Cache-Control", "max-age=3600"));
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// The binary with these arguments, without the caller's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunkd"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("CHUNKD_CACHE_DIR", self.folder())
            .env("CHUNKD_MIN_FREE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Runs a command that must succeed; its output's lines as JSON.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        text(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A server for the bench's origin.
    pub(crate) async fn serve(&self) -> Server {
        self.serve_with(&["--origin", &self.origin.url()]).await
    }

    /// A server; returns once it has said that it serves.
    pub(crate) async fn serve_with(&self, arguments: &[&str]) -> Server {
        let mut all = vec!["serve"];
        if !arguments.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(arguments);
        Server::of(self.command(&all)).await
    }

    /// One entry of `status`, as the holder of the folder tells it; `None` also where there is none yet.
    pub(crate) async fn entry(&self, path: &str) -> Option<Value> {
        let status = http::try_order(&self.folder(), "GET", "/v1/status", "").await;
        let status = status.ok()?.json();
        let entries = status["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["path"] == path).cloned()
    }

    /// Looks at an entry until `reached` holds.
    pub(crate) async fn entry_until(&self, path: &str, reached: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..LOOKS {
            if let Some(entry) = self.entry(path).await.filter(&reached) {
                return entry;
            }
            look_later().await;
        }
        panic!("{path} never came to that: {:?}", self.entry(path).await);
    }
}

/// The most that may have come twice in `later` requests for a file.
///
/// A request begins at the very byte that is not recorded, so that nothing comes twice but what is on its way
/// when a transfer is cut for another connection: what a [`Bench::slow`] origin's socket was told to hold.
/// Measured: at most 10,000 bytes for each, one piece of that origin's. Where nothing is cut, nothing comes twice.
pub(crate) fn twice_at_most(later: &[RequestRecord]) -> u64 {
    let cut = later.iter().filter(|request| request.ended_by_peer);
    cut.count() as u64 * SLOW_BUFFER
}

/// A running `serve`.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) first_line: String,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Server {
    pub(crate) async fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let Some(first_line) = stdout.next_line().await.unwrap() else {
            let mut said = String::new();
            while let Some(line) = stderr.next_line().await.unwrap() {
                said.push_str(&line);
            }
            panic!("serve ended at once: {said}");
        };
        let url = first_line.strip_prefix("chunkd: http").unwrap();
        let (_, url) = url.split_once("://").unwrap();
        let address = url.split('/').next().unwrap().parse().unwrap();
        Self {
            child,
            address,
            first_line,
            stdout,
            stderr,
        }
    }

    pub(crate) async fn get(&self, target: &str, fields: &str) -> http::Answer {
        http::get(self.address, target, fields).await
    }

    /// The next line on standard output.
    pub(crate) async fn line(&mut self) -> String {
        self.stdout.next_line().await.unwrap().unwrap()
    }

    /// Waits for a line of the log that holds `part`.
    pub(crate) async fn logged(&mut self, part: &str) -> String {
        while let Some(line) = self.stderr.next_line().await.unwrap() {
            if line.contains(part) {
                return line;
            }
        }
        panic!("the log ended without {part}");
    }

    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        signal_to(&self.child, signal);
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end; everything it still said, and how it ended.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        while let Some(line) = self.stderr.next_line().await.unwrap() {
            said.push_str(&line);
            said.push('\n');
        }
        while let Some(line) = self.stdout.next_line().await.unwrap() {
            said.push_str(&line);
            said.push('\n');
        }
        (self.child.wait().await.unwrap(), said)
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) -> String {
        self.terminate();
        let (status, said) = self.end().await;
        assert!(status.success(), "{said}");
        said
    }
}

pub(crate) fn signal_to(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Leaves the other process time to get there.
pub(crate) async fn look_later() {
    // why: what another process records, and a socket that is not there yet, have no event to wait for.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
}

/// Every file below `folder`.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let item = item.unwrap();
        if item.file_type().unwrap().is_dir() {
            found.extend(files(&item.path()));
        } else {
            found.push(item.path());
        }
    }
    found
}
