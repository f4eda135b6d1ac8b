//! System calls that end the process, or fail, by `strace`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The calls that change what a file system holds.
pub(crate) const CHANGING: &[&str] = &[
    "bind",
    "chmod",
    "fallocate",
    "fdatasync",
    "fsync",
    "ftruncate",
    "mkdir",
    "mkdirat",
    "openat",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "unlink",
    "unlinkat",
    "write",
];

/// A moment: right before the `nth` call (from 1) of this kind by whichever thread gets there first.
/// `strace` counts every kind of every thread for itself, and the thread that writes the index is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) call: String,
    pub(crate) nth: u64,
}

/// What becomes of the calls that match.
#[derive(Clone, Debug)]
pub(crate) enum Injection {
    /// They are only written down.
    None,
    /// The process is killed instead of the call.
    Kill(Point),
    /// The calls of these kinds fail with this error: all, or as `when` tells (`2..4`, `3`, `1+2`).
    Fail {
        calls: &'static str,
        error: &'static str,
        when: &'static str,
    },
}

/// One way to run a command under `strace`.
#[derive(Debug)]
pub(crate) struct Tracing {
    injection: Injection,
    paths: Vec<PathBuf>,
    log: tempfile::NamedTempFile,
}

impl Tracing {
    /// Whether `strace` is there and may trace and inject. Says so where not.
    pub(crate) fn is_possible() -> bool {
        let dies = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=openat"])
            .args(["-e", "inject=openat:signal=SIGKILL:when=1", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match dies {
            Ok(status) if !status.success() && status.code() != Some(1) => true,
            _ => {
                say_skipped("strace is missing, or may not trace here");
                false
            }
        }
    }

    /// With an eye on `paths` alone; on all where there are none.
    pub(crate) fn new(injection: Injection, paths: Vec<PathBuf>) -> Self {
        Self {
            injection,
            paths,
            log: tempfile::NamedTempFile::new().unwrap(),
        }
    }

    /// Every file that the program makes in a cache folder with one generation of few segments, so that
    /// its libraries, sockets and output do not count.
    pub(crate) fn paths_of(folder: &Path) -> Vec<PathBuf> {
        let mut paths = vec![folder.to_path_buf(), folder.join("data")];
        for name in [
            "index.db",
            "index.db-journal",
            "index.db-wal",
            "chunkd.sock",
            "origins.json",
            "origins.json.new",
            "lock",
        ] {
            paths.push(folder.join(name));
        }
        for generation in 1..=3 {
            let shard = folder.join(format!("data/{generation:02x}"));
            let home = shard.join(generation.to_string());
            for segment in 0..4 {
                paths.push(home.join(format!("{segment}-0.seg")));
            }
            paths.extend([shard, home]);
        }
        paths
    }

    /// The files and folders of segments alone.
    pub(crate) fn segments_of(folder: &Path) -> Vec<PathBuf> {
        let mut paths = Self::paths_of(folder);
        paths.retain(|path| path.starts_with(folder.join("data")) && *path != folder.join("data"));
        paths
    }

    /// The program under `strace`, without arguments of its own yet.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-o"]).arg(self.log.path());
        for path in &self.paths {
            command.arg("-P").arg(path);
        }
        match &self.injection {
            Injection::None => {
                command.args(["-e", &format!("trace={}", CHANGING.join(","))]);
            }
            Injection::Kill(Point { call, nth }) => {
                command.args(["-e", &format!("trace={call}")]);
                command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={nth}")]);
            }
            Injection::Fail { calls, error, when } => {
                command.args(["-e", &format!("trace={calls}")]);
                command.args(["-e", &format!("inject={calls}:error={error}:when={when}")]);
            }
        }
        command.arg(env!("CARGO_BIN_EXE_chunkd"));
        command
    }

    /// How many calls failed by injection.
    pub(crate) fn injected(&self) -> usize {
        self.lines()
            .filter(|line| line.contains("(INJECTED)"))
            .count()
    }

    /// The files on whose descriptors calls failed by injection.
    pub(crate) fn failed_on(&self) -> BTreeSet<PathBuf> {
        let failed = self.lines().filter(|line| line.contains("(INJECTED)"));
        failed.filter_map(|line| file_of(&line)).collect()
    }

    /// How many calls of this kind were made on a file's descriptors.
    pub(crate) fn calls_on(&self, call: &str, file: &Path) -> usize {
        let calls = self
            .lines()
            .filter(|line| line.contains(&format!(" {call}(")));
        calls
            .filter(|line| file_of(line).as_deref() == Some(file))
            .count()
    }

    /// Every moment that this run went through: for each kind of call, up to the most that one thread made.
    pub(crate) fn points(&self) -> Vec<Point> {
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        for line in self.lines() {
            let mut words = line.splitn(2, char::is_whitespace);
            let (Some(thread), Some(rest)) = (words.next(), words.next()) else {
                continue;
            };
            if let Some((call, _)) = rest.trim_start().split_once('(')
                && CHANGING.contains(&call)
            {
                *counts
                    .entry((call.to_owned(), thread.to_owned()))
                    .or_default() += 1;
            }
        }
        let mut most: BTreeMap<String, u64> = BTreeMap::new();
        for ((call, _), count) in counts {
            let entry = most.entry(call).or_default();
            *entry = count.max(*entry);
        }
        let points = most.into_iter().flat_map(|(call, count)| {
            (1..=count).map(move |nth| Point {
                call: call.clone(),
                nth,
            })
        });
        points.collect()
    }

    fn lines(&self) -> impl Iterator<Item = String> + use<> {
        let said = std::fs::read(self.log.path()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        said.lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// Says that the present test tries nothing, in the file that `CHUNKD_SKIPPED` names as well: what a test that
/// passes prints is not shown.
#[expect(
    clippy::print_stderr,
    reason = "who runs the tests has to know what was not tried"
)]
pub(crate) fn say_skipped(reason: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    if let Some(path) = std::env::var_os("CHUNKD_SKIPPED") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// The file in `call(12</that/file>, ...`.
fn file_of(line: &str) -> Option<PathBuf> {
    let (_, after) = line.split_once('<')?;
    let (file, _) = after.split_once('>')?;
    Some(PathBuf::from(file))
}
