//! Runs the binary, breaks it off at a system call, and looks at what it left.

#![expect(dead_code, reason = "each test binary uses its part")]

pub(crate) mod index;
pub(crate) mod strace;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use chunk_testkit::origin::{Link, OriginObject, OriginWorld, ScriptedOrigin, verify_content};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::strace::Tracing;

/// How long anything may take before it counts as hanging. Nothing here needs a tenth of it; it is only
/// there so that a hang is a failure and not a test that never ends.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// What the origin's sockets hold.
const SEND_BUFFER: u64 = 64 * 1024;

/// How often to look again at what has no event of its own.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// An origin that outlives every process of a test, and the runtime that drives it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) origin: ScriptedOrigin,
}

impl World {
    pub(crate) fn new(objects: &[(&str, u64)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let line = Link::new().send_buffer(u32::try_from(SEND_BUFFER).unwrap());
        let started = ScriptedOrigin::start_with(OriginWorld::new(), line);
        let origin = runtime.block_on(started).unwrap();
        for &(name, len) in objects {
            origin.put(OriginObject::new(name, len).header("Cache-Control", "max-age=3600"));
        }
        Self { runtime, origin }
    }

    pub(crate) fn sent(&self, object: &str) -> u64 {
        self.origin.journal().bytes_of(object)
    }

    /// What requests after the first `asked` brought, but for what was on its way when one was cut short
    /// because another connection brings the rest.
    pub(crate) fn sent_since(&self, object: &str, asked: usize) -> u64 {
        let later = self.origin.journal().records_of(object).split_off(asked);
        let sent: u64 = later.iter().map(|request| request.body_sent).sum();
        let cut = later.iter().filter(|request| request.ended_by_peer);
        sent.saturating_sub(cut.count() as u64 * SEND_BUFFER)
    }
}

/// A cache folder of its own.
#[derive(Debug)]
pub(crate) struct Cache {
    home: TempDir,
}

impl Cache {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home }
    }

    /// A copy of another one that no process uses.
    pub(crate) fn copy_of(other: &Self) -> Self {
        let copy = Self::new();
        copy_folder(&other.folder(), &copy.folder());
        copy
    }

    /// The folder above.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// Makes the beginning of a cache where there is none yet: commands that only ask make none.
    pub(crate) fn begin(&self) {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.folder())
            .unwrap();
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder().join("lock"))
            .unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let command = Command::new(env!("CARGO_BIN_EXE_chunkd"));
        self.prepared(command, arguments)
    }

    /// Gives `command` the arguments, and this cache's environment instead of the caller's.
    pub(crate) fn prepared(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("CHUNKD_CACHE_DIR", self.folder())
            .env("CHUNKD_MIN_FREE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, which must come.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Running::start(self.command(arguments)).end()
    }

    /// Runs a command under `tracing` to its end, which must come.
    pub(crate) fn run_traced(&self, tracing: &Tracing, arguments: &[&str]) -> Ended {
        Running::start(self.prepared(tracing.command(), arguments)).end()
    }

    /// Runs a command that must succeed; the last line of its output.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(arguments);
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
        serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap()
    }

    pub(crate) fn serve(&self, origin: &str) -> Server {
        Server::of(self.command(&["serve", "--listen", "127.0.0.1:0", "--origin", origin]))
    }

    pub(crate) fn serve_with(&self, origin: &str, more: &[&str]) -> Server {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--origin", origin];
        arguments.extend(more);
        Server::of(self.command(&arguments))
    }

    pub(crate) fn serve_traced(&self, tracing: &Tracing, origin: &str) -> Server {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--origin", origin];
        Server::of(self.prepared(tracing.command(), &arguments))
    }

    /// A server under `tracing`, unless it ends before it serves.
    pub(crate) fn try_serve_traced(&self, tracing: &Tracing, arguments: &[&str]) -> Option<Server> {
        Server::try_of(self.prepared(tracing.command(), arguments)).ok()
    }

    /// Asks whoever holds the folder for its status.
    pub(crate) fn status(&self) -> Option<Value> {
        let mut socket = UnixStream::connect(self.folder().join("chunkd.sock")).ok()?;
        let request = "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).ok()?;
        let mut said = Vec::new();
        socket.read_to_end(&mut said).ok()?;
        let body = said.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        serde_json::from_slice(&said[body..]).ok()
    }

    /// Looks at an entry until `reached` holds.
    pub(crate) fn entry_until(&self, path: &str, reached: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let found = until(|| {
            let status = self.status()?;
            let entries = status["entries"].as_array()?;
            last = entries.iter().find(|entry| entry["path"] == path).cloned();
            last.clone().filter(&reached)
        });
        found.unwrap_or_else(|| panic!("{path} never came to that: {last:?}"))
    }

    /// The segment files, by their path below `data`.
    pub(crate) fn segment_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files(&self.folder().join("data"), &mut found);
        found.sort();
        found
    }

    /// The numbers of the generations that have a folder.
    pub(crate) fn generation_folders(&self) -> Vec<u64> {
        let mut found = Vec::new();
        for shard in listing(&self.folder().join("data")) {
            for generation in listing(&shard) {
                found.push(
                    generation
                        .file_name()
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .parse()
                        .unwrap(),
                );
            }
        }
        found.sort_unstable();
        found
    }
}

