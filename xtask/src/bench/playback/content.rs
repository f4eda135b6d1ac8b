//! What the origin's objects consist of: a function of the object and the offset, so that any part can be checked.

use std::sync::OnceLock;

use anyhow::{Result, bail};

use super::super::origin::fill;

/// Content repeats after this many bytes: no power of two and no multiple of a block or a chunk, so that bytes that a
/// cache puts into the wrong place differ from those that belong there.
const PERIOD: usize = (4 << 20) + 4_099;

/// One object's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    shift: u64,
}

impl Content {
    /// The content of what is served at a path.
    pub(super) fn of(path: &str) -> Self {
        // FNV-1a, which is enough to tell films apart.
        let shift = path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self {
            shift: shift % PERIOD as u64,
        }
    }

    /// Some of the bytes from an offset on, at most so many and at least one of them.
    pub(super) fn from(self, offset: u64, most: usize) -> &'static [u8] {
        static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
        let pattern = PATTERN.get_or_init(|| {
            let mut bytes = vec![0; PERIOD];
            fill(&mut bytes, 0);
            bytes
        });
        let begin = ((offset + self.shift) % PERIOD as u64) as usize;
        &pattern[begin..PERIOD.min(begin + most)]
    }

    /// Fails unless the bytes are those from an offset on.
    pub(super) fn check(self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        while !bytes.is_empty() {
            let expected = self.from(offset, bytes.len());
            let (part, rest) = bytes.split_at(expected.len());
            if part != expected {
                bail!(
                    "wrong bytes between {offset} and {}",
                    offset + part.len() as u64
                );
            }
            offset += part.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, PERIOD};

    #[test]
    fn one_wrong_byte_is_seen_wherever_it_is() {
        let content = Content::of("/a.mp4");
        let mut bytes = Vec::new();
        let start = PERIOD as u64 - 100;
        while bytes.len() < 300 {
            let more = content.from(start + bytes.len() as u64, 300 - bytes.len());
            bytes.extend_from_slice(more);
        }
        assert!(content.check(&bytes, start).is_ok());
        for at in [0, 99, 150, 299] {
            bytes[at] ^= 1;
            assert!(content.check(&bytes, start).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
        assert!(content.check(&bytes, start + 1).is_err());
    }

    #[test]
    fn films_differ() {
        let a = Content::of("/a.mp4").from(0, 64);
        assert!(Content::of("/b.mp4").check(a, 0).is_err());
    }
}
