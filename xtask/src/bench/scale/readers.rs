//! What readers take of memory: many that do nothing, and some that are busy.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Bench;
use super::client::{Client, park};
use crate::bench::cold::joined;
use crate::bench::measure::{Figure, Row};
use crate::bench::origin::{Origin, Rate};
use crate::bench::process::Process;
use crate::child::empty_folder;
use crate::chunkd::Serving;
use crate::http::Get;
use crate::random::Random;

const EACH: u64 = 10 << 10;
/// What is left of a descriptor limit for everything else.
const OTHERS: u64 = 500;

const FILM: u64 = 64 << 20;
const BUSY: u64 = 64;
const PIECE: u64 = 1 << 20;
/// What busy connections may take.
pub(super) const MEMORY: u64 = 24 << 20;
/// What bytes that have yet to be stored may take besides (`--memory`).
pub(super) const BUDGET: u64 = 64 << 20;

/// Readers that leave what is there unread, and readers that wait for bytes which do not come.
pub(super) fn parked(bench: &Bench) -> Result<Vec<Row>> {
    raise_descriptors(bench.size.parked + bench.size.first + OTHERS)?;
    Ok(vec![paused(bench)?, waiting(bench)?])
}

fn paused(bench: &Bench) -> Result<Row> {
    let origin = Origin::start(FILM, Duration::ZERO, Rate::Shared(1 << 40))?;
    let serving = serve(bench, &origin)?;
    read_whole(serving.address, "/film.mp4", FILM)?;
    let (each, _) = park_all(bench, &serving, &|number| number * 4096)?;
    Ok(Row {
        case: "10,000 players that pause in a film that is there, connections included",
        figures: vec![Figure::count("anonymous bytes of each", each, EACH)],
    })
}

fn waiting(bench: &Bench) -> Result<Row> {
    // A byte a second: the answers begin, and that is all.
    let origin = Origin::start(1 << 34, Duration::ZERO, Rate::PerConnection(1))?;
    let serving = serve(bench, &origin)?;
    let (each, cores) = park_all(bench, &serving, &|number| number << 20)?;
    Ok(Row {
        case: "10,000 readers that wait for bytes at 10,000 places, connections included",
        figures: vec![
            Figure::count("anonymous bytes of each", each, EACH),
            Figure::cores("processor while they wait", cores, 0.05),
        ],
    })
}

fn serve(bench: &Bench, origin: &Origin) -> Result<Serving> {
    empty_folder(&bench.chunkd.cache)?;
    let connections = (bench.size.parked + bench.size.first + OTHERS).to_string();
    let args = ["--max-connections", connections.as_str()];
    bench.chunkd.serve_with(origin.address, &args)
}

/// What each of many readers adds to anonymous memory, and what all of them take of a processor.
fn park_all(bench: &Bench, serving: &Serving, place: &dyn Fn(u64) -> u64) -> Result<(u64, f64)> {
    // What the first ones bring along is not counted.
    let (first, parked, settled) = (bench.size.first, bench.size.parked, bench.size.settled);
    let process = Process {
        id: serving.guard.id(),
    };
    let park = |number| {
        park(serving.address, "/film.mp4", place(number))
            .with_context(|| format!("reader {number}"))
    };
    let mut readers = (0..first).map(park).collect::<Result<Vec<_>>>()?;
    // why: what was allocated meanwhile is in use or free again
    thread::sleep(settled);
    let before = process.anonymous()?;
    for number in first..first + parked {
        readers.push(park(number)?);
    }
    // why: all of them have come as far as they come
    thread::sleep(settled);
    let after = process.anonymous()?;
    let (spent, began) = (process.seconds()?, Instant::now());
    // why: what is measured is what happens meanwhile
    thread::sleep(settled);
    let cores = (process.seconds()? - spent) / began.elapsed().as_secs_f64();
    Ok((after.saturating_sub(before) / parked, cores))
}

/// Connections that are never idle: all of them read what is there; then half of them fill.
pub(super) fn busy(bench: &Bench) -> Result<Vec<Row>> {
    Ok(vec![
        Row {
            case: "64 connections that are busy with what is there",
            figures: vec![Figure::count(
                "anonymous bytes, at most",
                most_while_busy(bench, |_| false)?,
                MEMORY,
            )],
        },
        Row {
            case: "the same, half of them with what is not there yet",
            figures: vec![Figure::count(
                "anonymous bytes, at most",
                most_while_busy(bench, |number| number % 2 == 1)?,
                MEMORY + BUDGET,
            )],
        },
    ])
}

/// The most anonymous memory at any instant while all of them are busy, some with films that are new.
fn most_while_busy(bench: &Bench, fills: fn(u64) -> bool) -> Result<u64> {
    empty_folder(&bench.chunkd.cache)?;
    let origin = Origin::start(FILM, Duration::ZERO, Rate::Shared(1 << 40))?;
    let serving = bench.chunkd.serve(origin.address)?;
    let process = Process {
        id: serving.guard.id(),
    };
    read_whole(serving.address, "/film.mp4", FILM)?;
    let until = Instant::now() + bench.size.busy_for;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..BUSY)
            .map(|number| {
                let server = serving.address;
                scope.spawn(move || be_busy(server, number, fills(number), until))
            })
            .collect();
        let mut most = 0;
        while Instant::now() < until {
            most = most.max(process.anonymous()?);
            // why: memory is looked at ten times a second
            thread::sleep(Duration::from_millis(100));
        }
        for client in clients {
            joined(client.join())??;
        }
        Ok(most)
    })
}

fn be_busy(server: SocketAddr, number: u64, fills: bool, until: Instant) -> Result<()> {
    let mut client = Client::connect(server)?;
    let mut random = Random::new(number);
    let mut fresh = 0;
    while Instant::now() < until {
        let start = random.below(FILM / PIECE) * PIECE;
        if fills {
            fresh += 1;
            let path = format!("/film-{number}-{}.mp4", fresh / 16);
            client.read(&path, start, PIECE)?;
        } else {
            client.read("/film.mp4", start, PIECE)?;
        }
    }
    Ok(())
}

/// Brings a whole film into the cache.
pub(super) fn read_whole(server: SocketAddr, path: &str, length: u64) -> Result<()> {
    let get = Get {
        server,
        path,
        range: None,
    };
    let mut answer = get.send()?;
    answer.expect(200)?;
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        at += answer.read_some(&mut piece)? as u64;
    }
    Ok(())
}

/// This process has as many connections as there are readers; what it starts inherits the limit.
fn raise_descriptors(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        bail!("{wanted} descriptors are needed; say `ulimit -n {wanted}` where that is allowed");
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit on descriptors")
}
