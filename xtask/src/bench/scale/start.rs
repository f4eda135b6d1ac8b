//! Recording a million chunks, starting on them, and using a file for the first time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Bench;
use crate::bench::measure::{Figure, Row, median};
use crate::bench::origin::{Origin, Rate};
use crate::child::empty_folder;
use crate::http::Get;
use crate::run::{cargo, output};

pub(super) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    empty_folder(&bench.chunkd.cache)?;
    let (files, chunks) = (bench.size.files, bench.size.chunks_per_file);
    let made = large_cache(bench, files, chunks, "rows")?;
    let mut rows = vec![Row {
        case: "recording a million chunks with all their checksums, 100 in a transaction",
        figures: vec![Figure::rate(
            "rows a second",
            made.rows_a_second(),
            100_000.0,
        )],
    }];
    rows.extend(start(bench)?);
    empty_folder(&bench.chunkd.cache)?;
    Ok(rows)
}

/// What was recorded, and how long that took.
pub(super) struct Made {
    rows: u64,
    spent: Duration,
}

impl Made {
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    fn rows_a_second(&self) -> f64 {
        self.rows as f64 / self.spent.as_secs_f64()
    }
}

/// Makes a cache folder with so many chunks in it; the program that does it knows how one is laid out.
pub(super) fn large_cache(bench: &Bench, files: u64, chunks: u64, kind: &str) -> Result<Made> {
    let path = bench.chunkd.cache.to_str();
    let path = path.context("a folder whose name is no text")?;
    let mut command = cargo(["run", "--quiet"]);
    if bench.size.is_judged {
        command.arg("--release");
    }
    command.args(["--package", "chunk-app", "--example", "large_cache", "--"]);
    let (files, chunks) = (files.to_string(), chunks.to_string());
    let said = output(command.args([path, &files, &chunks, kind]))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let words: Vec<&str> = said.split_whitespace().collect();
    let [rows, "rows", "in", spent, "ms"] = words.as_slice() else {
        bail!("large_cache says `{said}`");
    };
    Ok(Made {
        rows: rows.parse()?,
        spent: Duration::from_millis(spent.parse()?),
    })
}

fn start(bench: &Bench) -> Result<Vec<Row>> {
    // It is not asked: everything is fresh.
    let origin = Origin::start(1, Duration::ZERO, Rate::Shared(1))?;
    let size = bench.size;
    let (mut starts, mut uses) = (Vec::new(), Vec::new());
    for number in 0..size.starts {
        let began = Instant::now();
        // The index says that ten terabytes are there.
        let args = ["--max-size", "100TiB"];
        let mut serving = bench.chunkd.serve_with(origin.address, &args)?;
        // Who only connects may have to wait for what is still being read.
        first_use(serving.address, size.files - 1)?;
        starts.push(began.elapsed());
        if number + 1 == size.starts {
            for file in 0..size.first_uses {
                uses.push(first_use(
                    serving.address,
                    file * (size.files / size.first_uses),
                )?);
            }
        }
        serving.guard.terminate(Duration::from_secs(30))?;
    }
    if origin.count().requests > 0 {
        bail!("the origin was asked for what is in the index");
    }
    Ok(vec![
        Row {
            case: "1,000 files with a million chunks: from the command to the first answer",
            figures: vec![Figure::time(
                "start",
                median(starts),
                Duration::from_millis(300),
            )],
        },
        Row {
            case: "the same: an entry's first use",
            figures: vec![Figure::time(
                "answer",
                median(uses),
                Duration::from_millis(3),
            )],
        },
    ])
}

/// A range past the end needs all that the index knows of a file, and none of its bytes.
fn first_use(server: SocketAddr, file: u64) -> Result<Duration> {
    let path = format!("/film-{file}.mkv");
    let get = Get {
        server,
        path: &path,
        range: Some("bytes=1000000000000000-".to_owned()),
    };
    let began = Instant::now();
    get.send()?.expect(416)?;
    Ok(began.elapsed())
}
