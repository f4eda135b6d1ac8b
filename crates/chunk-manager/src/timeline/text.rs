//! The timeline as people read it.

use std::fmt;
use std::time::Duration;

use super::{Cause, Delay, Happening, Moment, Part, Timeline, Whereabouts};

impl Happening {
    /// Its name in one word, for scripts.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Awaited { .. } => "awaited",
            Self::PutBack { .. } => "put_back",
            Self::Served { .. } => "served",
            Self::Unserved { .. } => "unserved",
            Self::Requested { .. } => "requested",
            Self::Started { .. } => "started",
            Self::Answered { .. } => "answered",
            Self::FirstByte { .. } => "first_byte",
            Self::Held { .. } => "held",
            Self::Resumed { .. } => "resumed",
            Self::Shortened { .. } => "shortened",
            Self::Stopped { .. } => "stopped",
            Self::MadeRoom { .. } => "made_room",
            Self::Failed { .. } => "failed",
            Self::Finished { .. } => "finished",
            Self::GaveUp { .. } => "gave_up",
            Self::Supplied => "supplied",
            Self::Recorded { .. } => "recorded",
            Self::Forgotten => "forgotten",
            Self::Evicted => "evicted",
            Self::Replaced => "replaced",
        }
    }
}

impl Whereabouts {
    /// Its name in one word, for scripts.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::PastEnd { .. } => "past_end",
            Self::Missing => "missing",
            Self::Queued { .. } => "queued",
            Self::Coming { .. } => "coming",
            Self::InMemory => "in_memory",
            Self::Stored => "stored",
            Self::Recorded => "recorded",
            Self::Verified => "verified",
        }
    }
}

impl Timeline {
    /// Where the byte is, and what keeps it.
    #[must_use]
    pub fn verdict(&self) -> String {
        match &self.why {
            Some(why) => format!("{}; {why}", self.place),
            None => self.place.to_string(),
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Awaited { reader, offset } => {
                write!(f, "reader {reader} waits for byte {offset}")
            }
            Self::PutBack { reader, why, .. } => {
                write!(f, "reader {reader} has to wait: {why}")
            }
            Self::Served {
                reader,
                offset,
                waited,
            } => write!(
                f,
                "reader {reader} has byte {offset} after {}",
                millis(*waited)
            ),
            Self::Unserved {
                reader,
                offset,
                waited,
            } => write!(
                f,
                "reader {reader} waits for byte {offset} no longer, after {} in vain",
                millis(*waited)
            ),
            Self::Requested { range, level } => write!(
                f,
                "bytes {}-{} are requested, {level}",
                range.start(),
                range.last()
            ),
            Self::Started {
                run,
                start,
                end,
                level,
                cause,
                part,
            } => {
                write!(f, "run {run} asks the origin for ")?;
                match (start, end) {
                    (None, _) => f.write_str("the file's last bytes")?,
                    (Some(start), None) => write!(f, "bytes {start}-")?,
                    (Some(start), Some(end)) => {
                        write!(f, "bytes {start}-{}", end.saturating_sub(1))?;
                    }
                }
                write!(f, ", {level}, ")?;
                match cause {
                    Cause::Reader { reader, position } => {
                        write!(f, "for reader {reader} at byte {position}")?;
                    }
                    Cause::Request => f.write_str("as requested")?,
                }
                match part {
                    Part::Main => Ok(()),
                    Part::Stripe => f.write_str(", beside others"),
                    Part::Hedge { late } => write!(f, ", because run {late} is late"),
                }
            }
            Self::Answered { run, after } => {
                write!(f, "run {run} is answered after {}", millis(*after))
            }
            Self::FirstByte { run, after } => {
                write!(f, "run {run} has its first byte after {}", millis(*after))
            }
            Self::Held { run, head, why } => {
                write!(f, "run {run} is held at byte {head}: ")?;
                match why {
                    Some(why) => why.fmt(f),
                    None => f.write_str("far enough ahead"),
                }
            }
            Self::Resumed { run, head } => write!(f, "run {run} reads on from byte {head}"),
            Self::Shortened { run, end, why } => {
                write!(f, "run {run} is to end before byte {end}")?;
                because(f, why.as_deref())
            }
            Self::Stopped { run, head, by, why } => {
                write!(f, "run {run} is stopped at byte {head}")?;
                if let Some((by, level)) = by {
                    write!(f, " as run {by} ({level}) is started")?;
                }
                because(f, why.as_deref())
            }
            Self::MadeRoom { run, by, level } => {
                write!(f, "run {run} has made room for run {by} ({level})")
            }
            Self::Failed {
                run,
                head,
                reason,
                retry_in,
            } => {
                write!(f, "run {run} fails at byte {head}: {reason}")?;
                match retry_in {
                    Some(after) => write!(f, "; tried again in {}", millis(*after)),
                    None => Ok(()),
                }
            }
            Self::Finished { run, head } => write!(f, "run {run} ends at byte {head}"),
            Self::GaveUp { reason } => write!(f, "given up: {reason}"),
            Self::Supplied => f.write_str("the caller brings the bytes itself"),
            Self::Recorded { range } => {
                write!(f, "bytes {}-{} are recorded", range.start(), range.last())
            }
            Self::Forgotten => {
                f.write_str("the bytes are not to be trusted any more and count as missing")
            }
            Self::Evicted => f.write_str("the bytes are removed"),
            Self::Replaced => f.write_str("the origin has another version of the file"),
        }
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("nothing is known of the file"),
            Self::PastEnd { total_len } => write!(f, "the file has only {total_len} bytes"),
            Self::Missing => f.write_str("missing"),
            Self::Queued { level, behind } => {
                write!(f, "missing; requested, {level}, behind {behind} others")
            }
            Self::Coming { run, head, held } => {
                let held = if *held { " and is held there" } else { "" };
                write!(f, "missing; run {run} is at byte {head}{held}")
            }
            Self::InMemory => f.write_str("in memory"),
            Self::Stored => f.write_str("stored, not recorded yet"),
            Self::Recorded => f.write_str("recorded"),
            Self::Verified => f.write_str("recorded and verified"),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", millis(self.at), self.what)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for moment in &self.moments {
            writeln!(f, "{moment}")?;
        }
        if self.expired {
            writeln!(
                f,
                "expired: what happened before {} is forgotten",
                millis(self.remembered_from)
            )?;
        } else if self.moments.is_empty() {
            writeln!(f, "nothing has happened to it since the start")?;
        }
        write!(
            f,
            "byte {} of {}: {}",
            self.offset,
            self.key,
            self.verdict()
        )
    }
}

fn because(f: &mut fmt::Formatter<'_>, why: Option<&Delay>) -> fmt::Result {
    why.map_or(Ok(()), |why| write!(f, ": {why}"))
}

/// Milliseconds with what follows cut off: nobody explains a stall by microseconds.
fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
