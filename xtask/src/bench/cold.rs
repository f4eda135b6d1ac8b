//! The six cold-start cases.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::measure::{Figure, Row, median};
use super::origin::{Origin, Rate, fill};
use crate::chunkd::Chunkd;
use crate::http::{Get, Times};

const MIB: u64 = 1 << 20;
const LENGTH: u64 = 16 * MIB;
const RATE: u64 = 2_000_000;
/// The delay before an answer's first byte: what one round trip costs.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// A first byte after one round trip, with what two hops on one machine and a busy processor may cost.
const ONE_ROUND_TRIP: Duration = Duration::from_millis(60);
/// Served from what is there: no round trip at all.
const AT_ONCE: Duration = Duration::from_millis(10);
/// What the origin and the cache have in their sockets when a client leaves.
const SOCKET_BUFFERS: u64 = 256 << 10;
/// Each case runs so often, each time on an object of its own; times are medians, counts the worst.
const TRIES: usize = 5;

/// One try of a case: times and counts in the order of the figures.
type Try = fn(&Bench, &str) -> Result<Measured>;

#[derive(Debug, Default)]
struct Measured {
    times: Vec<Duration>,
    counts: Vec<u64>,
}

#[derive(Debug)]
struct Bench {
    server: SocketAddr,
    origin: Origin,
}

struct Case {
    name: &'static str,
    run: Try,
    times: &'static [(&'static str, Duration)],
    counts: &'static [(&'static str, u64)],
}

const CASES: [Case; 6] = [
    Case {
        name: "64 KiB at 8 MiB, cold",
        run: part,
        times: &[("first byte", ONE_ROUND_TRIP)],
        counts: &[("origin requests", 1)],
    },
    Case {
        name: "a sub-range of it 0.3 s later, while it is being fetched",
        run: sub_range,
        times: &[("whole range", AT_ONCE)],
        counts: &[("new origin requests", 0)],
    },
    Case {
        name: "4 clients, same cold range",
        run: together,
        times: &[
            ("last one's first byte", ONE_ROUND_TRIP),
            ("spread", AT_ONCE),
        ],
        counts: &[("origin requests", 1)],
    },
    Case {
        name: "range at 14 MiB while a full read runs",
        run: beside_a_full_read,
        times: &[("first byte", ONE_ROUND_TRIP)],
        counts: &[],
    },
    Case {
        name: "last 1,000 bytes, cold",
        run: tail,
        times: &[("first byte", ONE_ROUND_TRIP)],
        counts: &[("origin bytes", 64 << 10)],
    },
    Case {
        name: "client leaves after 1 MiB of a full read",
        run: leave,
        times: &[],
        counts: &[("origin bytes", MIB + SOCKET_BUFFERS)],
    },
];

/// Runs all cases against one chunkd; every object is cold when its case begins.
pub(super) fn measure(chunkd: &Chunkd) -> Result<Vec<Row>> {
    let origin = Origin::start(LENGTH, ROUND_TRIP, Rate::PerConnection(RATE))?;
    let serving = chunkd.serve(origin.address)?.started()?;
    let bench = Bench {
        server: serving.address,
        origin,
    };
    CASES
        .iter()
        .enumerate()
        .map(|(number, case)| case.measure(&bench, number))
        .collect()
}

impl Case {
    fn measure(&self, bench: &Bench, number: usize) -> Result<Row> {
        let tries = (0..TRIES)
            .map(|attempt| {
                let measured = (self.run)(bench, &format!("/case-{number}/try-{attempt}.mp4"))?;
                // The next one begins with a quiet origin.
                bench.origin.settled_since(bench.origin.count())?;
                Ok(measured)
            })
            .collect::<Result<Vec<_>>>()
            .with_context(|| format!("the case `{}`", self.name))?;
        let mut figures = Vec::new();
        for (at, (what, target)) in self.times.iter().enumerate() {
            let times = tries
                .iter()
                .filter_map(|measured| measured.times.get(at).copied());
            figures.push(Figure::time(what, median(times.collect()), *target));
        }
        for (at, (what, target)) in self.counts.iter().enumerate() {
            let counts = tries
                .iter()
                .filter_map(|measured| measured.counts.get(at).copied());
            figures.push(Figure::count(
                what,
                counts.max().unwrap_or_default(),
                *target,
            ));
        }
        Ok(Row {
            case: self.name,
            figures,
        })
    }
}

