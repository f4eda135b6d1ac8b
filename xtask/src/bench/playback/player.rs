//! Players: they read at the rate of their film once their buffer is full, and they check every byte.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::content::Content;
use crate::http::{Answer, Get, Times};

/// Bytes per second of the film: 8 Mbit/s.
pub(super) const MEDIA: u64 = 1_000_000;

/// What a player keeps in its buffer, in seconds of media; then it stops reading its socket.
const BUFFER: u64 = 2;

const READ: usize = 16 << 10;

/// Slow servers take their time with films that they fetch whole; more than this is not slow but stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a player leaves.
#[derive(Debug, Clone, Copy)]
enum Until {
    Bytes(u64),
    Time(Duration),
    AfterPicture(Duration),
}

/// What a player has got: when each second of media was whole, and how many bytes.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) arrivals: Vec<Duration>,
    pub(super) bytes: u64,
    /// When the first byte was there, and when what a decoder wants for a picture was there.
    pub(super) first_byte: Option<Duration>,
    pub(super) picture: Option<Duration>,
}

/// What a decoder wants before it shows a picture.
pub(super) const PICTURE: u64 = 256 << 10;

/// A film at a server, from some byte on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Film<'a> {
    pub(super) server: SocketAddr,
    pub(super) path: &'a str,
    pub(super) start: u64,
}

impl Film<'_> {
    /// Plays so many seconds of media to their end, however long that takes.
    pub(super) fn play(self, seconds: u64) -> Result<Played> {
        let mut played = Played::default();
        self.run(&mut played, Until::Bytes(seconds * MEDIA))?;
        Ok(played)
    }

    /// Waits for a picture and goes on playing for so long.
    pub(super) fn look(self, time: Duration) -> Result<Played> {
        let mut played = Played::default();
        self.run(&mut played, Until::AfterPicture(time))?;
        Ok(played)
    }

    /// Plays for so long, counted from the request; what has not come by then is left.
    pub(super) fn watch(self, time: Duration) -> Result<Played> {
        let began = Instant::now();
        let mut played = Played::default();
        match self.run(&mut played, Until::Time(time)) {
            // A server that said nothing until we left is a slow one, not a broken measurement.
            Err(_) if began.elapsed() >= time => Ok(played),
            Err(error) => Err(error),
            Ok(()) => Ok(played),
        }
    }

    fn run(self, played: &mut Played, until: Until) -> Result<()> {
        let began = Instant::now();
        let mut answer = self.open(match until {
            Until::Time(time) => time,
            Until::Bytes(_) | Until::AfterPicture(_) => PATIENCE,
        })?;
        let content = Content::of(self.path);
        let mut buffer = vec![0; READ];
        let mut playhead = Playhead::default();
        loop {
            let (time, bytes) = match until {
                Until::Bytes(bytes) => (None, bytes),
                Until::Time(time) => (Some(time), u64::MAX),
                Until::AfterPicture(time) => {
                    (played.picture.map(|picture| picture + time), u64::MAX)
                }
            };
            if played.bytes >= bytes || time.is_some_and(|time| began.elapsed() >= time) {
                return Ok(());
            }
            let due = playhead.wants(played.bytes);
            let due = time.map_or(due, |time| due.min(time));
            thread::sleep(due.saturating_sub(began.elapsed()));
            if let Until::Time(time) = until {
                answer.wait_at_most(time.saturating_sub(began.elapsed()))?;
            }
            let most = usize::try_from(bytes - played.bytes).map_or(READ, |left| left.min(READ));
            let count = answer.read_some(&mut buffer[..most])?;
            let now = began.elapsed();
            content.check(&buffer[..count], self.start + played.bytes)?;
            played.bytes += count as u64;
            played.first_byte.get_or_insert(now);
            if played.bytes >= PICTURE {
                played.picture.get_or_insert(now);
            }
            while (played.arrivals.len() as u64 + 1) * MEDIA <= played.bytes {
                played.arrivals.push(now);
                playhead.arrived(now);
            }
        }
    }

    fn open(self, patience: Duration) -> Result<Answer> {
        let get = Get {
            server: self.server,
            path: self.path,
            range: Some(format!("bytes={}-", self.start)),
        };
        let answer = get.send_patiently(patience)?;
        answer.expect(206)?;
        Ok(answer)
    }
}

/// When each second of media began to play.
#[derive(Debug, Default)]
struct Playhead {
    began: Vec<Duration>,
}

impl Playhead {
    /// The next second of media is whole.
    fn arrived(&mut self, now: Duration) {
        let due = self
            .began
            .last()
            .map_or(now, |last| *last + Duration::from_secs(1));
        self.began.push(due.max(now));
    }

    /// When there is room in the buffer for the byte at this position.
    fn wants(&self, position: u64) -> Duration {
        let Some(played) = position.checked_sub(BUFFER * MEDIA) else {
            return Duration::ZERO;
        };
        let second = usize::try_from(played / MEDIA).unwrap_or(usize::MAX);
        let into = Duration::from_nanos((played % MEDIA) * 1_000_000_000 / MEDIA);
        self.began
            .get(second)
            .map_or(Duration::ZERO, |began| *began + into)
    }
}

/// Reads a whole film of this length, as fast as it comes, into no more memory than a player has.
pub(super) fn read_whole(server: SocketAddr, path: &str, length: u64) -> Result<Times> {
    let began = Instant::now();
    let get = Get {
        server,
        path,
        range: None,
    };
    let mut answer = get.send_patiently(PATIENCE)?;
    answer.expect(200)?;
    let content = Content::of(path);
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    let mut first_byte = None;
    while at < length {
        let count = answer.read_some(&mut buffer)?;
        first_byte.get_or_insert_with(|| began.elapsed());
        content.check(&buffer[..count], at)?;
        at += count as u64;
    }
    let whole = began.elapsed();
    Ok(Times {
        first_byte: first_byte.unwrap_or(whole),
        whole,
    })
}

/// Somebody who reads as fast as the server sends, until it is over; says how much that was.
pub(super) fn read_greedily(film: Film<'_>, is_over: &dyn Fn() -> bool) -> Result<u64> {
    let mut answer = film.open(PATIENCE)?;
    let content = Content::of(film.path);
    let mut buffer = vec![0; READ];
    let mut at = film.start;
    while !is_over() {
        let count = match answer.read_some(&mut buffer) {
            Ok(count) => count,
            // The server has been ended by then.
            Err(_) if is_over() => break,
            Err(error) => return Err(error),
        };
        content.check(&buffer[..count], at)?;
        at += count as u64;
    }
    Ok(at - film.start)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MEDIA, Playhead};

    #[test]
    fn a_full_buffer_is_refilled_as_it_is_played() {
        let mut playhead = Playhead::default();
        assert_eq!(playhead.wants(2 * MEDIA - 1), Duration::ZERO);
        playhead.arrived(Duration::from_millis(100));
        playhead.arrived(Duration::from_millis(200));
        assert_eq!(playhead.wants(2 * MEDIA), Duration::from_millis(100));
        assert_eq!(
            playhead.wants(2 * MEDIA + MEDIA / 2),
            Duration::from_millis(600)
        );
        assert_eq!(playhead.wants(3 * MEDIA), Duration::from_millis(1_100));
    }

    #[test]
    fn a_stalled_player_wants_everything() {
        let mut playhead = Playhead::default();
        playhead.arrived(Duration::from_secs(1));
        playhead.arrived(Duration::from_secs(9));
        assert_eq!(playhead.wants(3 * MEDIA), Duration::from_secs(9));
    }
}
