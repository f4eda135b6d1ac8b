//! `multipart/byteranges` (RFC 9110, 14.6): the answer to several ranges.

use std::hash::{BuildHasher as _, RandomState};

use bytes::Bytes;
use chunk_core::ByteRange;

/// The parts of one answer, framed, with the exact length of the whole known before a byte is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Multipart {
    boundary: String,
    parts: Vec<Part>,
    len: u64,
}

/// One range with the lines that stand before its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) head: Bytes,
    pub(crate) range: ByteRange,
}

impl Multipart {
    /// `ranges` of a file of `total_len` bytes, in their order. `None` where the length does not fit 64 bits.
    pub(crate) fn new(
        ranges: &[ByteRange],
        total_len: u64,
        content_type: Option<&str>,
        boundary: String,
    ) -> Option<Self> {
        let mut len = 0u64;
        let mut parts = Vec::with_capacity(ranges.len());
        for &range in ranges {
            let head = part_head(range, total_len, content_type, &boundary, parts.is_empty());
            len = len
                .checked_add(head.len() as u64)?
                .checked_add(range.len())?;
            parts.push(Part { head, range });
        }
        let mut made = Self {
            boundary,
            parts,
            len,
        };
        made.len = len.checked_add(made.closing().len() as u64)?;
        Some(made)
    }

    /// The value of `Content-Type`.
    pub(crate) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The exact length of the body.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What stands after the last part.
    pub(crate) fn closing(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.boundary).into()
    }
}

/// The value of `Content-Range` for one range (RFC 9110, 14.4).
pub(crate) fn content_range(range: ByteRange, total_len: u64) -> String {
    format!("bytes {}-{}/{total_len}", range.start(), range.last())
}

/// The value of `Content-Range` in a 416.
pub(crate) fn unsatisfied_range(total_len: Option<u64>) -> Option<String> {
    total_len.map(|total_len| format!("bytes */{total_len}"))
}

/// A boundary that the content cannot be made to hold: 128 random bits.
pub(crate) fn random_boundary() -> String {
    // `RandomState` has keys that nobody outside the process knows; the counter inside it makes each new one different.
    let word = || RandomState::new().hash_one(0u8);
    format!("chunkd-{:016x}{:016x}", word(), word())
}

fn part_head(
    range: ByteRange,
    total_len: u64,
    content_type: Option<&str>,
    boundary: &str,
    first: bool,
) -> Bytes {
    let mut head = String::new();
    if !first {
        head.push_str("\r\n");
    }
    head.push_str("--");
    head.push_str(boundary);
    head.push_str("\r\n");
    if let Some(content_type) = content_type {
        head.push_str("Content-Type: ");
        head.push_str(content_type);
        head.push_str("\r\n");
    }
    head.push_str("Content-Range: ");
    head.push_str(&content_range(range, total_len));
    head.push_str("\r\n\r\n");
    head.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    fn body(multipart: &Multipart, file: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in multipart.parts() {
            out.extend_from_slice(&part.head);
            let (start, end) = (part.range.start() as usize, part.range.end() as usize);
            out.extend_from_slice(&file[start..end]);
        }
        out.extend_from_slice(&multipart.closing());
        out
    }

    #[test]
    fn the_body_is_framed_as_the_rfc_shows() {
        let multipart = Multipart::new(
            &[range(4, 6), range(0, 1)],
            10,
            Some("video/mp4"),
            "B".into(),
        )
        .unwrap();
        let expected = "--B\r\nContent-Type: video/mp4\r\nContent-Range: bytes 4-5/10\r\n\r\n45\
            \r\n--B\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n--B--\r\n";
        assert_eq!(body(&multipart, b"0123456789"), expected.as_bytes());
        assert_eq!(multipart.len(), expected.len() as u64);
        assert_eq!(multipart.content_type(), "multipart/byteranges; boundary=B");
    }

    #[test]
    fn a_length_beyond_64_bits_is_refused() {
        assert_eq!(
            Multipart::new(&[range(0, u64::MAX)], u64::MAX, None, "B".into()),
            None
        );
    }

    #[test]
    fn boundaries_differ() {
        assert_ne!(random_boundary(), random_boundary());
    }

    proptest! {
        #[test]
        fn the_length_is_exact(
            starts in proptest::collection::vec((0u64..90, 1u64..10), 1..=8),
            typed: bool,
        ) {
            let ranges: Vec<_> = starts.iter().map(|&(start, len)| range(start, start + len)).collect();
            let multipart =
                Multipart::new(&ranges, 100, typed.then_some("video/webm"), random_boundary()).unwrap();
            prop_assert_eq!(body(&multipart, &[7; 100]).len() as u64, multipart.len());
        }
    }
}
