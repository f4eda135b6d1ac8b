//! Chunks of AVI: RIFF, little-endian, padded to even lengths.

use super::piece::Piece;
use super::{Container, MAX_STEPS};

/// A chunk; `list` is its type where it is a list, whose children begin at `body`.
struct Chunk {
    code: [u8; 4],
    list: Option<[u8; 4]>,
    body: u64,
    end: u64,
}

/// Whether a file begins like one.
pub(super) fn is_head(piece: Piece<'_>) -> bool {
    piece.code(0).as_ref() == Some(b"RIFF") && piece.code(8).as_ref() == Some(b"AVI ")
}

/// Walks over the first list of the file.
pub(super) fn walk_head(found: &mut Container, piece: Piece<'_>) {
    let Some(riff) = chunk(piece, 0) else {
        return;
    };
    let end = riff.end.min(found.total_len);
    // Where a second list follows, the header counts the frames of the first one only.
    let is_whole = found.total_len - end < super::LOOK;
    let mut at = 12;
    for _ in 0..MAX_STEPS {
        let Some(next) = chunk(piece, at).filter(|next| next.list.as_ref() != Some(b"movi")) else {
            break;
        };
        if next.list.as_ref() == Some(b"hdrl")
            && let Some(nanos) = duration(piece, &next, is_whole)
        {
            found.set_duration(nanos);
        }
        at = next.end;
    }
    from(found, piece, at, end);
}

/// Walks from where the piece begins until the index has been found.
pub(super) fn walk(found: &mut Container, piece: Piece<'_>, end: u64) {
    from(found, piece, piece.start(), end);
}

fn from(found: &mut Container, piece: Piece<'_>, start: u64, end: u64) {
    let mut at = start;
    for _ in 0..MAX_STEPS {
        if at >= end {
            return;
        }
        let Some(next) = chunk(piece, at) else {
            found.add_likely(at);
            found.look_at(at);
            return;
        };
        if &next.code == b"idx1" {
            found.add_index(at, next.end);
            return;
        }
        at = next.end;
    }
}

fn chunk(piece: Piece<'_>, at: u64) -> Option<Chunk> {
    let code = piece.code(at)?;
    let len = u64::from(piece.u32_le(at.checked_add(4)?)?);
    let start = at.checked_add(8)?;
    let list = if matches!(&code, b"LIST" | b"RIFF") {
        Some(piece.code(start)?)
    } else {
        None
    };
    Some(Chunk {
        code,
        list,
        body: start.saturating_add(if list.is_some() { 4 } else { 0 }),
        end: start.saturating_add(len.next_multiple_of(2)),
    })
}

/// In nanoseconds. OpenDML's `dmlh` counts the frames of all lists, `avih` those of the first.
fn duration(piece: Piece<'_>, header: &Chunk, is_whole: bool) -> Option<u128> {
    let main = child(piece, header, |child| &child.code == b"avih")?;
    let micros = piece.u32_le(main.body)?;
    let total = child(piece, header, |child| child.list.as_ref() == Some(b"odml"))
        .and_then(|list| child(piece, &list, |child| &child.code == b"dmlh"))
        .and_then(|extended| piece.u32_le(extended.body));
    let frames = match total {
        Some(frames) => frames,
        None if is_whole => piece.u32_le(main.body + 16)?,
        None => return None,
    };
    u128::from(micros)
        .checked_mul(frames.into())?
        .checked_mul(1_000)
}

fn child(piece: Piece<'_>, parent: &Chunk, is_it: impl Fn(&Chunk) -> bool) -> Option<Chunk> {
    let mut at = parent.body;
    for _ in 0..MAX_STEPS {
        if at >= parent.end {
            return None;
        }
        let next = chunk(piece, at)?;
        if is_it(&next) {
            return Some(next);
        }
        at = next.end;
    }
    None
}
