//! The program where the system allows it few files and connections at once.

use std::ffi::OsStr;
use std::process::Stdio;

use chunk_testkit::origin::verify_content;
use tokio::process::Command;

use crate::http;
use crate::program::{Bench, Server};

const MIB: u64 = 1024 * 1024;
const LEN: u64 = 120 * MIB;

/// What the system allows: not much more than the program needs by itself.
const ALLOWED: usize = 80;
/// More than may be served at once.
const CLIENTS: u64 = 60;

/// `command` as a shell starts it that has given away the right to more descriptors.
fn limited(command: &Command) -> Command {
    let inner = command.as_std();
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -n \"$0\" && exec \"$@\""]);
    limited.arg(ALLOWED.to_string());
    limited.arg(inner.get_program()).args(inner.get_args());
    limited.env_clear();
    let set = |(name, value): (_, Option<&OsStr>)| Some((name, value?.to_owned()));
    limited.envs(inner.get_envs().filter_map(set));
    limited
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    limited
}

async fn serve(bench: &Bench) -> Server {
    bench.put("film.mkv", LEN);
    let url = bench.origin.url();
    let serve = bench.command(&["serve", "--listen", "127.0.0.1:0", "--origin", &url]);
    Server::of(limited(&serve)).await
}

/// The descriptors that the program has, where the system lists them.
fn open(server: &Server) -> Option<usize> {
    let folder = format!("/proc/{}/fd", server.child.id()?);
    Some(std::fs::read_dir(folder).ok()?.count())
}

async fn ends_without_a_word_of_it(server: Server) {
    let said = server.stop().await;
    assert!(!said.contains("Too many open files"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// Nobody of those who are served ever leaves, so that whoever is told nothing would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn fault19_with_few_descriptors_each_client_is_served_or_told_to_come_later() {
    let bench = Bench::new().await;
    let server = serve(&bench).await;
    let (mut served, mut refused) = (Vec::new(), 0);
    for client in 0..CLIENTS {
        // Each at a place of its own, so that each wants the origin, and open-ended, so that none is done.
        let at = client * (LEN / CLIENTS);
        let range = format!("Range: bytes={at}-\r\n");
        let begun = http::begin(server.address, "/film.mkv", &range).await;
        let begun = begun.unwrap();
        if begun.status() == 503 {
            let answer = begun.finish().await.unwrap();
            assert_eq!(answer.header("retry-after"), Some("2"));
            refused += 1;
        } else {
            served.push((at, begun));
        }
    }
    assert!(served.len() >= 16 && refused > 0, "{} served", served.len());
    if let Some(open) = open(&server) {
        assert!(open <= ALLOWED, "{open} open");
    }
    for step in 1..=8 {
        for (at, client) in &mut served {
            client.at_least(step * 64 * 1024).await;
            let right = verify_content("film.mkv", 1, *at, client.body());
            assert_eq!(right, Ok(()), "from {at}");
        }
    }
    drop(served);
    // Once they have gone, there is room; the server learns of that in its own time.
    let mut answer = server.get("/film.mkv", "Range: bytes=-1000\r\n").await;
    for _ in 0..10_000 {
        if answer.status != 503 {
            break;
        }
        answer = server.get("/film.mkv", "Range: bytes=-1000\r\n").await;
    }
    let right = verify_content("film.mkv", 1, LEN - 1000, &answer.body);
    assert_eq!(right, Ok(()));
    ends_without_a_word_of_it(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault19_with_few_descriptors_idle_connections_make_room() {
    let bench = Bench::new().await;
    let server = serve(&bench).await;
    let mut idle = Vec::new();
    for client in 0..CLIENTS {
        let at = client * 1000;
        let range = format!("Range: bytes={at}-{}\r\n", at + 999);
        let mut begun = http::begin_and_stay(server.address, "/film.mkv", &range)
            .await
            .unwrap();
        assert_eq!(begun.status(), 206, "client {client}");
        begun.at_least(1000).await;
        assert_eq!(verify_content("film.mkv", 1, at, begun.body()), Ok(()));
        idle.push(begun);
    }
    ends_without_a_word_of_it(server).await;
}
