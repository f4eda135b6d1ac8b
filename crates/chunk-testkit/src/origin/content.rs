//! Content that is a function of its place, so that any byte can be checked without a copy of the file.

use std::fmt;

/// The byte at `offset` of version `version` of the object named `object`.
#[must_use]
pub fn content_byte(object: &str, version: u64, offset: u64) -> u8 {
    let word = word(seed(object, version), offset / 8);
    word.to_le_bytes()[(offset % 8) as usize]
}

/// Fills `out` with the object's bytes from `offset` on.
pub fn fill_content(object: &str, version: u64, offset: u64, out: &mut [u8]) {
    let seed = seed(object, version);
    let skip = (offset % 8) as usize;
    let mut index = offset / 8;
    let mut out = out;
    if skip != 0 {
        let take = out.len().min(8 - skip);
        let (head, rest) = out.split_at_mut(take);
        head.copy_from_slice(&word(seed, index).to_le_bytes()[skip..skip + take]);
        out = rest;
        index += 1;
    }
    for piece in out.chunks_mut(8) {
        piece.copy_from_slice(&word(seed, index).to_le_bytes()[..piece.len()]);
        index = index.wrapping_add(1);
    }
}

/// The `len` bytes of the object from `offset` on.
#[must_use]
pub fn content(object: &str, version: u64, offset: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    fill_content(object, version, offset, &mut out);
    out
}

/// Checks that `data` is what the object holds from `offset` on.
///
/// # Errors
/// The first byte that differs.
pub fn verify_content(
    object: &str,
    version: u64,
    offset: u64,
    data: &[u8],
) -> Result<(), ContentMismatch> {
    let expected = content(object, version, offset, data.len());
    match expected.iter().zip(data).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(ContentMismatch {
            offset: offset + at as u64,
            expected: expected[at],
            found: data[at],
        }),
    }
}

/// The first wrong byte that [`verify_content`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContentMismatch {
    /// Where in the object.
    pub offset: u64,
    /// What should be there.
    pub expected: u8,
    /// What was there.
    pub found: u8,
}

impl fmt::Display for ContentMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            offset,
            expected,
            found,
        } = self;
        write!(
            f,
            "byte {offset} is {found:#04x} instead of {expected:#04x}"
        )
    }
}

impl std::error::Error for ContentMismatch {}

/// FNV-1a over the name, then the version mixed in.
fn seed(object: &str, version: u64) -> u64 {
    let name = object
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    mix(name ^ mix(version.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// Eight bytes at once: one multiplication chain per eight bytes keeps an unoptimised origin fast enough.
fn word(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The finaliser of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_agrees_with_the_single_byte_at_any_alignment() {
        for offset in 0..20 {
            for len in 0..30 {
                let filled = content("a", 1, offset, len);
                for (i, byte) in filled.iter().enumerate() {
                    assert_eq!(*byte, content_byte("a", 1, offset + i as u64));
                }
            }
        }
    }

    #[test]
    fn verify_names_the_first_wrong_byte() {
        let mut data = content("a", 1, 100, 50);
        assert_eq!(verify_content("a", 1, 100, &data), Ok(()));
        assert!(verify_content("a", 2, 100, &data).is_err());
        assert!(verify_content("b", 1, 100, &data).is_err());
        data[7] ^= 1;
        assert_eq!(verify_content("a", 1, 100, &data).unwrap_err().offset, 107);
    }
}
