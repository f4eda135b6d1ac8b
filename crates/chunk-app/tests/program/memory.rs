//! The program within a memory that the machine, and not only its own budget, holds it to.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use chunk_testkit::origin::{OriginObject, verify_content};
use tokio::process::Command;

use crate::http;
use crate::program::{Bench, Server};

const MIB: u64 = 1024 * 1024;

/// More than [`LIMIT`], so that it cannot be in memory.
const LEN: u64 = 192 * MIB;

/// What the machine allows the process. Its budget for data on its way is the default, 64 MiB; the rest is code,
/// buffers of connections, and what a debug build's threads may push onto their stacks.
const LIMIT: u64 = 128 * MIB;

const CLIENTS: u64 = 64;

/// How the limit is held.
#[derive(Debug)]
enum Cap {
    /// A group of its own (cgroup v2), in which everything counts, the page cache included.
    Group(PathBuf),
    /// A limit on the data that may be mapped, which a stack that is reserved counts towards.
    Data,
}

impl Cap {
    /// The best that may be had here: making a group takes rights, and a parent that hands memory on.
    fn of_this_machine() -> Self {
        Self::group().map_or(Self::Data, Self::Group)
    }

    fn group() -> Option<PathBuf> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let name = format!("chunkd-test-{}", std::process::id());
        let group = Path::new("/sys/fs/cgroup").join(own).join(name);
        std::fs::create_dir(&group).ok()?;
        let held = std::fs::write(group.join("memory.max"), LIMIT.to_string());
        if held.is_err() {
            let _ = std::fs::remove_dir(&group);
            return None;
        }
        // Where there is swap, it would take the edge off.
        let _ = std::fs::write(group.join("memory.swap.max"), "0");
        Some(group)
    }

    /// `command` under the limit: a shell takes it on and becomes the program.
    fn hold(&self, command: &Command) -> Command {
        let inner = command.as_std();
        let mut held = Command::new("/bin/sh");
        match self {
            Self::Group(group) => {
                held.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
                held.arg(group.join("cgroup.procs"));
            }
            Self::Data => {
                held.args(["-c", "ulimit -d \"$0\" && exec \"$@\""]);
                held.arg((LIMIT / 1024).to_string());
            }
        }
        held.arg(inner.get_program()).args(inner.get_args());
        held.env_clear();
        let set = |(name, value): (_, Option<&OsStr>)| Some((name, value?.to_owned()));
        held.envs(inner.get_envs().filter_map(set));
        held.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        held
    }
}

impl Cap {
    /// Sees to it that a process is held by the limit, or nothing would be shown.
    fn assert_holds(&self, process: u32) {
        match self {
            Self::Group(group) => {
                let held = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
                assert!(held.lines().any(|held| held == process.to_string()));
            }
            Self::Data => {
                let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
                let data = limits
                    .lines()
                    .find(|line| line.starts_with("Max data size"));
                let data = data.unwrap().split_whitespace().nth(3).unwrap();
                assert_eq!(data, LIMIT.to_string());
            }
        }
    }
}

impl Drop for Cap {
    fn drop(&mut self) {
        if let Self::Group(group) = self {
            let _ = std::fs::remove_dir(group);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault38_64_slow_clients_of_a_big_cold_file_fit_in_128_mib() {
    slow_clients(OriginObject::new("film.mkv", LEN)).await;
}

/// What may not be stored has nowhere to go but to its readers.
#[tokio::test(flavor = "multi_thread")]
async fn fault38_64_slow_clients_of_what_may_not_be_stored_fit_in_128_mib() {
    slow_clients(OriginObject::new("film.mkv", LEN).header("Cache-Control", "no-store")).await;
}

async fn slow_clients(film: OriginObject) {
    let bench = Bench::new().await;
    bench.origin.put(film);
    let cap = Cap::of_this_machine();
    let url = bench.origin.url();
    let serve = bench.command(&["serve", "--listen", "127.0.0.1:0", "--origin", &url]);
    let server = Server::of(cap.hold(&serve)).await;
    cap.assert_holds(server.child.id().unwrap());
    // Each at a place of its own, so that nobody lives on what another one has read.
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let at = client * (LEN / CLIENTS);
        let range = format!("Range: bytes={at}-\r\n");
        let begun = http::begin(server.address, "/film.mkv", &range).await;
        clients.push((at, begun.unwrap()));
    }
    // Slow: while one reads a little, all the others read nothing.
    for step in 1..=16 {
        for (at, client) in &mut clients {
            client.at_least(step * 64 * 1024).await;
            let right = verify_content("film.mkv", 1, *at, client.body());
            assert_eq!(right, Ok(()), "from {at}, {cap:?}");
        }
    }
    drop(clients);
    // It has not only lived: it goes on serving.
    let end = server.get("/film.mkv", "Range: bytes=-1000\r\n").await;
    let right = verify_content("film.mkv", 1, LEN - 1000, &end.body);
    assert_eq!(right, Ok(()));
    let said = server.stop().await;
    assert!(!said.contains("panicked"), "{said}");
}
