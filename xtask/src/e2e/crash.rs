//! `kill -9` in the middle of a fill: what was recorded is not fetched again.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::films::Film;
use super::origin::Origin;
use super::playback::whole_file;
use crate::chunkd::Chunkd;
use crate::http::Get;

/// What a client has read when the process is killed.
const READ_BEFORE: usize = 12 << 20;

/// Sent by the origin and lost in socket buffers, at both ends of the connection.
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
    let started = Instant::now();
    read_some(serving.address, &path, film)?;
    serving.guard.kill()?;
    let filled_for = started.elapsed();
    let first = origin.sent_since(before)?;
    drop(serving);

    let restarted = Instant::now();
    let serving = chunkd.serve(origin.address)?;
    let restart = restarted.elapsed();
    whole_file(curl, serving.address, &path, film)?;
    let sent = origin.sent_since(before)?;

    let total = film.bytes.len() as u64;
    let twice = sent.bytes.saturating_sub(total);
    // At most one second of filling may not have been recorded yet. More connections are opened on the way, so the
    // last second brought more than the mean, up to three times as much.
    let a_second = 3 * per_second(first.bytes, filled_for);
    let allowed = a_second + SOCKET_BUFFERS;
    let figures = format!(
        "killed after {} bytes, {twice} of {total} sent twice (at most {allowed} may be), restart in {} ms",
        first.bytes,
        restart.as_millis()
    );
    if sent.bytes < total {
        bail!(
            "the origin sent {} of {total} bytes: the count is wrong",
            sent.bytes
        );
    }
    if twice > allowed {
        bail!("{figures}");
    }
    if restart > Duration::from_secs(1) {
        bail!("the restart took longer than a second: {figures}");
    }
    Ok(figures)
}

fn read_some(server: SocketAddr, path: &str, film: &Film) -> Result<()> {
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
    let (bytes, _) = answer.read(READ_BEFORE)?;
    if bytes != film.bytes[..READ_BEFORE] {
        bail!("the bytes before the kill differ");
    }
    Ok(())
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / milliseconds
}
