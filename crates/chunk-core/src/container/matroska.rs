//! Elements of Matroska and WebM (RFC 8794 for their coding, RFC 9559 for their meaning).

use super::piece::Piece;
use super::{Container, MAX_STEPS};

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const SEEK_HEAD: u32 = 0x114D_9B74;
const SEEK: u32 = 0x4DBB;
const SEEK_ID: u32 = 0x53AB;
const SEEK_POSITION: u32 = 0x53AC;
const INFO: u32 = 0x1549_A966;
const TIMESTAMP_SCALE: u32 = 0x002A_D7B1;
const DURATION: u32 = 0x4489;
const CUES: u32 = 0x1C53_BB6B;
const TAGS: u32 = 0x1254_C367;
const CLUSTER: u32 = 0x1F43_B675;
/// Nanoseconds per timestamp unless the file says otherwise (RFC 9559, 5.1.2.9).
const MILLISECOND: u64 = 1_000_000;

/// An element; `end` is `None` where its size is unknown, as in a live recording.
struct Element {
    id: u32,
    body: u64,
    end: Option<u64>,
}

/// Whether a file begins like one.
pub(super) fn is_head(piece: Piece<'_>) -> bool {
    piece.u32_be(0) == Some(EBML)
}

/// Walks over the segment's elements up to the media.
pub(super) fn walk(found: &mut Container, piece: Piece<'_>) {
    let Some(segment) = segment(piece) else {
        return;
    };
    found.base = segment.body;
    let mut at = segment.body;
    for _ in 0..MAX_STEPS {
        let Some(next) = element(piece, at) else {
            break;
        };
        if next.id == CLUSTER {
            break;
        }
        take(found, piece, at, &next);
        let Some(end) = next.end else {
            break;
        };
        at = end;
    }
    // What has been walked over needs no second look, unless it asked for one itself.
    found.likely.retain(|&likely| likely >= at);
    let cut = |start: u64| element(piece, start).is_some_and(|found| found.end > Some(piece.end()));
    found.pending.retain(|&start| start >= at || cut(start));
}

/// Takes in the element at which the piece begins.
pub(super) fn look(found: &mut Container, piece: Piece<'_>) {
    if let Some(element) = element(piece, piece.start()) {
        take(found, piece, piece.start(), &element);
    }
}

fn take(found: &mut Container, piece: Piece<'_>, at: u64, element: &Element) {
    let end = element.end.unwrap_or(piece.end());
    match element.id {
        SEEK_HEAD => each_child(piece, element.body, end, |child| {
            if child.id == SEEK {
                seek(found, piece, child);
            }
        }),
        INFO => match duration(piece, element.body, end) {
            Some(nanos) => found.set_duration(nanos),
            None if end > piece.end() => found.look_at(at),
            None => {}
        },
        CUES | TAGS => {
            if let Some(end) = element.end {
                found.add_index(at, end);
            }
        }
        _ => {}
    }
}

/// One entry of a seek head: something lies somewhere.
fn seek(found: &mut Container, piece: Piece<'_>, entry: &Element) {
    let mut id = None;
    let mut position = None;
    let end = entry.end.unwrap_or(piece.end());
    each_child(piece, entry.body, end, |child| match child.id {
        SEEK_ID => id = value(piece, child),
        SEEK_POSITION => position = value(piece, child),
        _ => {}
    });
    let at = position.and_then(|position| found.base.checked_add(position));
    let (Some(id), Some(at)) = (id.and_then(|id| u32::try_from(id).ok()), at) else {
        return;
    };
    if matches!(id, CUES | TAGS) {
        found.add_likely(at);
    }
    if matches!(id, CUES | SEEK_HEAD | INFO) {
        found.look_at(at);
    }
}

/// In nanoseconds.
fn duration(piece: Piece<'_>, start: u64, end: u64) -> Option<u128> {
    let mut scale = MILLISECOND;
    let mut units = None;
    each_child(piece, start, end, |child| match child.id {
        TIMESTAMP_SCALE => scale = value(piece, child).unwrap_or(scale),
        DURATION => units = float(piece, child),
        _ => {}
    });
    let (mantissa, exponent) = units?;
    let product = u128::from(mantissa).checked_mul(u128::from(scale))?;
    if exponent < 0 {
        product.checked_shr(exponent.unsigned_abs())
    } else {
        let fits = exponent.unsigned_abs() < product.leading_zeros();
        fits.then(|| product << exponent)
    }
}

/// A positive float as mantissa and binary exponent, by the fields of IEEE 754: there is no float arithmetic
/// in this crate.
fn float(piece: Piece<'_>, element: &Element) -> Option<(u64, i32)> {
    let len = element.end?.checked_sub(element.body)?;
    let bits = value(piece, element)?;
    let (fraction_bits, exponent_bits, bias) = match len {
        4 => (23, 8, 127),
        8 => (52, 11, 1023),
        _ => return None,
    };
    let fraction = bits & ((1 << fraction_bits) - 1);
    let exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    let is_negative = bits >> (fraction_bits + exponent_bits) != 0;
    // Neither subnormal, which is no duration, nor infinite, nor not a number.
    if is_negative || exponent == 0 || exponent == (1 << exponent_bits) - 1 {
        return None;
    }
    let exponent = i32::try_from(exponent).ok()? - bias - fraction_bits;
    Some((fraction | (1 << fraction_bits), exponent))
}

fn value(piece: Piece<'_>, element: &Element) -> Option<u64> {
    piece.uint_be(element.body, element.end?.checked_sub(element.body)?)
}

fn segment(piece: Piece<'_>) -> Option<Element> {
    let mut at = element(piece, 0)?.end?;
    for _ in 0..MAX_STEPS {
        let next = element(piece, at)?;
        if next.id == SEGMENT {
            return Some(next);
        }
        at = next.end?;
    }
    None
}

fn each_child(piece: Piece<'_>, start: u64, end: u64, mut visit: impl FnMut(&Element)) {
    let mut at = start;
    for _ in 0..MAX_STEPS {
        if at >= end {
            return;
        }
        let Some(child) = element(piece, at) else {
            return;
        };
        visit(&child);
        let Some(next) = child.end else {
            return;
        };
        at = next;
    }
}

/// The element at `at`; `None` where its header is not there or makes no sense.
fn element(piece: Piece<'_>, at: u64) -> Option<Element> {
    let id_len = u64::from(piece.byte(at)?.leading_zeros()) + 1;
    if id_len > 4 {
        return None;
    }
    let id = u32::try_from(piece.uint_be(at, id_len)?).ok()?;
    let size_at = at.checked_add(id_len)?;
    let size_len = piece.byte(size_at)?.leading_zeros() + 1;
    if size_len > 8 {
        return None;
    }
    // Seven bits of each byte count; all of them set say that the size is unknown.
    let all_ones = (1_u64 << (7 * size_len)) - 1;
    let size = piece.uint_be(size_at, size_len.into())? & all_ones;
    let body = size_at.checked_add(size_len.into())?;
    let end = if size == all_ones {
        None
    } else {
        Some(body.checked_add(size)?)
    };
    Some(Element { id, body, end })
}
