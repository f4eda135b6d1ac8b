//! Seeks to random places of a film that plays at 8 Mbit/s.

use std::time::Duration;

use anyhow::{Context, Result};

use super::super::physics::transfer;
use super::super::player::{Film, PICTURE};
use super::super::table::{Figure, Workload, megabytes, milliseconds};
use super::{CHANGING, Case, DELAY, MBIT, Others, PLACE, Runs, Stage, places, steady};
use crate::random::Random;

const PLACES: u64 = 16;
/// Per run; the percentiles are over all runs.
const SEEKS: u32 = 10;
/// Seeks do not go to the boundary of anything.
const INTO_PLACE: u64 = 4 << 20;
/// From a picture to the next seek: the player has filled its buffer by then and reads at the film's rate.
const LOOKED: Duration = Duration::from_millis(450);
const RATE: u64 = 100 * MBIT;

/// The same for each chunk size; it means nothing to the others, so they are measured once.
pub(super) fn cases() -> Vec<Case> {
    [
        ("seek-10", "10MiB", Others::Asked),
        ("seek-1", "1MiB", Others::None),
        ("seek-64", "64MiB", Others::None),
    ]
    .map(|(name, chunk_size, others)| Case {
        chunk_size,
        others,
        ..case(
            name,
            format!("seek while playing 8 Mbit/s, chunks of {chunk_size}"),
        )
    })
    .into()
}

/// On the line whose rate changes.
pub(super) fn changing() -> Case {
    let figures = vec![
        Figure::time("first byte p50", 0),
        Figure::time("first byte p95", 0).p95(),
        Figure::time("256 KiB p50", 1),
    ];
    case("seek", "seek while playing 8 Mbit/s".to_owned()).on_second_line(CHANGING, figures)
}

fn case(name: &'static str, title: String) -> Case {
    let limit = milliseconds(DELAY);
    let picture = milliseconds(transfer(DELAY, PICTURE, RATE));
    Case {
        workload: Workload {
            name: name.to_owned(),
            title,
            figures: vec![
                Figure::time("first byte p50", 0).limit(limit).at_most(52.0),
                Figure::time("first byte p95", 0)
                    .p95()
                    .limit(limit)
                    .at_most(55.0),
                Figure::time("256 KiB p50", 1).limit(picture).at_most(74.0),
                Figure::megabytes("origin bytes wasted per seek", 2)
                    .limit(0.0)
                    .at_most(0.1),
                Figure::megabytes("origin bytes beyond those played, per seek", 3),
            ],
        },
        run,
        line: steady(RATE),
        chunk_size: "10MiB",
        others: Others::Asked,
        runs: Runs::OneByOne,
    }
}

fn run(stage: &Stage) -> Result<Vec<Vec<f64>>> {
    let (link, serving) = stage.begin(PLACES * PLACE, &["film.mp4".to_owned()])?;
    let mut random = Random::new(stage.number + 1);
    let film = |start| Film {
        server: serving.address,
        path: "/film.mp4",
        start,
    };
    let before = link.count();
    // The first request opens the film and is not a seek.
    let mut read = film(0).look(LOOKED)?.bytes;
    let (mut first_bytes, mut pictures) = (Vec::new(), Vec::new());
    let places = places(stage.number + 1, PLACES).into_iter();
    // The film was opened at the first one.
    for place in places.filter(|place| *place > 0).take(SEEKS as usize) {
        let start = place * PLACE + random.below(INTO_PLACE);
        let played = film(start)
            .look(LOOKED)
            .with_context(|| format!("a seek to {start}"))?;
        read += played.bytes;
        first_bytes.extend(played.first_byte.map(milliseconds));
        pictures.extend(played.picture.map(milliseconds));
    }
    // Some fetch the whole film; that ends, or it is long enough to tell.
    link.rest(Duration::from_secs(30));
    let sent = link.since(before).bytes;
    // Who cannot say what is kept is credited with what was played: nothing else of it has been of use.
    let kept = serving.held()?.unwrap_or(read);
    let per_seek = |bytes: u64| vec![megabytes(bytes) / f64::from(SEEKS)];
    Ok(vec![
        first_bytes,
        pictures,
        per_seek(sent.saturating_sub(kept)),
        per_seek(sent.saturating_sub(read)),
    ])
}
