//! What a client says of how it is going to read: its film's rate, by a switch in the query, and how little it minds
//! waiting, by the `Priority` field of RFC 9218.
//!
//! Both are for whoever knows more than reading shows. They change when bytes come, and never which.

use chunk_core::units::{Rate, UnitError};
use http::{HeaderMap, HeaderName};

use crate::structured::{self, Item};

/// The switch. It begins with the program's name, so that no origin has one of that name, and it is left out of what
/// the origin is asked for and of a file's identity.
pub(crate) const RATE_SWITCH: &str = "chunkd-rate";

/// Why a switch in a query tells no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRate {
    /// Its value is no rate.
    #[error("{RATE_SWITCH}: {0}")]
    Unreadable(#[from] UnitError),
    /// Its value is zero.
    #[error("{RATE_SWITCH}: a film that plays has a rate; say for example 8Mbit/s")]
    Nothing,
    /// It stands there more than once.
    #[error("{RATE_SWITCH} stands twice; say it once")]
    Twice,
}

/// What a player asked for, without what it told the proxy in the query: what its origin is asked for, and what the
/// file is known by.
///
/// # Errors
/// A switch that would be refused a player.
pub fn plain_target(target: String) -> Result<String, BadRate> {
    take_rate(target).map(|(plain, _)| plain)
}

/// Takes the switch out of a target; gives back what is left, byte for byte, and the bytes a second it told.
pub(crate) fn take_rate(target: String) -> Result<(String, Option<u64>), BadRate> {
    let Some((path, query)) = target.split_once('?') else {
        return Ok((target, None));
    };
    let value_of = |pair| {
        let (name, value) = str::split_once(pair, '=').unwrap_or((pair, ""));
        (name == RATE_SWITCH).then_some(value)
    };
    let mut told = None;
    for value in query.split('&').filter_map(value_of) {
        if told.is_some() {
            return Err(BadRate::Twice);
        }
        let rate: Rate = unescaped(value).parse()?;
        if rate.bytes_per_second() == 0 {
            return Err(BadRate::Nothing);
        }
        told = Some(rate.bytes_per_second());
    }
    if told.is_none() {
        return Ok((target, None));
    }
    let others: Vec<&str> = query
        .split('&')
        .filter(|pair| value_of(pair).is_none())
        .collect();
    let left = if others.iter().all(|pair| pair.is_empty()) {
        path.to_owned()
    } else {
        format!("{path}?{}", others.join("&"))
    };
    Ok((left, told))
}

/// A value as a form writes it, in plain text; what is escaped wrongly stays as it is.
fn unescaped(value: &str) -> String {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        rest = after;
        match byte {
            b'+' => plain.push(b' '),
            b'%' => match digit(0).zip(digit(1)) {
                Some((high, low)) => {
                    plain.push(u8::try_from(high * 16 + low).unwrap_or(byte));
                    rest = &after[2..];
                }
                None => plain.push(byte),
            },
            _ => plain.push(byte),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Whether the client lets all others go first, as `Priority: u=6` and `u=7` say.
///
/// The field has seven levels below that, and browsers use the first six for what is on the screen: 1 for whatever a
/// script fetches, 4 and 5 for pictures, films and what may be wanted next. They tell nothing of who runs dry first, so
/// all of these are one, and deadlines decide. Whether it may come in turns with others (`i`) makes no difference, since
/// every answer is sent as its bytes come.
pub(crate) fn is_background(headers: &HeaderMap) -> bool {
    const PRIORITY: HeaderName = HeaderName::from_static("priority");
    const LAST: i64 = 7;
    const FIRST: i64 = 6;
    let mut lines = headers.get_all(PRIORITY).iter().peekable();
    if lines.peek().is_none() {
        return false;
    }
    let lines: Vec<&[u8]> = lines.map(http::HeaderValue::as_bytes).collect();
    // A value that is no dictionary counts as none (RFC 9218, 4), as does a member of another type or out of bounds.
    let urgency = structured::member(&lines.join(b", ".as_slice()), "u");
    matches!(urgency, Some(Item::Integer(FIRST..=LAST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(target: &str) -> Result<(String, Option<u64>), String> {
        take_rate(target.to_owned()).map_err(|reason| reason.to_string())
    }

    #[test]
    fn the_switch_is_taken_out_and_the_rest_stays_as_it_was() {
        for (target, left) in [
            ("/a.mkv?chunkd-rate=8Mbit/s", "/a.mkv"),
            ("/a.mkv?&chunkd-rate=8Mbit/s", "/a.mkv"),
            (
                "/a.mkv?x=1&chunkd-rate=8Mbit%2fs&y=%2F+",
                "/a.mkv?x=1&y=%2F+",
            ),
            ("/a.mkv?chunkd-rate=8+Mbit/s&&x", "/a.mkv?&x"),
            ("/a.mkv?x&chunkd-rate=1%20MB/s", "/a.mkv?x"),
        ] {
            assert_eq!(
                take(target),
                Ok((left.to_owned(), Some(1_000_000))),
                "{target}"
            );
        }
        for target in [
            "/chunkd-rate=1",
            "/a?xchunkd-rate=1",
            "/a?Chunkd-Rate=1",
            "/a?",
            "/a?x=chunkd-rate",
        ] {
            assert_eq!(take(target), Ok((target.to_owned(), None)));
        }
    }

    #[test]
    fn a_switch_that_tells_no_rate_is_told_what_would_be_right() {
        for (value, reason) in [
            ("=8", "chunkd-rate: 8 has no unit: say 8Mbit/s"),
            (
                "=8mbit",
                "chunkd-rate: `mbit` is no unit of rate: say 8Mbit/s",
            ),
            (
                "",
                "chunkd-rate: nothing is given; say for example 20Mbit/s",
            ),
            (
                "=%zz",
                "chunkd-rate: `%zz` does not begin with a number; say for example 20Mbit/s",
            ),
            (
                "=7bit/s",
                "chunkd-rate: a film that plays has a rate; say for example 8Mbit/s",
            ),
            (
                "=1MB/s&x&chunkd-rate=1MB/s",
                "chunkd-rate stands twice; say it once",
            ),
        ] {
            assert_eq!(
                take(&format!("/a?chunkd-rate{value}")),
                Err(reason.to_owned())
            );
        }
    }

    #[test]
    fn only_the_last_two_urgencies_are_the_background() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("priority", value.parse().unwrap());
            }
            is_background(&headers)
        };
        for value in [
            "u=7",
            "u=6, i",
            "i, u=7",
            "u=7;x=1, y=(1 2)",
            "u=2, u=7",
            "x=\"a, u=1\",u=6",
        ] {
            assert!(of(&[value]), "{value}");
        }
        for value in [
            "", "u=5", "u=0", "i", "u", "u=8", "u=-7", "u=7.0", "u=\"7\"", "u=7, u=1", "u=7,",
            "u=7 i", "U=7",
        ] {
            assert!(!of(&[value]), "{value}");
        }
        assert!(of(&["i", "u=7"]) && !of(&["u=7", "u=1"]) && !of(&[]));
    }
}