impl Bench {
    /// Fetches a range through chunkd and checks its bytes.
    fn range(&self, path: &str, range: String, start: u64) -> Result<Times> {
        let get = Get {
            server: self.server,
            path,
            range: Some(range),
        };
        let (bytes, times) = get.fetch(206)?;
        check(&bytes, start)?;
        Ok(times)
    }
}

fn part(bench: &Bench, path: &str) -> Result<Measured> {
    let before = bench.origin.count();
    let times = bench.range(path, closed(8 * MIB, 64 << 10), 8 * MIB)?;
    Ok(Measured {
        times: vec![times.first_byte],
        counts: vec![bench.origin.settled_since(before)?.requests],
    })
}

fn sub_range(bench: &Bench, path: &str) -> Result<Measured> {
    // At 2 MB/s the first 300 ms bring about half a megabyte of this; the sub-range is in the part that is there.
    let outer = Get {
        server: bench.server,
        path,
        range: Some(closed(8 * MIB, 2 * MIB)),
    };
    thread::scope(|scope| {
        let outer = scope.spawn(move || outer.fetch(206));
        thread::sleep(Duration::from_millis(300));
        let before = bench.origin.count();
        let start = 8 * MIB + (128 << 10);
        let times = bench.range(path, closed(start, 64 << 10), start)?;
        let requests = bench.origin.count_since(before).requests;
        if outer.is_finished() {
            bail!("the outer range was whole before the inner one was asked for");
        }
        let (bytes, _) = joined(outer.join())??;
        check(&bytes, 8 * MIB)?;
        Ok(Measured {
            times: vec![times.whole],
            counts: vec![requests],
        })
    })
}

fn together(bench: &Bench, path: &str) -> Result<Measured> {
    let before = bench.origin.count();
    let firsts = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| bench.range(path, closed(8 * MIB, 256 << 10), 8 * MIB)))
            .collect();
        clients
            .into_iter()
            .map(|client| Ok(joined(client.join())??.first_byte))
            .collect::<Result<Vec<_>>>()
    })?;
    let last = firsts.iter().max().copied().unwrap_or_default();
    let first = firsts.iter().min().copied().unwrap_or_default();
    Ok(Measured {
        times: vec![last, last - first],
        counts: vec![bench.origin.settled_since(before)?.requests],
    })
}

fn beside_a_full_read(bench: &Bench, path: &str) -> Result<Measured> {
    let get = Get {
        server: bench.server,
        path,
        range: None,
    };
    let mut full = get.send()?;
    full.expect(200)?;
    let (bytes, _) = full.read(512 << 10)?;
    check(&bytes, 0)?;
    let times = bench.range(path, closed(14 * MIB, 64 << 10), 14 * MIB)?;
    Ok(Measured {
        times: vec![times.first_byte],
        counts: Vec::new(),
    })
}

fn tail(bench: &Bench, path: &str) -> Result<Measured> {
    let before = bench.origin.count();
    let times = bench.range(path, "bytes=-1000".to_owned(), LENGTH - 1000)?;
    Ok(Measured {
        times: vec![times.first_byte],
        counts: vec![bench.origin.settled_since(before)?.bytes],
    })
}

fn leave(bench: &Bench, path: &str) -> Result<Measured> {
    let before = bench.origin.count();
    let get = Get {
        server: bench.server,
        path,
        range: None,
    };
    let mut answer = get.send()?;
    answer.expect(200)?;
    let (bytes, _) = answer.read(1 << 20)?;
    check(&bytes, 0)?;
    drop(answer);
    Ok(Measured {
        times: Vec::new(),
        counts: vec![bench.origin.settled_since(before)?.bytes],
    })
}

fn closed(start: u64, length: u64) -> String {
    format!("bytes={start}-{}", start + length - 1)
}

/// Fails unless the bytes are those of the origin.
pub(super) fn check(bytes: &[u8], start: u64) -> Result<()> {
    let mut expected = vec![0; bytes.len()];
    fill(&mut expected, start);
    if bytes != expected {
        bail!("wrong bytes from {start} on");
    }
    Ok(())
}

/// The value of a thread; one that panicked is an error like any other.
pub(super) fn joined<T>(result: thread::Result<T>) -> Result<T> {
    result.map_err(|_| anyhow!("a client panicked"))
}
