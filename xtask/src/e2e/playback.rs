//! What players see through the cache is what is at the origin.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::films::Film;
use super::programs::Programs;
use crate::http::Get;
use crate::random::Random;
use crate::run::output;

/// Random seeks over all films.
const SEEKS: u64 = 50;

/// What a player reads after a seek before it seeks again.
const SEEK_LENGTH: u64 = 256 << 10;

/// Downloads a film with curl and compares all of it.
pub(crate) fn whole_file(
    curl: &Path,
    server: SocketAddr,
    path: &str,
    film: &Film,
) -> Result<String> {
    let url = format!("http://{server}{path}");
    let body = output(Command::new(curl).args(["--silent", "--show-error", "--fail", &url]))?;
    if checksum(&body) != checksum(&film.bytes) || body.len() != film.bytes.len() {
        bail!(
            "{} bytes with checksum {:016x}, at the origin {} with {:016x}",
            body.len(),
            checksum(&body),
            film.bytes.len(),
            checksum(&film.bytes)
        );
    }
    Ok(format!(
        "{} bytes, checksum {:016x}",
        body.len(),
        checksum(&body)
    ))
}

/// Seeks at random, as players do: an open-ended range that is abandoned, or an exact one.
pub(crate) fn random_seeks(server: SocketAddr, films: &[Film], seed: u64) -> Result<String> {
    let mut random = Random::new(seed);
    let mut compared = 0;
    for seek in 0..SEEKS {
        let film = usize::try_from(random.below(films.len() as u64))?;
        let film = films.get(film).context("there are no films")?;
        let total = film.bytes.len() as u64;
        let start = random.below(total);
        let end = total.min(start + 1 + random.below(SEEK_LENGTH));
        let open_ended = random.below(2) == 0;
        let range = if open_ended {
            format!("bytes={start}-")
        } else {
            format!("bytes={start}-{}", end - 1)
        };
        let context = || format!("seek {seek} of seed {seed}: {} {range}", film.name);
        let get = Get {
            server,
            path: &format!("/{}", film.name),
            range: Some(range.clone()),
        };
        let mut answer = get.send().with_context(context)?;
        answer.expect(206).with_context(context)?;
        let last = if open_ended { total } else { end } - 1;
        let expected = format!("bytes {start}-{last}/{total}");
        if answer.header("content-range") != Some(&expected) {
            bail!(
                "{}: {:?} instead of `{expected}`",
                context(),
                answer.header("content-range")
            );
        }
        let (bytes, _) = answer
            .read(usize::try_from(end - start)?)
            .with_context(context)?;
        if bytes != film.bytes[usize::try_from(start)?..usize::try_from(end)?] {
            bail!("{}: the bytes differ", context());
        }
        compared += bytes.len();
    }
    Ok(format!(
        "{SEEKS} seeks, {compared} bytes compared, seed {seed}"
    ))
}

/// Seeks with ffmpeg and compares the decoded frames with those of the origin.
pub(crate) fn frames(
    ffmpeg: &Path,
    through: SocketAddr,
    direct: SocketAddr,
    film: &Film,
) -> Result<String> {
    let mut compared = 0;
    for second in [0, film.seconds / 3, film.seconds * 9 / 10] {
        let through = frame_checksums(ffmpeg, through, film, second)?;
        let direct = frame_checksums(ffmpeg, direct, film, second)?;
        let count = direct.lines().filter(|line| !line.starts_with('#')).count();
        if count != 25 {
            bail!("the origin itself gives {count} frames at second {second}, not 25");
        }
        if through != direct {
            bail!("the frames at second {second} differ");
        }
        compared += count;
    }
    Ok(format!(
        "{compared} frames after three seeks equal those of the origin"
    ))
}

fn frame_checksums(ffmpeg: &Path, server: SocketAddr, film: &Film, second: u64) -> Result<String> {
    let frames = output(
        Command::new(ffmpeg)
            .args(["-nostdin", "-v", "error", "-ss", &second.to_string()])
            .args(["-i", &format!("http://{server}/{}", film.name)])
            .args(["-map", "0:v:0", "-frames:v", "25", "-f", "framemd5", "-"]),
    )?;
    String::from_utf8(frames).context("framemd5 is not text")
}

/// Plays some seconds with mpv, which must end well.
pub(crate) fn mpv(programs: &Programs, server: SocketAddr, film: &Film) -> Result<String> {
    let start = film.seconds / 2;
    output(
        Command::new(&programs.mpv)
            .args(["--no-config", "--vo=null", "--ao=null", "--untimed"])
            .args([&format!("--start={start}"), "--length=5"])
            .arg(format!("http://{server}/{}", film.name)),
    )?;
    Ok(format!("5 seconds from second {start} on"))
}

/// FNV-1a with 64 bits: to tell files apart in the report.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
