//! Whether memory and descriptors stay what they are while players come, seek and go.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Bench;
use super::client::{Client, park, quantile};
use super::readers::{BUDGET, MEMORY};
use crate::bench::cold::joined;
use crate::bench::measure::{Figure, Row};
use crate::bench::origin::{Origin, Rate};
use crate::bench::process::Process;
use crate::child::empty_folder;
use crate::random::Random;

const PLAYERS: u64 = 8;
const FILMS: u64 = 24;
const FILM: u64 = 64 << 20;
const PIECE: u64 = 256 << 10;
/// Half of the films fit in, so that what was evicted is fetched again.
const CAP: &str = "768MiB";
/// Every so many reads a player leaves without reading what it asked for.
const LEAVES_EVERY: u64 = 16;
/// What memory may have grown by: about what the allocator's own rounding does.
const GROWTH: u64 = 2 << 20;
/// Files that are open at one time and not at another.
const MORE_OPEN: u64 = 8;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    empty_folder(&bench.chunkd.cache)?;
    let origin = Origin::start(FILM, Duration::ZERO, Rate::Shared(100_000_000))?;
    let serving = bench
        .chunkd
        .serve_with(origin.address, &["--max-size", CAP])?;
    let process = Process {
        id: serving.guard.id(),
    };
    // What is allocated once is there after a while.
    play_for(serving.address, process, bench.soak / 4, 1)?;
    let open_before = at_rest(bench, process)?;
    let mut memory = play_for(serving.address, process, bench.soak, 2)?;
    let open_after = at_rest(bench, process)?;
    let most = memory.iter().max().copied().unwrap_or_default();
    let last = memory.split_off(memory.len() * 3 / 4);
    let first = memory.get(..memory.len() / 3).unwrap_or_default().to_vec();
    let growth = middle(last).saturating_sub(middle(first));
    println!(
        "soak of {:?}: descriptors at rest {open_before} before, {open_after} after",
        bench.soak
    );
    Ok(vec![Row {
        case: "8 players that come, seek and go, in a cache that holds half of what they watch",
        figures: vec![
            Figure::count("anonymous bytes, at most", most, MEMORY + BUDGET),
            Figure::count(
                "anonymous bytes more in the last quarter than in the first",
                growth,
                GROWTH,
            ),
            Figure::count(
                "more descriptors at rest",
                open_after.saturating_sub(open_before),
                MORE_OPEN,
            ),
        ],
    }])
}

/// Lets players play; returns what memory was, second by second.
fn play_for(server: SocketAddr, process: Process, time: Duration, seed: u64) -> Result<Vec<u64>> {
    let until = Instant::now() + time;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let players: Vec<_> = (0..PLAYERS)
            .map(|number| {
                let is_over = &is_over;
                scope.spawn(move || play(server, seed * 1_000 + number, is_over))
            })
            .collect();
        let mut memory = Vec::new();
        while Instant::now() < until {
            memory.push(process.anonymous()?);
            // why: memory is looked at four times a second
            thread::sleep(Duration::from_millis(250));
        }
        is_over.store(true, Ordering::Relaxed);
        for player in players {
            joined(player.join())??;
        }
        Ok(memory)
    })
}

fn play(server: SocketAddr, seed: u64, is_over: &AtomicBool) -> Result<()> {
    let mut random = Random::new(seed);
    while !is_over.load(Ordering::Relaxed) {
        let path = format!("/film-{}.mp4", random.below(FILMS));
        let start = random.below(FILM / PIECE / 2) * PIECE;
        if random.below(LEAVES_EVERY) == 0 {
            drop(park(server, &path, start)?);
            continue;
        }
        let mut client = Client::connect(server)?;
        for piece in 0..1 + random.below(16) {
            client.read(&path, start + piece * PIECE, PIECE)?;
        }
    }
    Ok(())
}

/// How many descriptors are open once everybody has gone.
fn at_rest(bench: &Bench, process: Process) -> Result<u64> {
    // why: connections that are over are noticed, and those to the origin are kept for a moment
    thread::sleep(bench.size.settled);
    process.descriptors()
}

fn middle(memory: Vec<u64>) -> u64 {
    let mut times: Vec<Duration> = memory.into_iter().map(Duration::from_nanos).collect();
    u64::try_from(quantile(&mut times, 500).as_nanos()).unwrap_or(u64::MAX)
}
