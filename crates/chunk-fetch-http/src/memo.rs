//! Where redirects led lately.
//!
//! A player asks for many ranges of one file, and an origin that redirects would cost each of them a round
//! trip more. Only continuations use a memo: they are checked against a known version, while any other
//! question is one to the stable URL. It is in memory only, because redirects carry signatures.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Url;
use tokio::time::Instant;

/// How long a redirect is remembered at most, whatever it says: many a signature lasts no longer.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// How many are remembered.
const MOST: usize = 256;

/// A place to ask.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) url: Url,
    /// Whether somewhere else than the origin has had a say in the URL.
    pub(crate) left_origin: bool,
}

impl Place {
    /// The stable URL.
    pub(crate) const fn stable(url: Url) -> Self {
        Self {
            url,
            left_origin: false,
        }
    }
}

/// Whose redirect: the stable URL, and the credentials it was asked with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub(crate) url: String,
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
            url: format!("http://media.example/{n}"),
            authorization: None,
        }
    }

    fn place() -> Place {
        Place::stable(Url::parse("http://cdn.example/").unwrap())
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
