//! Many clients that want one cold file at the same moment.

use std::thread;

use anyhow::Result;

use super::super::super::cold::joined;
use super::super::content::Content;
use super::super::physics::transfer;
use super::super::table::{Figure, Workload, milliseconds, ratio};
use super::{Case, DELAY, MBIT, Others, Runs, Stage, steady};
use crate::http::Get;

const CLIENTS: usize = 32;
const FILM: u64 = 8 << 20;
const RATE: u64 = 100 * MBIT;

pub(super) fn case() -> Case {
    Case {
        workload: Workload {
            name: "crowd",
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

fn run(stage: &Stage) -> Result<Vec<Vec<f64>>> {
    let (link, serving) = stage.begin(FILM, &["film.mp4".to_owned()])?;
    let before = link.count();
    let get = Get {
        server: serving.address,
        path: "/film.mp4",
        range: None,
    };
    let all = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| get.fetch(200)))
            .collect();
        clients
            .into_iter()
            .map(|client| joined(client.join())?)
            .collect::<Result<Vec<_>>>()
    })?;
    let sent = link.since(before).bytes;
    for (bytes, _) in &all {
        Content::of("/film.mp4").check(bytes, 0)?;
    }
    let wall = all
        .iter()
        .map(|(_, times)| times.whole)
        .max()
        .unwrap_or_default();
    let first_bytes = all.iter().map(|(_, times)| milliseconds(times.first_byte));
    Ok(vec![
        vec![milliseconds(wall)],
        first_bytes.collect(),
        vec![ratio(sent, FILM)],
    ])
}
