//! The first touch of a file, somewhere in its middle.

use std::time::Duration;

use anyhow::Result;

use super::super::physics::transfer;
use super::super::player::{Film, PICTURE};
use super::super::table::{Figure, Workload, milliseconds};
use super::{CHANGING, Case, DELAY, MBIT, Others, Runs, Stage, steady};
use crate::random::Random;

/// Short, so that those who fetch whole files have done with one before the next.
const FILM: u64 = 16 << 20;
/// Per run, after the first one.
const FILMS: u64 = 6;
const RATE: u64 = 100 * MBIT;

pub(super) fn case() -> Case {
    let picture = milliseconds(transfer(DELAY, PICTURE, RATE));
    Case {
        workload: Workload {
            name: "touch".to_owned(),
            title: "first touch of a file, at an offset".to_owned(),
            figures: vec![
                Figure::time("first byte p50", 0).limit(milliseconds(DELAY)),
                Figure::time("256 KiB p50", 1).limit(picture).at_most(76.0),
            ],
        },
        run,
        line: steady(RATE),
        chunk_size: "10MiB",
        others: Others::Asked,
        runs: Runs::OneByOne,
    }
}

/// On the line whose rate changes.
pub(super) fn changing() -> Case {
    let figures = vec![
        Figure::time("first byte p50", 0),
        Figure::time("256 KiB p50", 1),
    ];
    case().on_second_line(CHANGING, figures)
}

fn run(stage: &Stage) -> Result<Vec<Vec<f64>>> {
    let names: Vec<String> = (0..=FILMS).map(|film| format!("film-{film}.mp4")).collect();
    let (link, serving) = stage.begin(FILM, &names)?;
    let mut random = Random::new(stage.number + 1);
    let (mut first_bytes, mut pictures) = (Vec::new(), Vec::new());
    for (number, name) in names.iter().enumerate() {
        let start = (4 << 20) + random.below(8 << 20);
        let film = Film {
            server: serving.address,
            path: &format!("/{name}"),
            start,
        };
        let played = film.look(Duration::ZERO)?;
        // The first film is there for the connections.
        if number > 0 {
            first_bytes.extend(played.first_byte.map(milliseconds));
            pictures.extend(played.picture.map(milliseconds));
        }
        // The next one begins on a line that is free.
        link.rest(Duration::from_secs(5));
    }
    Ok(vec![first_bytes, pictures])
}
