//! Seeks in a film that is playing, and many clients on one cold film.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::cold::{check, joined};
use super::measure::{Figure, Row, median};
use super::origin::{Origin, Rate};
use crate::chunkd::Chunkd;
use crate::http::Get;
use crate::random::Random;

const DELAY: Duration = Duration::from_millis(50);
/// 100 Mbit/s, shared by all connections.
const RATE: u64 = 12_500_000;
const FILM: u64 = 1 << 30;
const SEEKS: usize = 31;
/// What a decoder wants before it shows a picture.
const PICTURE: usize = 256 << 10;
/// A film of 8 Mbit/s is read at this rate between seeks.
const PLAYED_PER_TICK: usize = 10_000;
const TICK: Duration = Duration::from_millis(10);
const PLAYED_TICKS: u32 = 40;
const SEED: u64 = 1;

const CLIENTS: usize = 32;
const SHARED_FILM: u64 = 8 << 20;

/// Both lines of the table, each with a chunkd and an origin of its own.
pub(super) fn measure(chunkd: &Chunkd) -> Result<Vec<Row>> {
    Ok(vec![seeks(chunkd)?, many_clients(chunkd)?])
}

fn seeks(chunkd: &Chunkd) -> Result<Row> {
    let origin = Origin::start(FILM, DELAY, Rate::Shared(RATE))?;
    let serving = chunkd.serve(origin.address)?.started()?;
    let mut random = Random::new(SEED);
    let (mut first_bytes, mut pictures) = (Vec::new(), Vec::new());
    // The first request opens the film and is not a seek.
    for seek in 0..=SEEKS {
        let start = if seek == 0 {
            0
        } else {
            random.below(FILM - (32 << 20))
        };
        let get = Get {
            server: serving.address,
            path: "/film.mp4",
            range: Some(format!("bytes={start}-")),
        };
        let mut answer = get.send()?;
        answer.expect(206)?;
        let (bytes, times) = answer
            .read(PICTURE)
            .with_context(|| format!("seek {seek}"))?;
        check(&bytes, start)?;
        if seek > 0 {
            first_bytes.push(times.first_byte);
            pictures.push(times.whole);
        }
        let playing = Instant::now();
        for tick in 1..=PLAYED_TICKS {
            thread::sleep((TICK * tick).saturating_sub(playing.elapsed()));
            answer.read(PLAYED_PER_TICK)?;
        }
    }
    Ok(Row {
        case: "random seeks while playing, median",
        figures: vec![
            Figure::time("first byte", median(first_bytes), Duration::from_millis(60)),
            Figure::time("256 KiB", median(pictures), Duration::from_millis(85)),
        ],
    })
}

fn many_clients(chunkd: &Chunkd) -> Result<Row> {
    let origin = Origin::start(SHARED_FILM, DELAY, Rate::Shared(RATE))?;
    let serving = chunkd.serve(origin.address)?.started()?;
    let before = origin.count();
    let get = Get {
        server: serving.address,
        path: "/shared.mp4",
        range: None,
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| get.fetch(200)))
            .collect();
        clients.into_iter().try_for_each(|client| {
            let (bytes, _) = joined(client.join())??;
            check(&bytes, 0)
        })
    })?;
    let sent = origin.settled_since(before)?;
    Ok(Row {
        case: "32 clients on one cold 8 MiB",
        figures: vec![Figure::copies("origin copies", sent.bytes, SHARED_FILM)],
    })
}