/// Asks `look` until it has an answer or the bound is over.
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() > BOUND {
            return None;
        }
        // why: another process tells nobody when it is done, and each caller is bounded by the answer, not the pause.
        std::thread::sleep(LOOK_EVERY);
    }
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    let Ok(items) = fs::read_dir(folder) else {
        return Vec::new();
    };
    items.map(|item| item.unwrap().path()).collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in listing(folder) {
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for path in listing(from) {
        let target = to.join(path.file_name().unwrap());
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            copy_folder(&path, &target);
        } else if kind.is_file() {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Whether it was killed rather than having come to its own end.
    pub(crate) fn was_killed(&self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        self.status.signal() == Some(9) || self.status.code() == Some(137)
    }
}

/// A process whose output is being collected. It does not outlive this.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: Option<std::thread::JoinHandle<String>>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.end()
    }

    /// Waits for the end, which must come within the bound.
    pub(crate) fn end(mut self) -> Ended {
        let ended = until(|| self.child.try_wait().unwrap());
        if ended.is_none() {
            end_at_once(&mut self.child);
        }
        let status = ended.unwrap_or_else(|| self.child.wait().unwrap());
        let said = |reader: Option<std::thread::JoinHandle<String>>| {
            reader.map_or_else(String::new, |reader| reader.join().unwrap())
        };
        let all = Ended {
            status,
            stdout: said(self.stdout.take()),
            stderr: said(self.stderr.take()),
        };
        assert!(ended.is_some(), "it hung: {all:?}");
        all
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end_at_once(&mut self.child);
    }
}

/// Ends a process and, where it is a tracer, the one it traces.
fn end_at_once(child: &mut Child) {
    if child.try_wait().ok().flatten().is_some() {
        return;
    }
    for traced in children_of(child.id()) {
        if let Some(pid) = rustix::process::Pid::from_raw(traced) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn children_of(pid: u32) -> Vec<i32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = from.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// A running `serve`, by itself or under a tracer.
#[derive(Debug)]
pub(crate) struct Server {
    running: Running,
    is_traced: bool,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Returns once it has said that it serves.
    pub(crate) fn of(command: Command) -> Self {
        Self::try_of(command).unwrap_or_else(|ended| panic!("serve ended at once: {ended:?}"))
    }

    /// The same, unless it ends before it serves.
    pub(crate) fn try_of(mut command: Command) -> Result<Self, Ended> {
        let is_traced = command.get_program() == "strace";
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().map(collect);
        let mut line = Vec::new();
        let mut byte = [0];
        while stdout.read(&mut byte).unwrap() == 1 && byte != [b'\n'] {
            line.push(byte[0]);
        }
        let running = Running {
            child,
            stdout: Some(collect(stdout)),
            stderr,
        };
        let line = String::from_utf8(line).unwrap();
        let Some(url) = line.strip_prefix("chunkd: http://") else {
            return Err(running.end());
        };
        let address = url.split('/').next().unwrap().parse().unwrap();
        Ok(Self {
            running,
            is_traced,
            address,
        })
    }

    pub(crate) fn kill(mut self) -> Ended {
        end_at_once(&mut self.running.child);
        self.running.end()
    }

    /// Ends it in order.
    pub(crate) fn stop(self) -> Ended {
        self.terminate();
        let ended = self.running.end();
        assert!(ended.status.success(), "{ended:?}");
        ended
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.running.child.try_wait().unwrap().is_none()
    }

    /// Ends it in order where it has not been ended, or is not being ended, from elsewhere.
    pub(crate) fn stop_if_running(self) -> Ended {
        self.terminate();
        self.running.end()
    }

    /// Asks it to end; under a tracer, the program and not the tracer.
    fn terminate(&self) {
        let own = self.running.child.id();
        let traced = children_of(own).first().copied();
        let pid = traced.or_else(|| i32::try_from(own).ok().filter(|_| !self.is_traced));
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// What came of a GET of `range`, or of all: the body, as far as it came.
    pub(crate) fn body(&self, target: &str, range: Option<(u64, u64)>) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(BOUND))?;
        let field = range.map_or_else(String::new, |(start, end)| {
            format!("Range: bytes={start}-{}\r\n", end - 1)
        });
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{field}\r\n");
        stream.write_all(request.as_bytes())?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said)?;
        let Some(head) = said.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        };
        let body = said.split_off(head + 4);
        let head = String::from_utf8_lossy(&said);
        let expected = if range.is_some() {
            "HTTP/1.1 206"
        } else {
            "HTTP/1.1 200"
        };
        if !head.starts_with(expected) {
            return Err(std::io::Error::other(head.into_owned()));
        }
        Ok(body)
    }

    /// Reads a whole object, which must come whole and right.
    pub(crate) fn whole(&self, object: &str, len: u64) {
        self.part(object, 0, len, None);
    }

    /// Reads a range, which must come whole and right.
    pub(crate) fn range(&self, object: &str, start: u64, end: u64) {
        self.part(object, start, end, Some((start, end)));
    }

    fn part(&self, object: &str, start: u64, end: u64, range: Option<(u64, u64)>) {
        let body = self.body(&format!("/{object}"), range).unwrap();
        assert_eq!(body.len() as u64, end - start, "{object} {range:?}");
        assert_eq!(verify_content(object, 1, start, &body), Ok(()), "{range:?}");
    }
}
