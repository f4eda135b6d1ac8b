//! A film over a line that just carries it, with a seek every five seconds.

use std::time::Duration;

use anyhow::Result;

use super::super::physics::{Viewing, arrivals};
use super::super::player::{Film, MEDIA};
use super::super::table::{Figure, Workload, megabytes, milliseconds};
use super::{Case, DELAY, MBIT, Others, PLACE, Runs, Stage, places, steady};

/// 8.4 Mbit/s.
const RATE: u64 = 84 * MBIT / 10;
/// Five seconds of this line are a third of a place.
const PLACES: u64 = 16;
const SEEKS: u64 = 12;
const BETWEEN: Duration = Duration::from_secs(5);

pub(super) fn case() -> Case {
    let limit = milliseconds(optimum());
    Case {
        workload: Workload {
            name: "tight".to_owned(),
            title: "8 Mbit/s film over 8.4 Mbit/s, seeking every 5 s for 60 s".to_owned(),
            figures: vec![
                Figure::time("not playing", 0)
                    .limit(limit)
                    .at_most(limit * 1.1),
                Figure::percent("line used", 1),
            ],
        },
        run,
        line: steady(RATE),
        chunk_size: "10MiB",
        others: Others::Asked,
        runs: Runs::AtOnce,
    }
}

/// On a line whose rate changes about the film's.
pub(super) fn changing() -> Case {
    let line = super::changing(64 * MBIT / 10, 104 * MBIT / 10);
    let mut case = case().on_second_line(line, vec![Figure::time("not playing", 0)]);
    let title = "second line: 8 Mbit/s film over 6.4 to 10.4 Mbit/s, seeking every 5 s for 60 s";
    title.clone_into(&mut case.workload.title);
    case
}

/// What is not played by one who knows the line and the rate and does nothing wrong: nothing but the start after each
/// seek, because seeks cannot be known, every place is a new one, and the line is faster than the film.
fn optimum() -> Duration {
    (0..SEEKS)
        .map(|_| Viewing::idle_until(arrivals(DELAY, MEDIA, RATE), BETWEEN))
        .sum()
}

fn run(stage: &Stage) -> Result<Vec<Vec<f64>>> {
    let (link, serving) = stage.begin(PLACES * PLACE, &["film.mp4".to_owned()])?;
    let before = link.count();
    let mut idle = Duration::ZERO;
    for place in places(stage.number + 1, PLACES)
        .into_iter()
        .take(SEEKS as usize)
    {
        let film = Film {
            server: serving.address,
            path: "/film.mp4",
            start: place * PLACE,
        };
        let played = film.watch(BETWEEN)?;
        idle += Viewing::idle_until(played.arrivals, BETWEEN);
    }
    let carried = megabytes(RATE * SEEKS * BETWEEN.as_secs());
    let used = megabytes(link.since(before).bytes) / carried * 100.0;
    Ok(vec![vec![milliseconds(idle)], vec![used]])
}

#[cfg(test)]
mod tests {
    use super::{SEEKS, optimum};

    #[test]
    fn the_optimum_waits_for_a_round_trip_and_a_second_of_media_after_each_seek() {
        // 50 ms, and 1 MB at 1.05 MB/s.
        let once = 50_000_000 + 1_000_000_000_000_000_u128 / 1_050_000;
        let difference = optimum().as_nanos().abs_diff(once * u128::from(SEEKS));
        assert!(difference < 100, "{difference} ns");
    }
}
