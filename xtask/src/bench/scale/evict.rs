//! A full cache the size of a terabyte that is filled on, beside a player in what is there.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::nice;

use super::Bench;
use super::client::{Client, quantile};
use super::pages::Pages;
use super::readers::read_whole;
use super::start::large_cache;
use crate::bench::cold::joined;
use crate::bench::measure::{Figure, Row};
use crate::bench::origin::{Origin, Rate};
use crate::child::empty_folder;
use crate::random::Random;

const CHUNK: u64 = 10 << 20;
/// How many films are filled, and how many beside a player: one in a thousand of its reads is to be many.
const FILLED: u64 = 3;
const FILLED_BESIDE: u64 = 12;
/// How far those stand back from the processors who would be on other machines, the origin and whoever has films filled:
/// what they take of them would count as the server's pauses.
const BEHIND: i32 = 10;
/// What the player reads at a time.
const PIECE: u64 = 64 << 10;
const PAUSE: Duration = Duration::from_millis(5);
/// Short against a pause that counts.
const NAP: Duration = Duration::from_micros(300);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let size = bench.size;
    let (files, chunks, film) = (size.full_files, size.full_chunks_per_file, size.added);
    // What is there at the start, and the most that may be.
    let cap = files * chunks * CHUNK;
    empty_folder(&bench.chunkd.cache)?;
    large_cache(bench, files, chunks, "sparse")?;
    let origin = standing_back(|| Origin::start(film, Duration::ZERO, Rate::Shared(1 << 40)))?;
    let serving = bench
        .chunkd
        .serve_with(origin.address, &["--max-size", &format!("{cap}B")])?;
    let server = serving.address;
    let data = bench.chunkd.cache.join("data");
    let pages = Pages::of(&data, CHUNK, || read_whole(server, "/playing.mp4", film))?;

    // Looking at a hundred thousand files takes time from whoever plays, so that nobody does meanwhile.
    let mut most = 0;
    for number in 0..FILLED {
        read_whole(server, &format!("/first-{number}.mp4"), film)?;
        most = most.max(length_below(&data)?);
    }
    let with = pauses(server, "second", film, &pages)?;
    drop(serving);
    let roomy = bench
        .chunkd
        .serve_with(origin.address, &["--max-size", "2TiB"])?;
    let without = pauses(roomy.address, "third", film, &pages)?;
    empty_folder(&bench.chunkd.cache)?;
    Ok(vec![
        Row {
            case: "a full cache of 977 GiB that is filled on as fast as it goes",
            figures: vec![Figure::count("MiB on disk", most >> 20, cap >> 20)],
        },
        Row {
            case: "the same: a player beside it, per 64 KiB",
            figures: vec![
                Figure::time("p99.9", with.player, PAUSE),
                Figure::time(
                    "a thread that only sleeps wakes late by",
                    with.sleeper,
                    PAUSE,
                ),
                Figure::time(
                    "p99.9 beside the same fill with room for all of it",
                    without.player,
                    PAUSE,
                ),
                Figure::time("the thread then", without.sleeper, PAUSE),
            ],
        },
    ])
}

/// What one in a thousand takes longer than.
struct Pauses {
    /// A read of what is in memory.
    player: Duration,
    /// Waking a thread that only sleeps: the machine's part, of which each read has two.
    sleeper: Duration,
}

/// What a player waits for while films are being filled.
fn pauses(server: SocketAddr, name: &str, film: u64, pages: &Pages) -> Result<Pauses> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| sleep_on(&is_over));
        let player = scope.spawn(|| play(server, film, pages, &is_over));
        let filled = standing_back(|| {
            (0..FILLED_BESIDE)
                .try_for_each(|number| read_whole(server, &format!("/{name}-{number}.mp4"), film))
        });
        is_over.store(true, Ordering::Relaxed);
        let times = joined(player.join())?;
        let mut late = joined(sleeper.join())?;
        filled?;
        Ok(Pauses {
            player: quantile(&mut times?, 999),
            sleeper: quantile(&mut late, 999),
        })
    })
}

/// Sleeps again and again, and says how much too long.
fn sleep_on(is_over: &AtomicBool) -> Vec<Duration> {
    let mut late = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        thread::sleep(NAP);
        late.push(began.elapsed().saturating_sub(NAP));
    }
    late
}

/// Does `work` in a thread that stands back, as do those that it begins.
fn standing_back<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nice(BEHIND)?;
            work()
        });
        joined(thread.join())?
    })
}

/// Some systems take back pages of files that are in use; what they took is read, and not counted.
fn play(
    server: SocketAddr,
    film: u64,
    pages: &Pages,
    is_over: &AtomicBool,
) -> Result<Vec<Duration>> {
    let mut client = Client::connect(server)?;
    let mut random = Random::new(1);
    let (mut times, mut from_disk) = (Vec::new(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let start = random.below(film / PIECE) * PIECE;
        let is_there = pages.has(start, PIECE);
        let took = client.read("/playing.mp4", start, PIECE)?;
        if is_there {
            times.push(took);
        } else {
            from_disk += 1;
        }
    }
    println!(
        "{} reads from memory, {from_disk} from the disk",
        times.len()
    );
    Ok(times)
}

/// How long all files below a folder are together, whatever they take up.
fn length_below(folder: &Path) -> Result<u64> {
    let mut length = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What is removed meanwhile is gone.
        let Ok(data) = entry.metadata() else { continue };
        length += if data.is_dir() {
            length_below(&entry.path())?
        } else {
            data.len()
        };
    }
    Ok(length)
}
