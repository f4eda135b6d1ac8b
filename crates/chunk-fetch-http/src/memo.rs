//! Where redirects led lately.
//!
//! A player asks for many ranges of one file, and an origin that redirects would cost each of them a round
//! trip more. Only continuations use a memo: they are checked against a known version, while any other
//! question is one to the stable URL. It is in memory only, because redirects carry signatures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

/// How long a redirect is remembered at most, whatever it says: many a signature lasts no longer.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// How many are remembered.
const MOST: usize = 256;

/// A place to ask.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) url: Url,
    /// The query as whoever made the URL wrote it, because it may be signed: the URL's own has `%27` for `'`.
    pub(crate) query: Option<String>,
    /// Whether somewhere else than the origin has had a say in the URL.
    pub(crate) left_origin: bool,
}

impl Place {
    /// The stable URL, written as `text`.
    pub(crate) fn stable(url: Url, text: &str) -> Self {
        Self {
            url,
            query: query_of(text),
            left_origin: false,
        }
    }

    /// Takes `url`, which `location` names seen from here.
    pub(crate) fn redirect(&mut self, url: Url, location: &str) {
        // A reference without anything before its fragment is the same document (RFC 3986, 4.4).
        if !location.split('#').next().unwrap_or_default().is_empty() {
            self.query = query_of(location);
        }
        self.url = url;
    }

    /// What the request line asks for.
    pub(crate) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }
}

/// The query of a URL or reference, but for what no request line can hold.
fn query_of(text: &str) -> Option<String> {
    let (_, query) = text.split('#').next()?.split_once('?')?;
    let mut written = String::with_capacity(query.len());
    for byte in query.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>".contains(&byte) {
            written.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(written, "%{byte:02X}");
        }
    }
    Some(written)
}

/// Whose redirect: what the origin was asked for, and with which credentials.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
}

/// Places that redirects led to, each for a while.
#[derive(Default)]
pub(crate) struct Memo {
    places: Mutex<BTreeMap<Asked, (Instant, Place)>>,
}

impl Memo {
    pub(crate) fn recall(&self, asked: &Asked) -> Option<Place> {
        let mut places = self.lock();
        let (until, place) = places.get(asked)?;
        if *until > Instant::now() {
            return Some(place.clone());
        }
        places.remove(asked);
        None
    }

    pub(crate) fn remember(&self, asked: Asked, place: Place, lifetime: Duration) {
        if lifetime.is_zero() {
            return;
        }
        let until = Instant::now() + lifetime.min(LONGEST);
        let mut places = self.lock();
        places.insert(asked, (until, place));
        if places.len() > MOST {
            let first = places.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(first) = first.map(|(asked, _)| asked.clone()) {
                places.remove(&first);
            }
        }
    }

    pub(crate) fn forget(&self, asked: &Asked) {
        self.lock().remove(asked);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Asked, (Instant, Place)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(n: usize) -> Asked {
        Asked {
            target: format!("/{n}"),
            authorization: None,
        }
    }

    fn place() -> Place {
        let text = "http://cdn.example/";
        Place::stable(Url::parse(text).unwrap(), text)
    }

    #[test]
    fn a_query_is_asked_for_as_it_was_written() {
        for (text, target) in [
            ("http://h/a'b?q=it's", "/a'b?q=it's"),
            ("http://h/?q=%27&r='", "/?q=%27&r='"),
            ("http://h/?", "/?"),
            ("http://h/?a?b#c?d", "/?a?b"),
            ("http://h/?{|}`^[]\\", "/?{|}`^[]\\"),
            ("http://h/?\"<> ä", "/?%22%3C%3E%20%C3%A4"),
            ("http://h", "/"),
        ] {
            assert_eq!(
                Place::stable(Url::parse(text).unwrap(), text).target(),
                target
            );
        }
        let mut place = place();
        for (location, target) in [
            ("/b?s='", "/b?s='"),
            ("#c", "/b?s='"),
            ("?t='%27", "/b?t='%27"),
            ("d", "/d"),
        ] {
            let url = place.url.join(location).unwrap();
            place.redirect(url, location);
            assert_eq!(place.target(), target, "{location}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn fault12_a_memo_lasts_a_minute_at_most_and_less_where_told() {
        let memo = Memo::default();
        memo.remember(asked(1), place(), Duration::from_secs(3600));
        memo.remember(asked(2), place(), Duration::from_secs(5));
        memo.remember(asked(3), place(), Duration::ZERO);
        let known = || [1, 2, 3].map(|n| memo.recall(&asked(n)).is_some());
        assert_eq!(known(), [true, true, false]);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(known(), [true, false, false]);
        tokio::time::advance(Duration::from_secs(55)).await;
        assert_eq!(known(), [false, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn fault12_a_memo_is_bounded_and_keeps_what_lasts_longest() {
        let memo = Memo::default();
        for n in 0..1000 {
            memo.remember(asked(n), place(), LONGEST);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(memo.lock().len(), MOST);
        assert!(memo.recall(&asked(0)).is_none());
        assert!(memo.recall(&asked(999)).is_some());
    }
}
