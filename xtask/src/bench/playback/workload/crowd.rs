//! Many clients that want one cold file at the same moment.

use std::thread;

use anyhow::Result;

use super::super::super::cold::joined;
use super::super::physics::transfer;
use super::super::player::read_whole;
use super::super::table::{Figure, Workload, milliseconds, ratio};
use super::{CHANGING, Case, DELAY, MBIT, Others, Runs, Stage, steady};

const CLIENTS: usize = 32;
const FILM: u64 = 8 << 20;
const RATE: u64 = 100 * MBIT;

pub(super) fn case() -> Case {
    Case {
        workload: Workload {
            name: "crowd".to_owned(),
            title: "32 clients, one cold 8 MiB".to_owned(),
            figures: vec![
                Figure::time("wall", 0)
                    .limit(milliseconds(transfer(DELAY, FILM, RATE)))
                    .at_most(740.0),
                Figure::time("first byte p50", 1)
                    .limit(milliseconds(DELAY))
                    .at_most(55.0),
                Figure::times("origin copies", 2).limit(1.0).at_most(1.0),
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
        Figure::time("wall", 0),
        Figure::time("first byte p50", 1),
        Figure::times("origin copies", 2),
    ];
    case().on_second_line(CHANGING, figures)
}

fn run(stage: &Stage) -> Result<Vec<Vec<f64>>> {
    let (link, serving) = stage.begin(FILM, &["film.mp4".to_owned()])?;
    let before = link.count();
    let all = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| read_whole(serving.address, "/film.mp4", FILM)))
            .collect();
        clients
            .into_iter()
            .map(|client| joined(client.join())?)
            .collect::<Result<Vec<_>>>()
    })?;
    let sent = link.since(before).bytes;
    let wall = all
        .iter()
        .map(|times| times.whole)
        .max()
        .unwrap_or_default();
    let first_bytes = all.iter().map(|times| milliseconds(times.first_byte));
    Ok(vec![
        vec![milliseconds(wall)],
        first_bytes.collect(),
        vec![ratio(sent, FILM)],
    ])
}
