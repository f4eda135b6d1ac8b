//! The requests that the origin understands: one range at most.

use std::io::BufRead;

use anyhow::{Context, Result};

/// One request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) is_head: bool,
    /// Without the query.
    pub(super) path: String,
    range: Option<String>,
}

/// Which bytes a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    /// A half-open span.
    Part {
        start: u64,
        end: u64,
    },
    /// A range that cannot be satisfied.
    Nothing,
}

impl Request {
    /// The next request of a connection; `None` when the client is done.
    pub(super) fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
        let mut request: Option<Self> = None;
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            match (&mut request, line.is_empty()) {
                // Empty lines before a request are ignored (RFC 9112, 2.2).
                (None, true) => {}
                (Some(_), true) => return Ok(request),
                (None, false) => {
                    let mut words = line.split(' ');
                    let method = words.next().unwrap_or_default();
                    let target = words.next().context("a request without a target")?;
                    request = Some(Self {
                        is_head: method == "HEAD",
                        path: target.split('?').next().unwrap_or_default().to_owned(),
                        range: None,
                    });
                }
                (Some(request), false) => {
                    if let Some((name, value)) = line.split_once(':')
                        && name.eq_ignore_ascii_case("range")
                    {
                        request.range = Some(value.trim().to_owned());
                    }
                }
            }
        }
    }

    /// What it asks for of an object of this length.
    pub(super) fn wanted(&self, total: u64) -> Result<Wanted> {
        let Some(range) = &self.range else {
            return Ok(Wanted::Whole);
        };
        parse(range, total).with_context(|| format!("a range that is not understood: {range}"))
    }
}

fn parse(range: &str, total: u64) -> Option<Wanted> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = if first.is_empty() {
        let suffix: u64 = last.parse().ok()?;
        (total.saturating_sub(suffix), total)
    } else if last.is_empty() {
        (first.parse().ok()?, total)
    } else {
        let last: u64 = last.parse().ok()?;
        (first.parse().ok()?, last.saturating_add(1).min(total))
    };
    Some(if start < end {
        Wanted::Part { start, end }
    } else {
        Wanted::Nothing
    })
}

#[cfg(test)]
mod tests {
    use super::{Request, Wanted, parse};

    #[test]
    fn ranges_are_read_as_players_write_them() {
        let part = |start, end| Some(Wanted::Part { start, end });
        assert_eq!(parse("bytes=0-0", 10), part(0, 1));
        assert_eq!(parse("bytes=4-", 10), part(4, 10));
        assert_eq!(parse("bytes=-3", 10), part(7, 10));
        assert_eq!(parse("bytes=-99", 10), part(0, 10));
        assert_eq!(parse("bytes=4-99", 10), part(4, 10));
        assert_eq!(parse("bytes=10-", 10), Some(Wanted::Nothing));
        assert_eq!(parse("bytes=-0", 10), Some(Wanted::Nothing));
        assert_eq!(parse("lines=1-2", 10), None);
    }

    #[test]
    fn requests_follow_each_other() {
        let mut text: &[u8] =
            b"GET /a?b=c HTTP/1.1\r\nRANGE: bytes=1-2\r\n\r\nHEAD /d HTTP/1.1\r\n\r\n";
        let first = Request::read(&mut text).expect("well formed").expect("one");
        assert_eq!((first.path.as_str(), first.is_head), ("/a", false));
        assert_eq!(
            first.wanted(10).expect("a range"),
            Wanted::Part { start: 1, end: 3 }
        );
        let second = Request::read(&mut text).expect("well formed").expect("two");
        assert_eq!((second.path.as_str(), second.is_head), ("/d", true));
        assert_eq!(second.wanted(10).expect("no range"), Wanted::Whole);
        assert_eq!(Request::read(&mut text).expect("the end"), None);
    }
}
