//! A film over a line that is little faster than it, beside somebody who takes all he can get.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::super::cold::joined;
use super::super::link::{Count, Link};
use super::super::physics::{Viewing, arrivals};
use super::super::player::{Film, MEDIA, Played, read_greedily};
use super::super::subject::Kind;
use super::super::table::{Figure, Workload, milliseconds};
use super::{Case, DELAY, MBIT, Others, Runs, Stage, steady};

/// 10.4 Mbit/s.
const RATE: u64 = 104 * MBIT / 10;
const FILM: u64 = 256 << 20;
/// Seconds of media that are played.
const PLAYED: u64 = 20;
/// The other one was there before.
const EARLIER: Duration = Duration::from_secs(1);

/// Beside another reader, and beside a pre-cache.
pub(super) fn cases() -> Vec<Case> {
    let viewing = Viewing::of(arrivals(DELAY, MEDIA, RATE).take(PLAYED as usize));
    let start = Figure::time("start", 0).limit(milliseconds(viewing.start));
    let stalls = Figure::times("stalls", 1)
        .limit(f64::from(viewing.stalls))
        .at_most(0.0);
    let stalled = Figure::time("stalled", 2).limit(milliseconds(viewing.stalled));
    let used = Figure::percent("line used", 3).limit(100.0);
    let greedy = vec![
        start.clone().at_most(950.0),
        stalls.clone(),
        stalled.clone(),
        used.clone(),
    ];
    let fetch = vec![start, stalls, stalled, used.at_least(95.0)];
    vec![
        Case {
            others: Others::Asked,
            ..new(
                "beside-reader",
                "20 s of 8 Mbit/s film over 10.4 Mbit/s, beside a greedy reader",
                greedy,
                beside_reader,
            )
        },
        new(
            "beside-fetch",
            "the same beside `chunkd fetch` of another film",
            fetch,
            beside_fetch,
        ),
    ]
}

/// On a line whose rate changes above the film's. Beside a pre-cache, the direct client has the line to itself.
pub(super) fn changing() -> Vec<Case> {
    let line = super::changing(8 * MBIT, 128 * MBIT / 10);
    let titles = [
        "second line: 20 s of 8 Mbit/s film over 8 to 12.8 Mbit/s, beside a greedy reader",
        "second line: the same beside `chunkd fetch` of another film; a direct client alone",
    ];
    let cases = cases().into_iter().zip(titles).map(|(case, title)| {
        let figures = vec![
            Figure::time("start", 0),
            Figure::times("stalls", 1),
            Figure::time("stalled", 2),
        ];
        let mut case = case.on_second_line(line, figures);
        title.clone_into(&mut case.workload.title);
        case
    });
    cases.collect()
}

fn new(
    name: &'static str,
    title: &str,
    figures: Vec<Figure>,
    run: fn(&Stage) -> Result<Vec<Vec<f64>>>,
) -> Case {
    Case {
        workload: Workload {
            name: name.to_owned(),
            title: title.to_owned(),
            figures,
        },
        run,
        line: steady(RATE),
        chunk_size: "10MiB",
        others: Others::None,
        runs: Runs::AtOnce,
    }
}

fn names() -> [String; 2] {
    ["film.mp4", "other.mp4"].map(str::to_owned)
}

fn beside_reader(stage: &Stage) -> Result<Vec<Vec<f64>>> {
    let (link, serving) = stage.begin(FILM, &names())?;
    let film = |path| Film {
        server: serving.address,
        path,
        start: 0,
    };
    let other = film("/other.mp4");
    let film = film("/film.mp4");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let other = scope.spawn(|| read_greedily(other, &|| is_over.load(Ordering::SeqCst)));
        thread::sleep(EARLIER);
        let figures = measured(&link, film);
        is_over.store(true, Ordering::SeqCst);
        // Frees a reader that gets nothing.
        drop(serving);
        joined(other.join())??;
        figures
    })
}

fn beside_fetch(stage: &Stage) -> Result<Vec<Vec<f64>>> {
    let (link, serving) = stage.begin(FILM, &names())?;
    let url = format!("http://{}/other.mp4", link.address);
    let is_alone = stage.subject.kind == Kind::Direct;
    let _fetching = (!is_alone)
        .then(|| serving.fetch(&url, &stage.folder))
        .transpose()?;
    thread::sleep(EARLIER);
    measured(
        &link,
        Film {
            server: serving.address,
            path: "/film.mp4",
            start: 0,
        },
    )
}

fn measured(link: &Link, film: Film<'_>) -> Result<Vec<Vec<f64>>> {
    let (began, before) = (Instant::now(), link.count());
    let played = film.play(PLAYED)?;
    Ok(figures(&played, began.elapsed(), link.since(before)))
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn figures(played: &Played, elapsed: Duration, sent: Count) -> Vec<Vec<f64>> {
    let viewing = Viewing::of(played.arrivals.iter().copied());
    let capacity = RATE as f64 * elapsed.as_secs_f64();
    vec![
        vec![milliseconds(viewing.start)],
        vec![f64::from(viewing.stalls)],
        vec![milliseconds(viewing.stalled)],
        vec![sent.bytes as f64 / capacity * 100.0],
    ]
}
