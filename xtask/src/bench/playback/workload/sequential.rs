//! One client that reads a cold file from its beginning to its end, as fast as it comes.

use anyhow::Result;

use super::super::link::Shape;
use super::super::physics::transfer;
use super::super::player::read_whole;
use super::super::table::{Figure, Workload, milliseconds, ratio};
use super::{CHANGING, Case, DELAY, MBIT, Others, Runs, Stage, steady};

const FILM: u64 = 32 << 20;

/// Over lines that one connection can fill, and over one that it cannot.
pub(super) fn cases() -> Vec<Case> {
    let limited = Shape {
        each: Some(10 * MBIT),
        ..steady(100 * MBIT)
    };
    let slow = new(
        "limited-connections",
        "the same at 10 Mbit/s per connection, 100 in all",
        limited,
        wall(100 * MBIT, 3_300.0),
    );
    vec![
        new(
            "sequential-100",
            "cold sequential 32 MiB at 100 Mbit/s",
            steady(100 * MBIT),
            wall(100 * MBIT, 2_780.0),
        ),
        new(
            "sequential-1000",
            "the same at 1 Gbit/s",
            steady(1_000 * MBIT),
            wall(1_000 * MBIT, 335.0),
        ),
        Case {
            runs: Runs::AtOnce,
            ..slow
        },
    ]
}

/// On the line whose rate changes.
pub(super) fn changing() -> Case {
    let figures = vec![Figure::time("wall", 0), Figure::times("origin copies", 1)];
    new(
        "sequential",
        "cold sequential 32 MiB",
        CHANGING,
        Figure::time("wall", 0),
    )
    .on_second_line(CHANGING, figures)
}

fn wall(rate: u64, target: f64) -> Figure {
    Figure::time("wall", 0)
        .limit(milliseconds(transfer(DELAY, FILM, rate)))
        .at_most(target)
}

fn new(name: &'static str, title: &str, line: Shape, wall: Figure) -> Case {
    Case {
        workload: Workload {
            name: name.to_owned(),
            title: title.to_owned(),
            figures: vec![wall, Figure::times("origin copies", 1)],
        },
        run,
        line,
        chunk_size: "10MiB",
        others: Others::Asked,
        runs: Runs::OneByOne,
    }
}

fn run(stage: &Stage) -> Result<Vec<Vec<f64>>> {
    let (link, serving) = stage.begin(FILM, &["film.mp4".to_owned()])?;
    let before = link.count();
    let times = read_whole(serving.address, "/film.mp4", FILM)?;
    let sent = link.since(before).bytes;
    Ok(vec![
        vec![milliseconds(times.whole)],
        vec![ratio(sent, FILM)],
    ])
}
