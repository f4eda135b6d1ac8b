//! `kill -9` in the middle of a fill: what was recorded is not fetched again.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::films::Film;
use super::origin::Origin;
use super::playback::whole_file;
use crate::chunkd::Chunkd;
use crate::http::Get;

/// What a client has read when the process is killed.
const READ_BEFORE: usize = 12 << 20;

/// What a connection that is cut for another one has on its way, at both of its ends.
const SOCKET_BUFFERS: u64 = 1 << 20;

/// Kills, restarts, and counts at the origin.
pub(crate) fn kill_and_restart(
    chunkd: &Chunkd,
    origin: &Origin,
    curl: &Path,
    film: &Film,
) -> Result<String> {
    let path = format!("/slow/{}", film.name);
    let before = origin.sent()?;

    let mut serving = chunkd.serve(origin.address)?;
    let last_second = read_before(serving.address, &path, film)?;
    serving.guard.kill()?;
    let first = origin.sent_since(before)?.bytes;
    drop(serving);

    let restarted = Instant::now();
    let serving = chunkd.serve(origin.address)?;
    let restart = restarted.elapsed();
    let recorded = recorded(chunkd, &path)?;
    let before = origin.sent()?;
    whole_file(curl, serving.address, &path, film)?;
    let second = origin.sent_since(before)?.bytes;

    let total = film.bytes.len() as u64;
    let missing = total.saturating_sub(recorded);
    let lost = first.saturating_sub(recorded);
    // What arrived in the last second: what the client read of it, and what was on its way ahead of the client.
    let may_be_lost = last_second + first.saturating_sub(READ_BEFORE as u64);
    let figures = format!(
        "killed after {first} bytes, {recorded} of them recorded ({lost} lost, at most {may_be_lost} may be); \
         {second} came for the {missing} that were missing; restart in {} ms",
        restart.as_millis()
    );
    if second < missing {
        bail!("the count at the origin is wrong: {figures}");
    }
    if lost > may_be_lost {
        bail!("more than a second of it was not recorded: {figures}");
    }
    if second > missing + SOCKET_BUFFERS {
        bail!("what was recorded was fetched again: {figures}");
    }
    if restart > Duration::from_secs(1) {
        bail!("the restart took longer than a second: {figures}");
    }
    Ok(figures)
}

/// Reads until it is time to kill; returns how much of that came in the last second.
fn read_before(server: SocketAddr, path: &str, film: &Film) -> Result<u64> {
    let get = Get {
        server,
        path,
        range: None,
    };
    let mut answer = get.send()?;
    answer.expect(200)?;
    if answer.content_length()? <= READ_BEFORE {
        bail!("the film is too short to be killed in the middle of it");
    }
    let mut bytes = vec![0; READ_BEFORE];
    let mut filled = 0;
    let mut progress = Vec::new();
    while filled < READ_BEFORE {
        filled += answer.read_some(&mut bytes[filled..])?;
        progress.push((Instant::now(), filled));
    }
    if bytes != film.bytes[..READ_BEFORE] {
        bail!("the bytes before the kill differ");
    }
    let now = Instant::now();
    let a_second_ago = progress
        .iter()
        .rev()
        .find(|(at, _)| now.duration_since(*at) > Duration::from_secs(1))
        .map_or(0, |&(_, filled)| filled);
    Ok((READ_BEFORE - a_second_ago) as u64)
}

/// How much of a film the index has.
fn recorded(chunkd: &Chunkd, path: &str) -> Result<u64> {
    let output = chunkd.call(&["status", "--json"])?;
    let status: Value = serde_json::from_slice(&output.stdout).context("status is not JSON")?;
    status["entries"]
        .as_array()
        .and_then(|entries| entries.iter().find(|entry| entry["path"] == path))
        .and_then(|entry| entry["recorded_bytes"].as_u64())
        .with_context(|| format!("{path} is not in the status: {status}"))
}
