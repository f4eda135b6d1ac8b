//! Boxes of ISO base media and QuickTime (ISO/IEC 14496-12, 4.2).

use super::piece::Piece;
use super::{Container, MAX_STEPS};

/// A box: `body` follows its header, `end` is where the next one begins.
struct Box {
    code: [u8; 4],
    body: u64,
    end: u64,
}

/// Whether a file begins like one. QuickTime files may begin without a `ftyp`.
pub(super) fn is_head(piece: Piece<'_>) -> bool {
    matches!(
        piece.code(4).as_ref(),
        Some(b"ftyp" | b"moov" | b"mdat" | b"wide" | b"free" | b"skip" | b"pnot")
    )
}

/// Walks from where the piece begins until the `moov` has been found.
pub(super) fn walk(found: &mut Container, piece: Piece<'_>) {
    let mut at = piece.start();
    for _ in 0..MAX_STEPS {
        let Some(next) = header(piece, at, found.total_len) else {
            if at >= piece.end().saturating_sub(16) {
                // Not seen yet. What is neither media nor free space is the index: nothing else is there.
                found.add_likely(at);
                found.look_at(at);
            }
            return;
        };
        if &next.code == b"moov" {
            found.add_index(at, next.end);
            match duration(piece, &next) {
                Some(nanos) => found.set_duration(nanos),
                None if next.end > piece.end() => found.look_at(at),
                None => {}
            }
            return;
        }
        at = next.end;
    }
}

/// The box at `at`, cut off at `limit`; `None` where its header is not there or makes no sense.
fn header(piece: Piece<'_>, at: u64, limit: u64) -> Option<Box> {
    let code = piece.code(at.checked_add(4)?)?;
    let (head, len) = match piece.u32_be(at)? {
        // To the end of the file.
        0 => (8, u64::MAX),
        1 => (16, piece.u64_be(at.checked_add(8)?)?),
        len => (8, u64::from(len)),
    };
    let end = at.saturating_add(len).min(limit);
    (len >= head).then_some(Box {
        code,
        body: at.saturating_add(head),
        end,
    })
}

/// The first child with this code.
fn child(piece: Piece<'_>, parent: &Box, code: &[u8; 4]) -> Option<Box> {
    let mut at = parent.body;
    for _ in 0..MAX_STEPS {
        if at >= parent.end {
            return None;
        }
        let next = header(piece, at, parent.end)?;
        if &next.code == code {
            return Some(next);
        }
        at = next.end;
    }
    None
}

/// In nanoseconds. A file in fragments has 0 in its `mvhd` and the truth, if anywhere, in its `mehd`.
fn duration(piece: Piece<'_>, movie: &Box) -> Option<u128> {
    let header = child(piece, movie, b"mvhd")?;
    let (timescale, mut units) = if piece.byte(header.body)? == 1 {
        (
            piece.u32_be(header.body + 20)?,
            piece.u64_be(header.body + 24)?,
        )
    } else {
        let units = piece.u32_be(header.body + 16)?;
        let units = if units == u32::MAX { 0 } else { units.into() };
        (piece.u32_be(header.body + 12)?, units)
    };
    if units == 0 || units == u64::MAX {
        let extends = child(piece, movie, b"mvex")?;
        let whole = child(piece, &extends, b"mehd")?;
        units = match piece.byte(whole.body)? {
            1 => piece.u64_be(whole.body + 4)?,
            _ => piece.u32_be(whole.body + 4)?.into(),
        };
    }
    u128::from(units)
        .checked_mul(1_000_000_000)?
        .checked_div(timescale.into())
}
